import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cacheDir } from "./programs/cache.ts";
import { type Child, type Exit, type Output, startChild } from "./programs/child.ts";
import { untilReady } from "./programs/server.ts";

/** The folder of this clone. */
export const ROOT = fileURLToPath(new URL("../../..", import.meta.url));

/** One of our services as a process of its own, as it runs in a cluster. */
export type Service = {
  name: string;
  /** Of the process that runs now; another one after `restart`. */
  readonly pid: number;
  /** `http://127.0.0.1:<port>` */
  url: string;
  /** SIGTERM, and SIGKILL after 15 s; returns when it is gone. */
  stop(): Promise<void>;
  /** Sends a signal (SIGKILL where none is named) and waits for the end where the signal means one. */
  kill(signal?: NodeJS.Signals): Promise<void>;
  /** Starts it again, on the same port; returns when it is ready. Stops it first where it runs. */
  restart(): Promise<void>;
  /** How the process that runs now ends. */
  readonly exited: Promise<Exit>;
  running(): boolean;
  /** The last lines that it wrote. */
  tail(): Promise<string[]>;
};

export type ServiceOptions = Output & {
  name: string;
  /** What docs/architecture.md says for this service, without PORT. The process sees nothing else but PATH and the like. */
  env: Record<string, string>;
  port: number;
  /** Aborted: no longer waits until the service is ready, but stops it and throws. */
  signal?: AbortSignal;
};

/**
 * A small young generation, because a request's garbage dies young anyway, and an old one that is cleared when it has grown by
 * two fifths: V8's own measures keep tens of MiB per process for nothing. The images have the same flags.
 */
const FLAGS = ["--max-semi-space-size=8", "--heap-growing-percent=40", "--disable-warning=ExperimentalWarning"];
/** glibc would let each of a process' dozen threads keep what it once held. The images have the same. */
const MEMORY = { MALLOC_ARENA_MAX: "2" };
/** What Node makes of our TypeScript is kept: a service starts in half the time and without the memory of the compiler. */
const COMPILED = { NODE_COMPILE_CACHE: join(cacheDir(), "compiled") };
const READY_MS = 60_000;
const STOP_MS = 15_000;

/** Migrates the service's database, starts the service and returns when it is ready. Throws with its last lines where it does not get there. */
export async function startService(options: ServiceOptions): Promise<Service> {
  const { name, port } = options;
  if (options.env.MIGRATION_DATABASE_URL !== undefined) await migrate(options);
  const url = `http://127.0.0.1:${port}`;
  // A service never has the owner's rights: the address of the owner role stays with the migration.
  const { MIGRATION_DATABASE_URL: _, ...env } = options.env;
  let child: Child;
  const start = async () => {
    child = await startChild({
      ...{ name, logFile: options.logFile, onLog: options.onLog, cwd: ROOT },
      command: process.execPath,
      args: [...FLAGS, join("services", name, "src", "main.ts")],
      env: { ...inherited(), ...MEMORY, ...COMPILED, ...env, PORT: String(port) },
    });
    const server = { running: child.running, tail: async () => child.tail() };
    try {
      await untilReady(name, server, () => ready(url), READY_MS, options.signal);
    } catch (error) {
      await child.stop(0);
      throw error;
    }
  };
  const stop = () => child.stop(STOP_MS);
  await start();
  return {
    name,
    url,
    get pid() {
      return child.pid;
    },
    get exited() {
      return child.exited;
    },
    stop,
    async kill(signal = "SIGKILL") {
      child.signal(signal);
      if (signal !== "SIGSTOP" && signal !== "SIGCONT") await child.exited;
    },
    async restart() {
      await stop();
      await start();
    },
    running: () => child.running(),
    tail: async () => child.tail(),
  };
}

/** Runs the service's migrations with the owner role (`MIGRATION_DATABASE_URL` in `env`). */
export async function migrate({ name, env, logFile, onLog }: Omit<ServiceOptions, "port">): Promise<void> {
  const child = await startChild({
    ...{ name: `${name} migrations`, logFile, onLog, cwd: ROOT },
    command: process.execPath,
    args: [...FLAGS, join("services", name, "src", "commands", "migrate.ts")],
    env: { ...inherited(), ...COMPILED, ...env },
  });
  const { code, signal } = await child.exited;
  if (code === 0) return;
  throw new Error([`the migrations of ${name} failed (${signal ?? `exit code ${code}`}); their last lines:`, ...child.tail()].join("\n"));
}

async function ready(url: string): Promise<void> {
  const answer = await fetch(`${url}/health/ready`, { signal: AbortSignal.timeout(2_000) });
  const text = await answer.text();
  if (answer.status !== 200) throw new Error(`/health/ready answered ${answer.status}: ${text.slice(0, 200)}`);
}

/** What every program expects to find. Not all of our environment: a DATABASE_URL of the shell must not reach a service by accident. */
function inherited(): Record<string, string> {
  const names = ["PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "NODE_OPTIONS", "SYSTEMROOT"];
  return Object.fromEntries(names.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name] as string]])));
}
