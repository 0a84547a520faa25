/** How our one broker is configured, natively and in a container. */

export const PARTITIONS = 3;
export const CLUSTER_ID = "cGF0aWVudC1tYW5hZ2VtZQ";

/** Compile quickly rather than well, which halves the time to the first answer. */
export const JVM_OPTIONS = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];
/** Small enough for a laptop. */
export const HEAP = ["-Xms256m", "-Xmx512m"];

/** The differences to Kafka's defaults. */
const SETTINGS: Record<string, string> = {
  "process.roles": "broker,controller",
  "node.id": "1",
  "controller.listener.names": "CONTROLLER",
  "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
  // A topic that nobody declared is a mistake and has to fail at once.
  "auto.create.topics.enable": "false",
  "num.partitions": String(PARTITIONS),
  // There is only one broker, so Kafka's own topics cannot have replicas. They need few partitions.
  "offsets.topic.replication.factor": "1",
  "offsets.topic.num.partitions": "4",
  "transaction.state.log.replication.factor": "1",
  "transaction.state.log.min.isr": "1",
  "transaction.state.log.num.partitions": "4",
  "share.coordinator.state.topic.replication.factor": "1",
  "share.coordinator.state.topic.min.isr": "1",
  "log.segment.bytes": String(64 * 1024 * 1024),
  // A new consumer group need not wait for more members.
  "group.initial.rebalance.delay.ms": "0",
  // The controller has to give up a killed broker before the broker may come back: after 2 s instead of 9.
  "broker.session.timeout.ms": "2000",
  "broker.heartbeat.interval.ms": "500",
};

type Listeners = {
  /** Clients find the broker at `host:port`. */
  host: string;
  port: number;
  /** The broker listens on `inside:listen`. */
  inside: string;
  listen: number;
  controller: number;
  dataDir: string;
};

export function settingsFor({ host, port, inside, listen, controller, dataDir }: Listeners): Record<string, string> {
  return {
    ...SETTINGS,
    listeners: `PLAINTEXT://${inside}:${listen},CONTROLLER://127.0.0.1:${controller}`,
    "advertised.listeners": `PLAINTEXT://${host}:${port}`,
    "controller.quorum.voters": `1@127.0.0.1:${controller}`,
    "log.dirs": dataDir,
  };
}

/** The settings as a properties file. */
export function toProperties(settings: Record<string, string>): string {
  return Object.entries(settings)
    .map(([key, value]) => `${key}=${value}\n`)
    .join("");
}

/** The settings as environment variables, which the image expects: `log.dirs` is `KAFKA_LOG_DIRS`. */
export function toEnvironment(settings: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(settings).map(([key, value]) => [`KAFKA_${key.replaceAll(".", "_").toUpperCase()}`, value]));
}
