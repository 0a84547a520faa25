import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cacheDir } from "./programs/cache.ts";
import { type Child, type Exit, type Output, startChild } from "./programs/child.ts";
import { untilReady } from "./programs/server.ts";

/** The root folder of this clone. */
export const ROOT = fileURLToPath(new URL("../../..", import.meta.url));

/** One of our services in its own process, as in a cluster. */
export type Service = {
  name: string;
  /** The pid of the current process. `restart` changes it. */
  readonly pid: number;
  /** `http://127.0.0.1:<port>` */
  url: string;
  /** Sends SIGTERM, and SIGKILL after 15 s. Returns when the process has ended. */
  stop(): Promise<void>;
  /** Sends a signal, by default SIGKILL. Waits for the end of the process unless the signal is SIGSTOP or SIGCONT. */
  kill(signal?: NodeJS.Signals): Promise<void>;
  /** Stops the service if it runs and starts it again on the same port. Returns when it is ready. */
  restart(): Promise<void>;
  /** Resolves when the current process ends. */
  readonly exited: Promise<Exit>;
  running(): boolean;
  /** The last lines of its output. */
  tail(): Promise<string[]>;
};

export type ServiceOptions = Output & {
  name: string;
  /** The service's variables (docs/configuration.md) except PORT. Of our environment it only gets PATH and the like. */
  env: Record<string, string>;
  port: number;
  /** An abort stops the service and throws if the service is not ready yet. */
  signal?: AbortSignal;
};

/**
 * Memory flags of V8, the same as in the images: V8's defaults keep tens of MiB per process for nothing. The young
 * generation is small, because a request's garbage dies young anyway. The old generation is collected when it has grown
 * by two fifths.
 */
const FLAGS = ["--max-semi-space-size=8", "--heap-growing-percent=40", "--disable-warning=ExperimentalWarning"];
/** The same as in the images. By default each of the dozen threads of a process keeps the memory that it once used. */
const MEMORY = { MALLOC_ARENA_MAX: "2" };
/** Keeps compiled TypeScript, so that a service starts in half the time and without the compiler's memory. */
const COMPILED = { NODE_COMPILE_CACHE: join(cacheDir(), "compiled") };
const READY_MS = 60_000;
const STOP_MS = 15_000;

/**
 * Migrates the service's database, starts the service and returns when it is ready. Throws with its last lines if it
 * does not get ready.
 */
export async function startService(options: ServiceOptions): Promise<Service> {
  const { name, port } = options;
  if (options.env.MIGRATION_DATABASE_URL !== undefined) await migrate(options);
  const url = `http://127.0.0.1:${port}`;
  // The service must not have the owner's rights, so only the migration gets the owner's URL.
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

/** Runs the service's migrations as the owner role (`MIGRATION_DATABASE_URL` in `env`). */
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

/** The variables that every program expects. No others of ours: a service must not get the shell's DATABASE_URL. */
function inherited(): Record<string, string> {
  const names = ["PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "NODE_OPTIONS", "SYSTEMROOT"];
  return Object.fromEntries(names.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name] as string]])));
}
