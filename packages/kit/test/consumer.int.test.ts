/** A consumer group over a real Postgres and a real Kafka. */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { fromBinary } from "@bufbuild/protobuf";
import { DeadLetterSchema } from "@pm/proto/common/v1/dead_letter";
import { type TestDatabase, testDatabase, testKafka } from "@pm/stack/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { createKafka, createSender, type Kafka, runConsumer, type Sender } from "../src/kafka/client.ts";
import { startGroupConsumer } from "../src/kafka/consumer.ts";
import { createDeadLetterTable } from "../src/kafka/dead-letter-store.ts";
import { createDeadLetters } from "../src/kafka/dead-letters.ts";
import type { Apply } from "../src/kafka/event.ts";
import { watchLag } from "../src/kafka/lag.ts";
import { createOutboxTable, startRelay } from "../src/kafka/outbox.ts";
import { createLogger } from "../src/log.ts";
import { metrics } from "../src/metrics.ts";
import { type Database, openDatabase } from "../src/postgres/database.ts";
import { testLifecycle } from "./lifecycle.ts";

const log = createLogger("test", "silent");
const groupId = "numbers";
let urls: TestDatabase;
let db: Database<unknown>;
let kafka: Kafka;
let sender: Sender;
let topic: string;
const lifecycle = testLifecycle();

/** For as long as an event with the text "held" takes. */
let held: Promise<void> | undefined;
/** Poison until an operator has seen to it. */
const poison = new Set(["bad"]);
/** What `apply` was called with: the texts of each transaction. */
let transactions: string[][] = [];
const apply: Apply<unknown> = async (events, tx) => {
  transactions.push(events.map((event) => Buffer.from(event.value).toString()));
  for (const event of events) {
    const text = Buffer.from(event.value).toString();
    if (text === "held") await held;
    if (poison.has(text)) throw new Error("this number cannot be read");
    await sql`insert into numbers (id, key, text) values (${event.id}, ${event.key}, ${text}) on conflict do nothing`.execute(tx);
  }
};
const numbers = async (key: string) =>
  (await sql<{ text: string }>`select text from numbers where key = ${key} order by position`.execute(db.kysely)).rows.map(
    (row) => row.text,
  );
const message = (key: string, text: string, id: string = randomUUID()) => ({
  key,
  value: Buffer.from(text),
  headers: { ce_id: id, ce_type: "number", ce_time: new Date().toISOString() },
});
const send = (...of: Parameters<typeof message>) => sender.send([{ topic, messages: [message(...of)] }]);
const until = (check: () => Promise<unknown>) => vi.waitFor(check, { timeout: 30_000, interval: 50 });

beforeAll(async () => {
  urls = await testDatabase("numbers");
  const owner = openDatabase<unknown>({ settings: { url: urls.migrationDatabaseUrl }, poolSize: 1, applicationName: "owner", log });
  await createOutboxTable(owner.kysely, "numbers");
  await createDeadLetterTable(owner.kysely, "numbers");
  await sql`create table numbers (id uuid primary key, position bigint generated always as identity, key text, text text)`.execute(
    owner.kysely,
  );
  await sql`grant select, insert on numbers to numbers`.execute(owner.kysely);
  await owner.kysely.destroy();
  const settings = { url: urls.databaseUrl };
  db = openDatabase({ settings, poolSize: 5, applicationName: "test", log, lifecycle });
  const broker = await testKafka();
  topic = await broker.freshTopic("numbers.v1");
  kafka = createKafka({ brokers: broker.brokers, clientId: "test" }, log);
  sender = createSender(kafka);
  lifecycle.onClose("sender", () => sender.close());
  const relay = startRelay({ db, settings, sender: createSender(kafka), service: "numbers", log, lifecycle });
  startGroupConsumer({ kafka, groupId, topics: [topic], db, apply, relay, log, lifecycle, maxTries: 2 });
});

