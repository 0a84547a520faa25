import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
// For what it corrects in kafkajs: without that, every start warns of a negative timeout.
import "@pm/kit/kafka/client";
import { Kafka as Client, logLevel } from "kafkajs";
import { chooseWay, dockerHost, dockerServer } from "../docker/docker.ts";
import { cached, digestOf, isCached, type Progress } from "../programs/cache.ts";
import { hasProgram, type Output, run, startChild } from "../programs/child.ts";
import { freePort } from "../programs/ports.ts";
import { stopOrphan } from "../programs/processes.ts";
import { nativeServer, remoteServer, type Server, untilReady } from "../programs/server.ts";
import { KAFKA } from "../versions.ts";

/** One Kafka broker (KRaft) on this machine, or a cluster that runs elsewhere (`KAFKA_BROKERS`). */
export type Kafka = {
  /** `host:port` of each. */
  brokers: string[];
  /** Topics that exist are left as they are. Three partitions where not said; `config` as Kafka names it. */
  createTopics(topics: Topic[]): Promise<void>;
  /** Stops the broker and waits for it. The data stays where a `dataDir` was given. */
  stop(): Promise<void>;
  /** SIGKILL; the data stays. */
  kill(): Promise<void>;
  /** Starts it again, on the same port, after `stop` or `kill`; returns when it serves. */
  start(): Promise<void>;
  /** Freezes the broker (SIGSTOP, or `docker pause`). */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** The broker's processes on this machine; empty where it runs elsewhere. */
  pids(): number[];
  /** False where it ended, by itself or by `stop` or `kill`. */
  running(): boolean;
  /** The last lines that it wrote. */
  tail(): Promise<string[]>;
};

export type Topic = { topic: string; partitions?: number; config?: Record<string, string> };

export type KafkaOptions = Output & {
  /** Where the data stays; without it there is a temporary folder that `stop` removes. */
  dataDir?: string;
  /** Name of the Docker volume that stands for `dataDir` where Kafka runs in a container. */
  volume?: string;
  /** A free one where not said. */
  port?: number;
  progress?: Progress;
};

