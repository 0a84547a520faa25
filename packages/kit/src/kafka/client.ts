/**
 * Everything that uses kafkajs, except for its patch. There has been no release since 2023, so it must be possible to
 * replace kafkajs by changing this file.
 */
import { readFileSync } from "node:fs";
import { connect as connectTcp } from "node:net";
import { connect as connectTls } from "node:tls";
import { type Admin, type Consumer, type EachBatchPayload, type ISocketFactory, Kafka, logLevel, type Producer } from "kafkajs";
import murmurhash from "murmurhash";
import "./kafkajs-patch.ts";
import type { Lifecycle } from "../lifecycle.ts";
import type { Logger } from "../log.ts";

export type { EachBatchPayload, Kafka };

type KafkaSettings = {
  brokers: string[];
  clientId: string;
  caFile?: string | undefined;
  certFile?: string | undefined;
  keyFile?: string | undefined;
};

/** The settings from the variables of `kafkaConfig`. */
export function kafkaSettings(
  clientId: string,
  config: {
    KAFKA_BROKERS: string[];
    KAFKA_CA_FILE?: string | undefined;
    KAFKA_CERT_FILE?: string | undefined;
    KAFKA_KEY_FILE?: string | undefined;
  },
): KafkaSettings {
  const { KAFKA_BROKERS: brokers, KAFKA_CA_FILE: caFile, KAFKA_CERT_FILE: certFile, KAFKA_KEY_FILE: keyFile } = config;
  return { clientId, brokers, caFile, certFile, keyFile };
}

/** A message. Its headers are those of CloudEvents in binary mode, and `traceparent`. */
export type Message = { key: string; value: Buffer; headers: Record<string, string> };

export function createKafka(settings: KafkaSettings, log: Logger): Kafka {
  const { brokers, clientId, caFile, certFile, keyFile } = settings;
  // Certificates are read again for every connection, so that rotated ones take effect.
  const socketFactory: ISocketFactory = ({ host, port, onConnect }) => {
    const socket = caFile
      ? connectTls(
          {
            host,
            port,
            servername: host,
            ca: readFileSync(caFile),
            ...(certFile && keyFile && { cert: readFileSync(certFile), key: readFileSync(keyFile) }),
          },
          onConnect,
        )
      : connectTcp({ host, port }, onConnect);
    socket.setKeepAlive(true, 30_000);
    return socket;
  };
  return new Kafka({
    clientId,
    brokers,
    socketFactory,
    connectionTimeout: 3_000,
    requestTimeout: 10_000,
    retry: { initialRetryTime: 200, maxRetryTime: 3_000, retries: 5 },
    logLevel: logLevel.WARN,
    // Relay and consumers report an outage themselves; the client's own messages are for debugging.
    logCreator: () => (entry) => log.debug({ kafka: entry.log.message, namespace: entry.namespace }, "kafka client"),
  });
}

export type Sender = {
  /**
   * Sends messages of any topics in one request and waits until all in-sync replicas have them. Call it once at a time
   * to keep the order per key.
   */
  send(batch: { topic: string; messages: Message[] }[]): Promise<void>;
  close(): Promise<void>;
};

/**
 * The partition of a key, as Kafka's own clients and kafkajs choose it (murmur2). kafkajs computes it with BigInt,
 * which took 8 microseconds per key, a twentieth of the CPU time for an imported patient.
 */
export function partitionOf(key: string, partitions: number): number {
  return (murmurhash.v2(key, 0x9747b28c) & 0x7fffffff) % partitions;
}

