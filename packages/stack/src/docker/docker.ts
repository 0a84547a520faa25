import { appendFileSync, existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { ContainerRuntimeClient } from "testcontainers";
import type { Progress } from "../programs/cache.ts";
import type { Output } from "../programs/child.ts";
import type { Server } from "../programs/server.ts";

export type Way = "docker" | "native";

let found: Promise<ContainerRuntimeClient | undefined> | undefined;

/** The Docker engine of this machine, if one answers. Asked once per process. */
function engine(): Promise<ContainerRuntimeClient | undefined> {
  found ??= mayHaveEngine()
    ? import("testcontainers").then((library) => library.getContainerRuntimeClient()).catch(() => undefined)
    : Promise.resolve(undefined);
  return found;
}

/** Loading testcontainers takes half a second: not where there is nothing that it could talk to. */
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

/** How the parts are run: in containers where a Docker engine answers, else natively; `STACK` decides where it is set. */
export async function chooseWay(): Promise<Way> {
  const wish = process.env.STACK ?? "";
  if (wish !== "" && wish !== "docker" && wish !== "native")
    throw new Error(`STACK is "${wish}"; it has to be "docker", "native" or unset`);
  if (wish === "native") return "native";
  if (await engine()) return "docker";
  if (wish === "docker")
    throw new Error("STACK=docker, but no Docker engine answers: start one (`docker info` has to work for this user), or unset STACK");
  return "native";
}

export type ContainerOptions = Output & {
  name: string;
  image: string;
  environment?: Record<string, string>;
  command?: string[];
  /** Port in the container → port on this machine. None in host networking. */
  ports?: Record<number, number>;
  hostNetwork?: boolean;
  /** A named volume, which also names the container, and where it is mounted; without one the data goes with the container. */
  volume?: { name: string; path: string } | undefined;
  files?: { source: string; target: string }[];
  sharedMemoryBytes?: number;
  progress: Progress;
};

/** A server in a container. It is removed when it is stopped; testcontainers' Ryuk removes it where this process is killed. */
export async function dockerServer(options: ContainerOptions): Promise<Server> {
  const { GenericContainer, Wait } = await import("testcontainers");
  const client = await engine();
  if (!client) throw new Error("no Docker engine answers");
  const docker = client.container.dockerode;
  let id: string | undefined;
  let running = false;
  let pid: number | undefined;
  const lines: string[] = [];
  const container = () => {
    if (id === undefined) throw new Error(`the container of ${options.name} was never started`);
    return docker.getContainer(id);
  };
  const take = (line: string) => {
    lines.push(line);
    if (lines.length > 30) lines.shift();
    options.onLog?.(line);
    if (options.logFile !== undefined) appendFileSync(options.logFile, `${line}\n`);
  };
  /** Follows one run of the container, from its start to its end. */
  const follow = async (sinceMs: number) => {
    running = true;
    const log = await client.container.logs(container(), { since: Math.floor(sinceMs / 1000) });
    createInterface({ input: log }).on("line", take);
    pid = (await container().inspect()).State.Pid || undefined;
    const ended = () => {
      running = false;
    };
    void container().wait().then(ended, ended);
  };
  return {
    async launch() {
      const since = Date.now();
      if (id !== undefined) {
        await container().start();
        return follow(since);
      }
      options.progress(`${options.name}: ${options.image} in Docker (its image is downloaded where it is missing)`);
      const started = new GenericContainer(options.image)
        .withEnvironment(options.environment ?? {})
        .withExposedPorts(...Object.entries(options.ports ?? {}).map(([inside, host]) => ({ container: Number(inside), host })))
        .withBindMounts(options.volume ? [{ source: options.volume.name, target: options.volume.path }] : [])
        .withCopyFilesToContainer(options.files ?? [])
        // Ready is what the server itself says, asked in the same way as of a native one.
        .withWaitStrategy(Wait.forAll([]));
      if (options.command) started.withCommand(options.command);
      if (options.hostNetwork) started.withNetworkMode("host");
      if (options.volume) {
        // Two servers on one volume would destroy it: the name keeps a second container from being made, and finds the
        // one that a killed run may have left behind.
        await docker
          .getContainer(options.volume.name)
          .remove({ force: true })
          .catch(() => undefined);
        started.withName(options.volume.name);
      }
      if (options.sharedMemoryBytes !== undefined) started.withSharedMemorySize(options.sharedMemoryBytes);
      id = (await started.start()).getId();
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
    // Where Docker runs in a virtual machine, the number means nothing here.
    pids: () => (running && pid !== undefined && process.platform === "linux" ? [pid] : []),
    running: () => running,
    tail: async () => [...lines],
  };
}

/** The address under which containers' ports are reached from this process. */
export async function dockerHost(): Promise<string> {
  const host = (await engine())?.info.containerRuntime.host ?? "localhost";
  return host === "localhost" ? "127.0.0.1" : host;
}

/** Forgets the data of earlier runs. Volumes that are not there are nothing to complain about. */
export async function removeVolumes(names: string[]): Promise<void> {
  const client = await engine();
  if (!client) return;
  for (const name of names)
    await client.container.dockerode
      .getVolume(name)
      .remove({ force: true })
      .catch(() => undefined);
}