const PARTITIONS = 3;
const CLUSTER_ID = "cGF0aWVudC1tYW5hZ2VtZQ";
/** Small enough for a laptop; compiled quickly rather than well, which halves the time to the first answer. */
const HEAP = ["-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

/** What differs from Kafka's defaults, natively and in a container. */
const SETTINGS: Record<string, string> = {
  "process.roles": "broker,controller",
  "node.id": "1",
  "controller.listener.names": "CONTROLLER",
  "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
  // A topic that is not declared is a mistake to be seen at once.
  "auto.create.topics.enable": "false",
  "num.partitions": String(PARTITIONS),
  // One node: what Kafka itself keeps can have no replica, and needs few partitions.
  "offsets.topic.replication.factor": "1",
  "offsets.topic.num.partitions": "4",
  "transaction.state.log.replication.factor": "1",
  "transaction.state.log.min.isr": "1",
  "transaction.state.log.num.partitions": "4",
  "share.coordinator.state.topic.replication.factor": "1",
  "share.coordinator.state.topic.min.isr": "1",
  "log.segment.bytes": String(64 * 1024 * 1024),
  // There is nobody else to wait for when a group starts.
  "group.initial.rebalance.delay.ms": "0",
  // A broker that was killed may come back after 2 s instead of 9: its old self has to be given up first.
  "broker.session.timeout.ms": "2000",
  "broker.heartbeat.interval.ms": "500",
};

/** Starts Kafka and returns when it serves. Throws with the broker's last lines where it does not. */
export async function startKafka(options: KafkaOptions = {}): Promise<Kafka> {
  const progress = options.progress ?? (() => undefined);
  const given = process.env.KAFKA_BROKERS;
  if (given !== undefined && given !== "") return kafkaAt(given.split(","), remoteServer("KAFKA_BROKERS"), () => undefined);
  const port = options.port ?? (await freePort());
  if ((await chooseWay()) === "docker") {
    const host = await dockerHost();
    const server = await dockerServer({
      name: "kafka",
      image: KAFKA.image,
      environment: {
        ...environmentOf(settingsFor({ host, port, inside: "0.0.0.0", listen: 9092, controller: 9093, dataDir: "/var/lib/kafka/data" })),
        CLUSTER_ID,
        KAFKA_HEAP_OPTS: HEAP.join(" "),
      },
      ports: { 9092: port },
      volume: options.volume === undefined ? undefined : { name: options.volume, path: "/var/lib/kafka/data" },
      logFile: options.logFile,
      onLog: options.onLog,
      progress,
    });
    return kafkaAt([`${host}:${port}`], server, () => undefined);
  }
  const jars = await installKafka(progress);
  const temporary = options.dataDir === undefined;
  const home = resolve(options.dataDir ?? mkdtempSync(join(tmpdir(), "pm-kafka-")));
  const properties = join(home, "server.properties");
  const pidFile = join(home, "pid");
  mkdirSync(home, { recursive: true });
  if (await stopLeftOverKafka(home)) progress("kafka: stopped the broker that an earlier run had left behind");
  const listeners = { host: "127.0.0.1", inside: "127.0.0.1", port, listen: port, controller: await freePort() };
  const settings = settingsFor({ ...listeners, dataDir: join(home, "data") });
  writeFileSync(
    properties,
    Object.entries(settings)
      .map(([key, value]) => `${key}=${value}\n`)
      .join(""),
  );
  await format(jars, properties, home, progress);
  const server = nativeServer(async () => {
    const child = await startChild({
      name: "kafka",
      command: javaCommand(),
      args: [...HEAP, "-Dorg.apache.logging.log4j.level=WARN", "-cp", join(jars, "*"), "kafka.Kafka", properties],
      cwd: home,
      logFile: options.logFile,
      onLog: options.onLog,
    });
    writeFileSync(pidFile, String(child.pid));
    return child;
  });
  return kafkaAt([`127.0.0.1:${port}`], server, () => {
    if (temporary) rmSync(home, { recursive: true, force: true });
  });
}

/** What has to be installed before Kafka can run natively; empty where nothing is missing. */
export async function missingForKafka(): Promise<string[]> {
  const missing: string[] = [];
  const version = await javaVersion();
  if (version === undefined)
    missing.push(`Java ${KAFKA.java} or newer (program "java"; Debian: apt install openjdk-17-jre-headless, macOS: brew install openjdk)`);
  else if (version < KAFKA.java)
    missing.push(`Java ${KAFKA.java} or newer: "${javaCommand()}" is Java ${version} (point JAVA_HOME to a newer one)`);
  if (!isCached(CACHE_NAME) && !(await hasProgram("mvn")))
    missing.push('Maven (program "mvn"; Debian: apt install maven, macOS: brew install maven), once, to download Kafka');
  return missing;
}

async function kafkaAt(brokers: string[], server: Server, afterStop: () => void): Promise<Kafka> {
  const start = async () => {
    await server.launch();
    await untilReady("kafka", server, () =>
      withAdmin(brokers, async (admin) => {
        const cluster = await admin.describeCluster();
        if (cluster.brokers.length === 0) throw new Error("no broker has registered yet");
      }),
    );
  };
  const stop = async () => {
    await server.stop();
    afterStop();
  };
  try {
    await start();
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    brokers,
    async createTopics(topics) {
      await withAdmin(brokers, async (admin) => {
        const there = new Set(await admin.listTopics());
        const missing = topics.filter(({ topic }) => !there.has(topic));
        if (missing.length === 0) return;
        await admin.createTopics({
          waitForLeaders: true,
          topics: missing.map(({ topic, partitions = PARTITIONS, config = {} }) => ({
            topic,
            numPartitions: partitions,
            replicationFactor: 1,
            configEntries: Object.entries(config).map(([name, value]) => ({ name, value })),
          })),
        });
      });
    },
    stop,
    kill: server.kill,
    start,
    pause: server.pause,
    resume: server.resume,
    pids: server.pids,
    running: server.running,
    tail: server.tail,
  };
}

async function withAdmin<T>(brokers: string[], work: (admin: ReturnType<Client["admin"]>) => Promise<T>): Promise<T> {
  const client = new Client({
    clientId: "stack",
    brokers,
    logLevel: logLevel.NOTHING,
    connectionTimeout: 2_000,
    requestTimeout: 10_000,
    retry: { retries: 0 },
  });
  const admin = client.admin({ retry: { retries: 5 } });
  try {
    await admin.connect();
    return await work(admin);
  } finally {
    await admin.disconnect().catch(() => undefined);
  }
}

type Listeners = { host: string; port: number; inside: string; listen: number; controller: number; dataDir: string };

/** `host:port` is where clients find the broker, `inside:listen` where it listens. */
function settingsFor({ host, port, inside, listen, controller, dataDir }: Listeners): Record<string, string> {
  return {
    ...SETTINGS,
    listeners: `PLAINTEXT://${inside}:${listen},CONTROLLER://127.0.0.1:${controller}`,
    "advertised.listeners": `PLAINTEXT://${host}:${port}`,
    "controller.quorum.voters": `1@127.0.0.1:${controller}`,
    "log.dirs": dataDir,
  };
}

/** The image takes settings as variables: `log.dirs` is `KAFKA_LOG_DIRS`. */
function environmentOf(settings: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(settings).map(([key, value]) => [`KAFKA_${key.replaceAll(".", "_").toUpperCase()}`, value]));
}