/** A producer that connects at its first use and again after an outage. */
export function createSender(kafka: Pick<Kafka, "producer">): Sender {
  let connected: Promise<Producer> | undefined;
  const partitions = new WeakMap<object, number>();
  async function connect(): Promise<Producer> {
    const producer = kafka.producer({
      idempotent: true,
      maxInFlightRequests: 1,
      allowAutoTopicCreation: false,
      createPartitioner:
        () =>
        ({ message, partitionMetadata }) => {
          const partition = partitionOf(String(message.key), partitionMetadata.length);
          partitions.set(message, partition);
          return partition;
        },
    });
    await producer.connect();
    return producer;
  }

  /**
   * kafkajs 2.2.4 sends to each broker once per call. If a broker fails and its partition moves to a broker that has
   * answered already, the messages for that partition are never sent, and the call succeeds nevertheless. So messages
   * whose partition is in no answer were not sent.
   * @throws Error if the partition of a message is in no answer
   */
  function checkAllSent(batch: { topic: string; messages: Message[] }[], answers: { topicName: string; partition: number }[]): void {
    const answered = new Set(answers.map(({ topicName, partition }) => `${topicName}/${partition}`));
    for (const { topic, messages } of batch)
      for (const message of messages) {
        const place = `${topic}/${partitions.get(message)}`;
        if (!answered.has(place)) throw new Error(`No broker has answered for ${place}: its leader moved meanwhile`);
      }
  }

  return {
    async send(batch) {
      connected ??= connect();
      try {
        const producer = await connected;
        checkAllSent(batch, await producer.sendBatch({ acks: -1, topicMessages: batch }));
      } catch (error) {
        // After a failure, an idempotent producer must not continue its sequence. The next send starts a new producer.
        const broken = connected;
        connected = undefined;
        void broken?.then((producer) => producer.disconnect()).catch(() => undefined);
        throw error;
      }
    },
    async close() {
      const producer = await connected?.catch(() => undefined);
      await producer?.disconnect();
    },
  };
}

/**
 * Runs a consumer until the lifecycle ends. It can start while Kafka is down, and restarts after crashes. Only offsets
 * that `eachBatch` resolves are committed.
 */
export async function runConsumer(options: {
  kafka: Kafka;
  groupId: string;
  topics: string[];
  fromBeginning: boolean;
  /**
   * The broker answers a fetch when there are this many bytes, or after this time: fewer and fuller batches. By default
   * it answers as soon as there is anything.
   */
  fetch?: { minBytes: number; maxWaitMs: number };
  /** How many partitions' batches are given to `eachBatch` at the same time; 1 by default. */
  partitionsTogether?: number;
  eachBatch: (payload: EachBatchPayload) => Promise<void>;
  log: Logger;
  lifecycle: Lifecycle;
  /** Called whenever the consumer has joined its group (again). */
  onJoined?: () => void;
}): Promise<void> {
  const { kafka, groupId, topics, fromBeginning, eachBatch, log, lifecycle, onJoined } = options;
  const { fetch = { minBytes: 1, maxWaitMs: 1_000 }, partitionsTogether: partitionsConsumedConcurrently = 1 } = options;
  let stopped = false;
  let consumer: Consumer | undefined;
  lifecycle.onClose(`consumer ${groupId}`, async () => {
    stopped = true;
    await consumer?.disconnect();
  });
  const start = async (): Promise<void> => {
    while (!stopped) {
      consumer = kafka.consumer({
        groupId,
        sessionTimeout: 10_000,
        heartbeatInterval: 2_000,
        minBytes: fetch.minBytes,
        maxWaitTimeInMs: fetch.maxWaitMs,
        allowAutoTopicCreation: false,
        // We restart it ourselves, because kafkajs gives up on errors that it calls non-retriable.
        retry: { initialRetryTime: 200, maxRetryTime: 3_000, retries: 5, restartOnFailure: async () => false },
      });
      const crashed = new Promise<unknown>((resolve) => consumer?.on("consumer.crash", ({ payload }) => resolve(payload.error)));
      if (onJoined) consumer.on("consumer.group_join", onJoined);
      try {
        await consumer.connect();
        await consumer.subscribe({ topics, fromBeginning });
        await consumer.run({ autoCommit: false, eachBatchAutoResolve: false, partitionsConsumedConcurrently, eachBatch });
        const error = await crashed;
        if (!stopped) log.warn({ err: error, groupId }, "the consumer stopped; starting it again");
      } catch (error) {
        if (!stopped) log.warn({ err: error, groupId }, "Kafka does not answer; trying again");
      }
      await consumer.disconnect().catch(() => undefined);
      if (!stopped) await new Promise((resolve) => setTimeout(resolve, 1_000));
    }
  };
  void start();
}

