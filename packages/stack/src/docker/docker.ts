import { appendFileSync, existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { ContainerRuntimeClient } from "testcontainers";
import type { Progress } from "../programs/cache.ts";
import type { Output } from "../programs/child.ts";
import type { Server } from "../programs/server.ts";

/** How Postgres, Kafka and Envoy run: in containers, or as programs of this machine. */
type Runtime = "docker" | "native";

const TAIL_LINES = 30;
let found: Promise<ContainerRuntimeClient | undefined> | undefined;

/** The Docker engine of this machine, if one answers. Looked for once per process. */
function engine(): Promise<ContainerRuntimeClient | undefined> {
  found ??= mayHaveEngine()
    ? import("testcontainers").then((library) => library.getContainerRuntimeClient()).catch(() => undefined)
    : Promise.resolve(undefined);
  return found;
}

/** Loading testcontainers takes half a second, so look first whether there can be an engine. */
function mayHaveEngine(): boolean {
  const home = homedir();
  const sockets = [
    "/var/run/docker.sock",
    `/run/user/${process.getuid?.()}/docker.sock`,
    join(home, ".docker/run/docker.sock"),
    join(home, ".docker/desktop/docker.sock"),
    join(home, ".testcontainers.properties"),
  ];
  return (
    process.env.DOCKER_HOST !== undefined ||
    process.env.TESTCONTAINERS_HOST_OVERRIDE !== undefined ||
    process.platform === "win32" ||
    sockets.some((path) => existsSync(path))
  );
}

/** Docker if an engine answers, else native. The environment variable `STACK` overrides that. */
export async function chooseRuntime(): Promise<Runtime> {
  const wish = process.env.STACK ?? "";
  if (wish !== "" && wish !== "docker" && wish !== "native")
    throw new Error(`STACK is "${wish}"; it has to be "docker", "native" or unset`);
  if (wish === "native") return "native";
  if (await engine()) return "docker";
  if (wish === "docker")
    throw new Error("STACK=docker, but no Docker engine answers: start one (`docker info` has to work for this user), or unset STACK");
  return "native";
}

type ContainerOptions = Output & {
  name: string;
  image: string;
  environment?: Record<string, string>;
  command?: string[];
  /** Port in the container → port on this machine. */
  ports?: Record<number, number>;
  /** The container shares the network of this machine. Then there are no `ports` to map. */
  hostNetwork?: boolean;
  /** A named volume, and where it is mounted. The container gets its name. Without it, data goes with the container. */
  volume?: { name: string; path: string } | undefined;
  files?: { source: string; target: string }[];
  sharedMemoryBytes?: number;
  progress: Progress;
};

/**
 * A server in a container. `stop` removes the container; if this process is killed, testcontainers' Ryuk removes it.
 */
export async function dockerServer(options: ContainerOptions): Promise<Server> {
  const client = await engine();
  if (!client) throw new Error("no Docker engine answers");
  let id: string | undefined;
  let running = false;
  let pid: number | undefined;
  const lines: string[] = [];
  const container = () => {
    if (id === undefined) throw new Error(`the container of ${options.name} was never started`);
    return client.container.dockerode.getContainer(id);
  };
  const keep = (line: string) => {
    lines.push(line);
    if (lines.length > TAIL_LINES) lines.shift();
    options.onLog?.(line);
    if (options.logFile !== undefined) appendFileSync(options.logFile, `${line}\n`, { mode: 0o600 });
  };
  /** Follows one run of the container from its start to its end. */
  const follow = async (sinceMs: number) => {
    running = true;
    const log = await client.container.logs(container(), { since: Math.floor(sinceMs / 1000) });
    createInterface({ input: log }).on("line", keep);
    pid = (await container().inspect()).State.Pid || undefined;
    const ended = () => {
      running = false;
    };
    void container().wait().then(ended, ended);
  };
  return {
    async launch() {
      const since = Date.now();
      if (id !== undefined) await container().start();
      else id = await startContainer(client, options);
      await follow(since);
    },
    async stop() {
      if (id === undefined) return;
      await container()
        .unpause()
        .catch(() => undefined);
      await container()
        .stop({ t: 10 })
        .catch(() => undefined);
      await container().remove({ force: true, v: true });
      id = undefined;
      running = false;
    },
    async kill() {
      const ended = container().wait();
      await container().kill({ signal: "SIGKILL" });
      await ended;
      running = false;
    },
    pause: async () => void (await container().pause()),
    resume: async () => void (await container().unpause()),
    // If Docker runs in a virtual machine, the pid is not one of this machine.
    pids: () => (running && pid !== undefined && process.platform === "linux" ? [pid] : []),
    running: () => running,
    tail: async () => [...lines],
  };
}

/** Creates and starts a container and returns its id. */
async function startContainer(client: ContainerRuntimeClient, options: ContainerOptions): Promise<string> {
  const { GenericContainer, Wait } = await import("testcontainers");
  options.progress(`${options.name}: ${options.image} in Docker (the image is downloaded if it is missing)`);
  const container = new GenericContainer(options.image)
    .withEnvironment(options.environment ?? {})
    .withExposedPorts(...Object.entries(options.ports ?? {}).map(([inside, host]) => ({ container: Number(inside), host })))
    .withBindMounts(options.volume ? [{ source: options.volume.name, target: options.volume.path }] : [])
    .withCopyFilesToContainer(options.files ?? [])
    // Wait for nothing here: the caller asks the server itself, as it asks a native one.
    .withWaitStrategy(Wait.forAll([]));
  if (options.command) container.withCommand(options.command);
  if (options.hostNetwork) container.withNetworkMode("host");
  if (options.volume) {
    // Two servers on one volume would destroy it. The fixed name prevents a second container, and finds the one that a
    // killed run has left behind.
    await client.container.dockerode
      .getContainer(options.volume.name)
      .remove({ force: true })
      .catch(() => undefined);
    container.withName(options.volume.name);
  }
  if (options.sharedMemoryBytes !== undefined) container.withSharedMemorySize(options.sharedMemoryBytes);
  return (await container.start()).getId();
}

/** The address at which this process reaches the ports of containers. */
export async function dockerHost(): Promise<string> {
  const host = (await engine())?.info.containerRuntime.host ?? "localhost";
  return host === "localhost" ? "127.0.0.1" : host;
}

/** Removes the data of earlier runs. Missing volumes are ignored. */
export async function removeVolumes(names: string[]): Promise<void> {
  const client = await engine();
  if (!client) return;
  for (const name of names)
    await client.container.dockerode
      .getVolume(name)
      .remove({ force: true })
      .catch(() => undefined);
}