const CACHE_NAME = `kafka-${KAFKA.version}`;

/** The folder of Kafka's jars; downloads them where they are not in the cache. */
export async function installKafka(progress: Progress): Promise<string> {
  const missing = await missingForKafka();
  if (missing.length > 0)
    throw new Error(`Kafka needs a Docker engine or, to run without one:\n${missing.map((line) => `  - ${line}`).join("\n")}`);
  return cached(CACHE_NAME, progress, async (dir) => {
    progress(`kafka: downloading Apache Kafka ${KAFKA.version} with Maven (44 MB, once)`);
    const work = mkdtempSync(join(tmpdir(), "pm-maven-"));
    const dependencies = KAFKA.artifacts.map(
      ({ group, artifact, version }) =>
        `<dependency><groupId>${group}</groupId><artifactId>${artifact}</artifactId><version>${version}</version></dependency>`,
    );
    writeFileSync(
      join(work, "pom.xml"),
      `<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>stack</groupId><artifactId>kafka</artifactId><version>1</version><dependencies>${dependencies.join("")}</dependencies></project>`,
    );
    try {
      await run("mvn", ["-q", "-B", `${KAFKA.plugin}:copy-dependencies`, "-DincludeScope=runtime", `-DoutputDirectory=${dir}`], {
        cwd: work,
      });
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
    const digest = digestOf(dir);
    if (digest !== KAFKA.sha256) {
      throw new Error(
        `the jars that Maven brought for Kafka ${KAFKA.version} are not the ones that were pinned (SHA-256 ${digest} instead of ${KAFKA.sha256}): is the repository that Maven uses to be trusted?`,
      );
    }
  });
}

/** Gives the data folder its cluster id, once. Made beside and renamed, so that an interrupted start leaves nothing half done. */
async function format(jars: string, properties: string, home: string, progress: Progress): Promise<void> {
  if (existsSync(join(home, "data"))) return;
  progress("kafka: making a new data folder");
  const fresh = join(home, "data.new");
  const forFormat = `${properties}.new`;
  rmSync(fresh, { recursive: true, force: true });
  writeFileSync(forFormat, readFileSync(properties, "utf8").replace(/^log\.dirs=.*$/m, `log.dirs=${fresh}`));
  await run(javaCommand(), [
    "-Xmx128m",
    ...HEAP.slice(2),
    "-cp",
    join(jars, "*"),
    "kafka.tools.StorageTool",
    "format",
    "-t",
    CLUSTER_ID,
    "-c",
    forFormat,
  ]);
  rmSync(forFormat);
  renameSync(fresh, join(home, "data"));
}

/** Stops the broker that works in the folder `home`, which an earlier run left behind. Returns whether there was one. */
export async function stopLeftOverKafka(home: string): Promise<boolean> {
  const pidFile = join(home, "pid");
  if (!existsSync(pidFile)) return false;
  return stopOrphan(Number(readFileSync(pidFile, "utf8")), join(resolve(home), "server.properties"), "SIGTERM");
}

function javaCommand(): string {
  const home = process.env.JAVA_HOME;
  return home !== undefined && home !== "" ? join(home, "bin", "java") : "java";
}

/** The major version of the Java that would be used; undefined where there is none. macOS has a `java` that only says that there is none. */
async function javaVersion(): Promise<number | undefined> {
  const said = await run(javaCommand(), ["--version"]).catch(() => "");
  const major = /\b(\d+)(\.\d+)*/.exec(said)?.[1];
  if (major !== undefined) return Number(major);
  // Java 8 does not know --version.
  return run("sh", ["-c", `"$1" -version 2>&1`, "sh", javaCommand()]).then(
    (text) => (/version "1\.(\d+)/.exec(text) ? 8 : undefined),
    () => undefined,
  );
}