afterAll(async () => {
  await lifecycle.shutdown("the test has ended");
  await urls.drop();
});

test("an event that is delivered twice is applied once", async () => {
  const id = randomUUID();
  await send("twice", "1", id);
  await send("twice", "1", id);
  await send("twice", "2");
  await until(async () => expect(await numbers("twice")).toEqual(["1", "2"]));
});

test("a poisonous event waits as a dead letter with the later ones of its key; other keys go on; replay keeps the order", async () => {
  const published: string[] = [];
  await runConsumer({
    kafka,
    groupId: "numbers.watcher",
    topics: [`${topic}.dead`],
    fromBeginning: true,
    log,
    lifecycle,
    async eachBatch({ batch, resolveOffset }) {
      for (const { value, offset } of batch.messages) {
        resolveOffset(offset);
        const letter = fromBinary(DeadLetterSchema, value ?? new Uint8Array());
        published.push(`${Buffer.from(letter.payload)}: ${letter.reason}`);
      }
    },
  });
  await sender.send([{ topic, messages: ["1", "bad", "3"].map((text) => message("ill", text)) }]);
  await send("well", "1");
  await send("ill", "4");
  await until(async () => expect(await numbers("well")).toEqual(["1"]));
  await until(async () => expect(published).toHaveLength(3));
  expect(await numbers("ill")).toEqual(["1"]);
  expect(published).toEqual([
    "bad: this number cannot be read",
    "3: follows a dead letter of its key",
    "4: follows a dead letter of its key",
  ]);

  const letters = createDeadLetters({ db, groupId, apply });
  const waiting = await letters.list({ state: "waiting", limit: 10 });
  expect(waiting.map(({ tries, key }) => [key, tries])).toEqual([
    ["ill", 0],
    ["ill", 0],
    ["ill", 2],
  ]);
  const last = waiting[0]?.id ?? "";
  await expect(letters.replay(last)).rejects.toThrow("fails again: this number cannot be read");
  poison.delete("bad");
  expect(await letters.replay(last)).toBe(3);
  expect(await numbers("ill")).toEqual(["1", "bad", "3", "4"]);
  await send("ill", "5");
  await until(async () => expect(await numbers("ill")).toEqual(["1", "bad", "3", "4", "5"]));
});

test("a message that is no event becomes a dead letter at once, and a discarded letter stays away when it is delivered again", async () => {
  await sender.send([{ topic, messages: [{ key: "odd", value: Buffer.from("x"), headers: {} }] }]);
  const letters = createDeadLetters({ db, groupId, apply });
  await until(async () => {
    const [letter] = await letters.list({ state: "waiting", topic, limit: 1 });
    expect(letter).toMatchObject({ key: "odd", reason: "the header ce_id is not a UUID" });
    await letters.discard(letter?.id ?? "");
  });
  await send("odd", "after");
  await until(async () => expect(await numbers("odd")).toEqual(["after"]));
});

test("events of several partitions share a transaction, and a poisonous one costs those beside it a few more", async () => {
  const letters = createDeadLetters({ db, groupId, apply });
  const waiting = () => letters.list({ state: "waiting", limit: 10 });
  transactions = [];
  const keys = Array.from({ length: 120 }, (_, number) => `shared-${number}`);
  await sender.send([{ topic, messages: keys.map((key) => message(key, key)) }]);
  await until(async () => expect(await numbers(keys.at(-1) ?? "")).toHaveLength(1));
  expect(transactions.flat().sort()).toEqual([...keys].sort());
  expect(transactions.length).toBeLessThanOrEqual(2);

  poison.add("rotten");
  transactions = [];
  const others = Array.from({ length: 120 }, (_, number) => `beside-${number}`);
  await sender.send([{ topic, messages: others.map((key, number) => message(key, number === 60 ? "rotten" : key)) }]);
  await until(async () => expect((await waiting()).length).toBe(1));
  for (const [number, key] of others.entries()) if (number !== 60) await until(async () => expect(await numbers(key)).toEqual([key]));
  expect(transactions.length).toBeLessThan(30);
  const [letter] = await waiting();
  await letters.discard(letter?.id ?? "");
});

