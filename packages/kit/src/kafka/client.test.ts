/**
 * Batches when a broker fails, sent by kafkajs to two simulated brokers; the partition of a key; the patch of kafkajs.
 */
import { createRequire } from "node:module";
import fc from "fast-check";
import { type Kafka, Partitioners, type ProducerConfig } from "kafkajs";
import { expect, test } from "vitest";
import { createSender, partitionOf } from "./client.ts";

type Entry = { topic: string; partitions: { partition: number; messages: { key: string }[] }[] };
const require = createRequire(import.meta.url);
const sendMessages = require("kafkajs/src/producer/sendMessages") as (parts: object) => (batch: object) => Promise<[]>;

type RequestQueue = { pending: object[]; throttleCheckTimeoutId: NodeJS.Timeout | null; scheduleCheckPendingRequests(): void };
const RequestQueue = require("kafkajs/src/network/requestQueue") as new (options: object) => RequestQueue;

/** Brokers 1 and 2 lead a partition each, until broker 1 fails and broker 2 leads both. */
function twoBrokers() {
  const written: string[] = [];
  const leaders = [1, 2];
  let failures = 1;
  const broker = (nodeId: number) => ({
    nodeId,
    async produce({ topicData }: { topicData: Entry[] }) {
      if (nodeId === 1 && failures-- > 0) {
        // By then the other broker has answered.
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

test("an empty request queue is not polled, and one with a pending request is", () => {
  const logger = { namespace: () => logger, debug: () => undefined };
  const queue = new RequestQueue({ maxInFlightRequests: 1, requestTimeout: 1_000, enforceRequestTimeout: false, logger });
  queue.scheduleCheckPendingRequests();
  expect(queue.throttleCheckTimeoutId).toBeNull();
  queue.pending.push({});
  queue.scheduleCheckPendingRequests();
  expect(queue.throttleCheckTimeoutId).not.toBeNull();
  clearTimeout(queue.throttleCheckTimeoutId ?? undefined);
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
