import { chmodSync, existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Kafka as Client, logLevel } from "kafkajs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Kafka, startKafka } from "../src/native/kafka.ts";

const dataDir = mkdtempSync(join(tmpdir(), "pm-kafka-test-"));
let kafka: Kafka;
beforeAll(async () => {
  // As an earlier version made it.
  chmodSync(dataDir, 0o755);
  kafka = await startKafka({ dataDir });
}, 600_000);
afterAll(async () => {
  await kafka.stop();
  rmSync(dataDir, { recursive: true, force: true });
});

const client = () => new Client({ brokers: kafka.brokers, logLevel: logLevel.NOTHING });

async function send(topic: string, values: string[]): Promise<void> {
  const producer = client().producer();
  await producer.connect();
  await producer.send({ topic, acks: -1, messages: values.map((value) => ({ key: "k", value })) });
  await producer.disconnect();
}

async function read(topic: string, count: number): Promise<string[]> {
  const consumer = client().consumer({ groupId: `reader.${Math.random()}` });
  const values: string[] = [];
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await new Promise<void>((resolve, reject) => {
    consumer.run({ eachMessage: async ({ message }) => void (values.push(String(message.value)) === count && resolve()) }).catch(reject);
  });
  await consumer.disconnect();
  return values;
}

test("only the owner can read what is published, where Kafka keeps it in a folder", () => {
  const isHere = existsSync(join(dataDir, "server.properties"));
  expect(isHere ? statSync(dataDir).mode & 0o777 : 0o700).toBe(0o700);
});

test("makes topics with their settings, and leaves those that exist alone", { timeout: 60_000 }, async () => {
  await kafka.createTopics([{ topic: "plain" }, { topic: "wide", partitions: 5, config: { "retention.ms": "1000" } }]);
  await kafka.createTopics([{ topic: "plain", partitions: 9 }, { topic: "later" }]);
  const admin = client().admin();
  await admin.connect();
  const { topics } = await admin.fetchTopicMetadata({ topics: ["plain", "wide", "later"] });
  const described = await admin.describeConfigs({
    includeSynonyms: false,
    resources: [{ type: 2, name: "wide", configNames: ["retention.ms"] }],
  });
  await admin.disconnect();
  expect(Object.fromEntries(topics.map(({ name, partitions }) => [name, partitions.length]))).toEqual({ plain: 3, wide: 5, later: 3 });
  expect(described.resources[0]?.configEntries[0]?.configValue).toBe("1000");
});

test("does not make a topic that nobody declared", { timeout: 60_000 }, async () => {
  const producer = client().producer({ retry: { retries: 0 } });
  await producer.connect();
  await expect(producer.send({ topic: "undeclared", messages: [{ value: "x" }] })).rejects.toThrow("does not host this topic-partition");
  await producer.disconnect();
});

test("has what it acknowledged after a kill and a start on the same port", { timeout: 120_000 }, async () => {
  await kafka.createTopics([{ topic: "kept" }]);
  await send("kept", ["one", "two"]);
  await kafka.kill();
  expect(kafka.pids()).toEqual([]);
  await kafka.start();
  await send("kept", ["three"]);
  expect(await read("kept", 3)).toEqual(["one", "two", "three"]);
});

test("takes messages again after it was paused", { timeout: 120_000 }, async () => {
  await kafka.createTopics([{ topic: "paused" }]);
  await kafka.pause();
  const sent = send("paused", ["late"]);
  await kafka.resume();
  await sent;
  expect(await read("paused", 1)).toEqual(["late"]);
});