/**
 * Reads all values of a topic, from its beginning to where it ends now, as a group of its own.
 * @throws Error if Kafka does not answer
 */
export async function readTopic(kafka: Kafka, topic: string, groupId: string): Promise<Buffer[]> {
  const ends = await offsetsOf(kafka, [topic]);
  const open = new Map([...ends].filter(([, { low, high }]) => high > low));
  const values: Buffer[] = [];
  if (open.size === 0) return values;
  const consumer = kafka.consumer({ groupId, allowAutoTopicCreation: false });
  await consumer.connect();
  try {
    await consumer.subscribe({ topics: [topic], fromBeginning: true });
    await new Promise<void>((resolve, reject) => {
      consumer.on("consumer.crash", ({ payload }) => reject(payload.error));
      const eachBatch = async ({ batch }: EachBatchPayload) => {
        values.push(...batch.messages.flatMap(({ value }) => value ?? []));
        const place = `${topic}/${batch.partition}`;
        if (BigInt(batch.lastOffset()) + 1n >= (open.get(place)?.high ?? 0n)) open.delete(place);
        if (open.size === 0) resolve();
      };
      consumer.run({ autoCommit: false, eachBatch }).catch(reject);
    });
  } finally {
    await consumer.disconnect();
  }
  return values;
}

type Ends = Map<string, { low: bigint; high: bigint }>;

/** The first and the next offset of each partition of some topics, by `<topic>/<partition>`. */
export async function offsetsOf(kafka: Kafka, topics: string[]): Promise<Ends> {
  const admin = kafka.admin();
  await admin.connect();
  try {
    return await endsOf(admin, topics);
  } finally {
    await admin.disconnect();
  }
}

async function endsOf(admin: Admin, topics: string[]): Promise<Ends> {
  const ends = topics.map(async (topic) =>
    (await admin.fetchTopicOffsets(topic)).map(
      ({ partition, low, high }) => [`${topic}/${partition}`, { low: BigInt(low), high: BigInt(high) }] as const,
    ),
  );
  return new Map((await Promise.all(ends)).flat());
}

/** Where a group goes on in a partition, and where the partition ends. */
type Position = { topic: string; partition: number; next: bigint; end: bigint };

/** Reads how far a group is, again and again, over a connection that is opened anew after a failure. */
export function openPositions(kafka: Kafka, groupId: string, topics: string[]): { read(): Promise<Position[]>; close(): Promise<void> } {
  let connected: Promise<Admin> | undefined;
  const close = async () => {
    const admin = await connected?.catch(() => undefined);
    connected = undefined;
    await admin?.disconnect().catch(() => undefined);
  };
  const connect = async () => {
    const admin = kafka.admin();
    await admin.connect();
    return admin;
  };
  return {
    async read() {
      connected ??= connect();
      try {
        const admin = await connected;
        // The ends come first, so that a group that keeps up is never behind what came meanwhile.
        const ends = await endsOf(admin, topics);
        const groups = await admin.fetchOffsets({ groupId, topics });
        return groups.flatMap(({ topic, partitions }) =>
          partitions.map(({ partition, offset }) => {
            const { low, high } = ends.get(`${topic}/${partition}`) ?? { low: 0n, high: 0n };
            // -1 before the first commit; less than the first offset if Kafka has deleted what was not applied.
            const committed = BigInt(offset);
            return { topic, partition, next: committed > low ? committed : low, end: high };
          }),
        );
      } catch (error) {
        await close();
        throw error;
      }
    },
    close,
  };
}
