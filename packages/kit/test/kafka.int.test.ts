/** The client of Kafka over a real Kafka. */
import { createHook } from "node:async_hooks";
import { setTimeout as delay } from "node:timers/promises";
import { testKafka } from "@pm/stack/testing";
import { expect, test } from "vitest";
import { createKafka, createSender, offsetsOf } from "../src/kafka/client.ts";
import { createLogger } from "../src/log.ts";

const shared = await testKafka();
const kafka = createKafka({ clientId: "test", brokers: shared.brokers }, createLogger("test", "silent"));
const message = (key: string) => ({ key, value: Buffer.from(key), headers: {} });

test("a connection that has nothing to do leaves its process alone", async () => {
  const sender = createSender(kafka);
  await sender.send([{ topic: await shared.freshTopic("rest"), messages: [message("one")] }]);
  const made: string[] = [];
  const hook = createHook({ init: (_, type) => void made.push(type) }).enable();
  await delay(1_000);
  hook.disable();
  await sender.close();
  expect(made.filter((type) => type === "Timeout").length).toBeLessThan(20);
});

test("where a topic begins and ends is known for every partition", async () => {
  const topic = await shared.freshTopic("ends");
  const sender = createSender(kafka);
  await sender.send([{ topic, messages: ["one", "two", "three"].map(message) }]);
  await sender.close();
  const offsets = await offsetsOf(kafka, [topic]);
  expect([...offsets.keys()].toSorted()).toEqual([`${topic}/0`, `${topic}/1`, `${topic}/2`]);
  expect([...offsets.values()].map(({ low }) => low)).toEqual([0n, 0n, 0n]);
  expect([...offsets.values()].reduce((sum, { high }) => sum + high, 0n)).toBe(3n);
});
