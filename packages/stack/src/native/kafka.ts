import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
// Imported for its patches of kafkajs. Without them every start warns of a negative timeout.
import "@pm/kit/kafka/client";
import { type Admin, Kafka as Client, logLevel } from "kafkajs";
import { chooseRuntime, dockerHost, dockerServer } from "../docker/docker.ts";
import type { Progress } from "../programs/cache.ts";
import { type Output, run, startChild } from "../programs/child.ts";
import { javaProgram } from "../programs/java.ts";
import { freePort } from "../programs/ports.ts";
import { stopOrphan } from "../programs/processes.ts";
import { nativeServer, type RunningServer, remoteServer, type Server, startServer, until } from "../programs/server.ts";
import { KAFKA } from "../versions.ts";
import { installKafka } from "./kafka-installation.ts";
import { CLUSTER_ID, HEAP, JVM_OPTIONS, PARTITIONS, settingsFor, toEnvironment, toProperties } from "./kafka-settings.ts";

/** One Kafka broker (KRaft) on this machine, or a cluster that runs elsewhere (`KAFKA_BROKERS`). */
export type Kafka = RunningServer & {
  /** `host:port` of each broker. */
  brokers: string[];
  /** Creates the topics that do not exist yet and leaves the others as they are. */
  createTopics(topics: Topic[]): Promise<void>;
};

/** `partitions` are 3 by default; `config` has Kafka's own names. */
export type Topic = { topic: string; partitions?: number; config?: Record<string, string> };

type KafkaOptions = Output & {
  /** The folder of the data. By default a temporary one, which `stop` removes. */
  dataDir?: string;
  /** The Docker volume to use instead of `dataDir` if Kafka runs in a container. */
  volume?: string;
  /** By default a free one. */
  port?: number;
  progress?: Progress;
};

/** Starts Kafka and returns when it serves. Throws with the broker's last lines if it does not. */
export async function startKafka(options: KafkaOptions = {}): Promise<Kafka> {
  const progress = options.progress ?? (() => undefined);
  const given = process.env.KAFKA_BROKERS;
  if (given !== undefined && given !== "") return serve(given.split(","), remoteServer("KAFKA_BROKERS"), () => undefined);
  const port = options.port ?? (await freePort());
  return (await chooseRuntime()) === "docker" ? startInDocker(options, port, progress) : startNatively(options, port, progress);
}

async function startInDocker({ volume, logFile, onLog }: KafkaOptions, port: number, progress: Progress): Promise<Kafka> {
  const host = await dockerHost();
  const path = "/var/lib/kafka/data";
  const settings = settingsFor({ host, port, inside: "0.0.0.0", listen: 9092, controller: 9093, dataDir: path });
  const server = await dockerServer({
    name: "kafka",
    image: KAFKA.image,
    environment: { ...toEnvironment(settings), CLUSTER_ID, KAFKA_HEAP_OPTS: [...HEAP, ...JVM_OPTIONS].join(" ") },
    ports: { 9092: port },
    volume: volume === undefined ? undefined : { name: volume, path },
    logFile,
    onLog,
    progress,
  });
  return serve([`${host}:${port}`], server, () => undefined);
}

async function startNatively({ dataDir, logFile, onLog }: KafkaOptions, port: number, progress: Progress): Promise<Kafka> {
  const jars = await installKafka(progress);
  const home = resolve(dataDir ?? mkdtempSync(join(tmpdir(), "pm-kafka-")));
  const properties = join(home, "server.properties");
  mkdirSync(home, { recursive: true });
  chmodSync(home, 0o700);
  if (await stopLeftOverKafka(home)) progress("kafka: stopped the broker that an earlier run had left behind");
  const listeners = { host: "127.0.0.1", inside: "127.0.0.1", port, listen: port, controller: await freePort() };
  writeFileSync(properties, toProperties(settingsFor({ ...listeners, dataDir: join(home, "data") })));
  await formatData(jars, properties, home, progress);
  const java = [...HEAP, ...JVM_OPTIONS, "-Dorg.apache.logging.log4j.level=WARN", "-cp", join(jars, "*")];
  const server = nativeServer(async () => {
    const args = [...java, "kafka.Kafka", properties];
    const child = await startChild({ name: "kafka", command: javaProgram("java"), args, cwd: home, logFile, onLog });
    writeFileSync(pidFileOf(home), String(child.pid));
    return child;
  });
  return serve([`127.0.0.1:${port}`], server, () => {
    if (dataDir === undefined) rmSync(home, { recursive: true, force: true });
  });
}

async function serve(brokers: string[], server: Server, afterStop: () => void): Promise<Kafka> {
  const answers = () =>
    withAdmin(brokers, async (admin) => {
      const cluster = await admin.describeCluster();
      if (cluster.brokers.length === 0) throw new Error("no broker has registered yet");
    });
  const running = await startServer("kafka", server, { answers, afterStop });
  return { ...running, brokers, createTopics: (topics) => createTopics(brokers, topics) };
}

async function createTopics(brokers: string[], topics: Topic[]): Promise<void> {
  await withAdmin(brokers, async (admin) => {
    const existing = new Set(await admin.listTopics());
    const missing = topics.filter(({ topic }) => !existing.has(topic));
    if (missing.length === 0) return;
    await admin.createTopics({
      // kafkajs' own waiting throws if the broker has not heard of the new topic yet.
      waitForLeaders: false,
      topics: missing.map(({ topic, partitions = PARTITIONS, config = {} }) => ({
        topic,
        numPartitions: partitions,
        replicationFactor: 1,
        configEntries: Object.entries(config).map(([name, value]) => ({ name, value })),
      })),
    });
    const names = missing.map(({ topic }) => topic);
    await until(
      () => haveLeaders(admin, names),
      30_000,
      () => `the new topics ${names.join(", ")} get no leaders`,
    );
  });
}

async function haveLeaders(admin: Admin, names: string[]): Promise<boolean> {
  try {
    const { topics } = await admin.fetchTopicMetadata({ topics: names });
    return topics.every(({ partitions }) => partitions.length > 0 && partitions.every(({ leader }) => leader >= 0));
  } catch (error) {
    if ((error as { retriable?: boolean }).retriable) return false;
    throw error;
  }
}

async function withAdmin<T>(brokers: string[], work: (admin: Admin) => Promise<T>): Promise<T> {
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

/** Writes the cluster id into a new data folder. Renames it when complete, so that a broken start leaves nothing. */
async function formatData(jars: string, properties: string, home: string, progress: Progress): Promise<void> {
  if (existsSync(join(home, "data"))) return;
  progress("kafka: making a new data folder");
  const fresh = join(home, "data.new");
  const forFormat = `${properties}.new`;
  rmSync(fresh, { recursive: true, force: true });
  writeFileSync(forFormat, readFileSync(properties, "utf8").replace(/^log\.dirs=.*$/m, `log.dirs=${fresh}`));
  const format = ["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", forFormat];
  await run(javaProgram("java"), ["-Xmx128m", ...JVM_OPTIONS, "-cp", join(jars, "*"), ...format]);
  rmSync(forFormat);
  renameSync(fresh, join(home, "data"));
}

/** Stops the broker of an earlier run that still works in the folder `home`. Returns whether there was one. */
export async function stopLeftOverKafka(home: string): Promise<boolean> {
  const pidFile = pidFileOf(home);
  if (!existsSync(pidFile)) return false;
  return stopOrphan(Number(readFileSync(pidFile, "utf8")), join(resolve(home), "server.properties"), "SIGTERM");
}

const pidFileOf = (home: string): string => join(home, "pid");
