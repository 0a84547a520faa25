/** What becomes of a batch when brokers fail, with kafkajs's own way of sending over two brokers that are none. */
import { createRequire } from "node:module";
import fc from "fast-check";
import { type Kafka, Partitioners, type ProducerConfig } from "kafkajs";
import { expect, test } from "vitest";
import { createSender, partitionOf } from "./client.ts";

type Entry = { topic: string; partitions: { partition: number; messages: { key: string }[] }[] };
const require = createRequire(import.meta.url);
const sendMessages = require("kafkajs/src/producer/sendMessages") as (parts: object) => (batch: object) => Promise<[]>;

type Encoded = { buffer: Buffer };
type Read = { offset: string; timestamp: string; key: Buffer | null; value: Buffer | null; headers: Record<string, unknown> };
const loadKafkajs = () => ({
  encode: require("kafkajs/src/protocol/requests/produce/v3/request") as (request: object) => { encode(): Promise<Encoded> },
  encodeRecord: require("kafkajs/src/protocol/recordBatch/record/v0") as (message: object) => Encoded,
  encodeBatch: (require("kafkajs/src/protocol/recordBatch/v0") as { RecordBatch(batch: object): Promise<Encoded> }).RecordBatch,
  decodeBatch: require("kafkajs/src/protocol/recordBatch/v0/decoder") as (decoder: object) => Promise<{ records: Read[] }>,
  Decoder: require("kafkajs/src/protocol/decoder") as new (bytes: Buffer) => object,
});
const here = loadKafkajs();
// The same files loaded once more are as kafkajs comes.
for (const file of Object.keys(require.cache)) if (file.includes("/kafkajs/src/")) delete require.cache[file];
const there = loadKafkajs();

/** Brokers 1 and 2 lead a partition each, until broker 1 fails and broker 2 leads both. */
function twoBrokers() {
  const written: string[] = [];
  const leaders = [1, 2];
  let failures = 1;
  const broker = (nodeId: number) => ({
    nodeId,
    async produce({ topicData }: { topicData: Entry[] }) {
      if (nodeId === 1 && failures-- > 0) {
        // The other broker's answer is there by then.
        await new Promise((resolve) => setTimeout(resolve, 20));
        leaders[0] = 2;
        throw Object.assign(new Error("connection closed"), { name: "KafkaJSConnectionError", retriable: true });
      }
      for (const { partitions } of topicData) written.push(...partitions.flatMap(({ messages }) => messages.map(({ key }) => key)));
      const topics = topicData.map(({ topic, partitions }) => ({
        topicName: topic,
        partitions: partitions.map(({ partition }) => ({ partition, errorCode: 0 })),
      }));
      return { topics };
    },
  });
  const brokers = [broker(1), broker(2)];
  const cluster = {
    addMultipleTargetTopics: async () => undefined,
    refreshMetadataIfNecessary: async () => undefined,
    refreshMetadata: async () => undefined,
    isConnected: () => true,
    findTopicPartitionMetadata: () => leaders.map((leader, partitionId) => ({ partitionId, leader })),
    findLeaderForPartitions: (_: string, partitions: string[]) =>
      Object.groupBy(partitions.map(Number), (partition) => leaders[partition] ?? 0),
    findBroker: async ({ nodeId }: { nodeId: string }) => brokers[Number(nodeId) - 1],
  };
  const sequences = { acquireBrokerLock() {}, releaseBrokerLock() {}, isTransactional: () => false, getSequence: () => 0 };
  const eosManager = { ...sequences, updateSequence() {}, getProducerId: () => 1, getProducerEpoch: () => 0 };
  async function retrier(attempt: (bail: (error: Error) => never) => Promise<unknown>) {
    const bail = (error: Error): never => {
      throw error;
    };
    return attempt(bail).catch(() => attempt(bail));
  }
  const logger = { error() {}, debug() {} };
  const kafka = {
    producer({ createPartitioner }: ProducerConfig = {}) {
      const send = sendMessages({ logger, cluster, partitioner: createPartitioner?.(), eosManager, retrier });
      return { connect: async () => undefined, disconnect: async () => undefined, sendBatch: send };
    },
  } as unknown as Kafka;
  return { kafka, written };
}

test("a batch whose messages were not all sent, because a partition's leader moved, is an error and can be sent again", async () => {
  const { kafka, written } = twoBrokers();
  const sender = createSender(kafka);
  const keys = Array.from({ length: 20 }, (_, number) => `patient ${number}`);
  const batch = () => [{ topic: "patient.v1", messages: keys.map((key) => ({ key, value: Buffer.from(key), headers: {} })) }];
  await expect(sender.send(batch())).rejects.toThrow("No broker has answered for patient.v1/0");
  expect(new Set(written).size).toBeLessThan(keys.length);
  await sender.send(batch());
  expect(new Set(written)).toEqual(new Set(keys));
});

const text = fc.oneof(fc.string({ unit: "binary" }), fc.string({ minLength: 500, maxLength: 20_000 }));
// Of a header named `toString` kafkajs gives what every object has under this name, too.
const headerName = fc.string().filter((name) => !(name in {}));
const message = fc.record({
  key: fc.option(text),
  value: fc.option(text.map((any) => Buffer.from(any))),
  headers: fc.dictionary(headerName, fc.oneof(text, fc.array(text, { minLength: 1 })), { noNullPrototype: true }),
  timestamp: fc.integer({ min: 0, max: 2 ** 41 }).map(String),
});
const messages = fc.array(message, { minLength: 1 });

test("what is sent is byte for byte what kafkajs would send", { timeout: 60_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(messages, fc.integer({ min: 0 }), async (all, firstSequence) => {
      const partitions = [{ partition: 300, firstSequence, messages: all }];
      const request = { acks: -1, timeout: 30_000, topicData: [{ topic: "any", partitions }] };
      const [sent, expected] = await Promise.all([here.encode(request).encode(), there.encode(request).encode()]);
      expect(sent.buffer.equals(expected.buffer)).toBe(true);
    }),
  );
});

test("what is read is what kafkajs would read, with headers as texts", { timeout: 60_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(messages, async (all) => {
      const records = all.map((each, offsetDelta) => there.encodeRecord({ ...each, offsetDelta, timestampDelta: Number(each.timestamp) }));
      const { buffer } = await there.encodeBatch({ records, firstTimestamp: 0, maxTimestamp: 2 ** 41 });
      const [read, expected] = await Promise.all([here, there].map(({ decodeBatch, Decoder }) => decodeBatch(new Decoder(buffer))));
      const asTexts = ({ headers, ...rest }: Read) => ({
        ...rest,
        headers: Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)])),
      });
      expect(read?.records).toEqual(expected?.records.map(asTexts));
    }),
  );
});

test("a key goes to the partition that kafkajs, and so Kafka's own clients, would choose", () => {
  const choose = Partitioners.DefaultPartitioner();
  fc.assert(
    fc.property(fc.oneof(fc.uuid(), fc.string({ unit: "binary" })), fc.integer({ min: 1, max: 50 }), (key, partitions) => {
      const partitionMetadata = Array.from({ length: partitions }, (_, partitionId) => ({
        ...{ partitionId, partitionErrorCode: 0, leader: 1, replicas: [1], isr: [1] },
      }));
      expect(partitionOf(key, partitions)).toBe(choose({ topic: "any", partitionMetadata, message: { key, value: null } }));
    }),
    { numRuns: 1_000 },
  );
});