test("a letter that is being replayed cannot be discarded as well", async () => {
  poison.add("twice");
  await send("contested", "twice");
  const letters = createDeadLetters({ db, groupId, apply });
  const waiting = () => letters.list({ state: "waiting", topic, limit: 10 });
  await until(async () => expect((await waiting()).map(({ key }) => key)).toEqual(["contested"]));
  const id = (await waiting())[0]?.id ?? "";
  poison.delete("twice");
  const [begun, mayEnd] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const slowly = createDeadLetters({
    db,
    groupId,
    async apply(events, tx) {
      begun.resolve();
      await mayEnd.promise;
      await apply(events, tx);
    },
  });
  const replaying = slowly.replay(id);
  await begun.promise;
  const discarding = expect(letters.discard(id)).rejects.toThrow("was replayed already");
  mayEnd.resolve();
  expect(await replaying).toBe(1);
  await discarding;
  expect(await numbers("contested")).toEqual(["twice"]);
});

const lagIn = async (unit: "events" | "seconds") =>
  [...(await metrics.metrics()).matchAll(new RegExp(`^consumer_lag_${unit}\\{group="numbers"[^}]*\\} ([\\d.]+)`, "gm"))]
    .map(([, value]) => Number(value))
    .reduce((a, b) => (unit === "events" ? a + b : Math.max(a, b)), 0);

test("the age of the first event that is not applied is a metric, and nothing once all are applied", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  held = promise;
  const { headers, ...late } = message("slow", "held");
  const minuteAgo = new Date(Date.now() - 60_000).toISOString();
  await sender.send([{ topic, messages: [{ ...late, headers: { ...headers, ce_time: minuteAgo } }] }]);
  await until(async () => expect(await lagIn("seconds")).toBeGreaterThanOrEqual(60));
  resolve();
  await until(async () => expect(await lagIn("seconds")).toBe(0));
});

test("while the consumer is stuck, events that it has not fetched are counted and grow old", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  held = promise;
  await send("stuck", "held");
  await until(async () => expect(await lagIn("events")).toBe(1));
  for (const text of ["1", "2", "3"]) await send("stuck", text);
  await until(async () => expect(await lagIn("events")).toBe(4));
  const age = await lagIn("seconds");
  await delay(1_000);
  expect(await lagIn("seconds")).toBeGreaterThanOrEqual(age + 1);
  resolve();
  await until(async () => expect(await numbers("stuck")).toEqual(["held", "1", "2", "3"]));
  await until(async () => expect([await lagIn("events"), await lagIn("seconds")]).toEqual([0, 0]));
});

test("a group whose consumer has never joined is behind from what it finds", async () => {
  const broker = await testKafka();
  const fresh = await broker.freshTopic("unread.v1");
  await sender.send([{ topic: fresh, messages: [message("a", "1"), message("b", "2")] }]);
  const own = testLifecycle();
  watchLag({ kafka, groupId: "unread", topics: [fresh], lifecycle: own });
  const events = async () =>
    [...(await metrics.metrics()).matchAll(/^consumer_lag_events\{group="unread"[^}]*\} (\d+)/gm)].reduce(
      (sum, [, n]) => sum + Number(n),
      0,
    );
  await until(async () => expect(await events()).toBe(2));
  const seconds = async () => /^consumer_lag_seconds\{group="unread"[^}]*\} (0*[1-9]|0\.\d*[1-9])/m.test(await metrics.metrics());
  await until(async () => expect(await seconds()).toBe(true));
  await own.shutdown("the group has gone");
  expect(await metrics.metrics()).not.toContain('group="unread"');
});
