/** The outbox relay over a real Postgres and a real Kafka. */
import { randomUUID } from "node:crypto";
import { startKafka } from "@pm/stack/native/kafka";
import { startPostgres } from "@pm/stack/native/postgres";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createKafka, createSender, type Kafka, runConsumer } from "../src/kafka/client.ts";
import { createOutboxTable, startRelay } from "../src/kafka/outbox.ts";
import { createLogger } from "../src/log.ts";
import { type Database, openDatabase } from "../src/postgres/database.ts";
import { testLifecycle } from "./lifecycle.ts";

const log = createLogger("test", "silent");
const [postgres, broker] = await Promise.all([startPostgres({ durable: false }), startKafka()]);
let db: Database<unknown>;
let kafka: Kafka;
let url: string;
const lifecycle = testLifecycle();

beforeAll(async () => {
  const urls = await postgres.createDatabase("relayed");
  const owner = openDatabase<unknown>({ settings: { url: urls.migrationDatabaseUrl }, poolSize: 1, applicationName: "owner", log });
  await createOutboxTable(owner.kysely, "relayed");
  await owner.kysely.destroy();
  url = urls.databaseUrl;
  db = openDatabase({ settings: { url }, poolSize: 20, applicationName: "test", log, lifecycle });
  kafka = createKafka({ brokers: broker.brokers, clientId: "test" }, log);
  await broker.createTopics([{ topic: "relayed.v1", partitions: 3 }]);
});

afterAll(async () => {
  await lifecycle.shutdown("the test has ended");
  await Promise.all([postgres.stop(), broker.stop()]);
});

test("every committed row arrives once and in order per key, with two relays, late commits, rollbacks and a broker that dies", {
  timeout: 120_000,
}, async () => {
  const seen: { key: string; id: string; n: number; ceType: string }[] = [];
  await runConsumer({
    kafka,
    groupId: "relayed",
    topics: ["relayed.v1"],
    fromBeginning: true,
    log,
    lifecycle,
    async eachBatch({ batch, resolveOffset, commitOffsetsIfNecessary }) {
      for (const message of batch.messages) {
        const header = (name: string) => String(message.headers?.[name] ?? "");
        seen.push({ key: String(message.key), id: header("ce_id"), n: Number(message.value), ceType: header("ce_type") });
        resolveOffset(message.offset);
      }
      await commitOffsetsIfNecessary();
    },
  });
  const relays = [1, 2].map(() => startRelay({ db, settings: { url }, sender: createSender(kafka), service: "test", log, lifecycle }));

  const written: string[] = [];
  const keys = Array.from({ length: 20 }, () => randomUUID());
  const writeKey = async (key: string): Promise<void> => {
    for (let n = 0; n < 50; n++) {
      const client = await db.pool.connect();
      try {
        await client.query("begin");
        const eventId = randomUUID();
        await client.query(
          "insert into outbox (event_id, topic, key, type, payload, traceparent) values ($1, 'relayed.v1', $2, 'relayed.v1.Written', $3, '')",
          [eventId, key, Buffer.from(String(n))],
        );
        // Every other transaction stays open while later ids commit; every tenth is taken back.
        if (n % 2 === 0) await client.query("select pg_sleep(0.01)");
        const isTakenBack = n % 10 === 9;
        await client.query(isTakenBack ? "rollback" : "commit");
        if (!isTakenBack) written.push(eventId);
      } finally {
        client.release();
      }
      relays[n % 2]?.wake();
    }
  };
  const writing = Promise.all(keys.map(writeKey));
  await broker.kill();
  await writing;
  await broker.start();

  await expect.poll(() => new Set(seen.map((event) => event.id)).size, { timeout: 90_000, interval: 200 }).toBe(written.length);
  expect(new Set(seen.map((event) => event.id))).toEqual(new Set(written));
  expect(seen.every((event) => event.ceType === "relayed.v1.Written")).toBe(true);
  for (const key of keys) {
    // A batch whose acknowledgement was lost may be sent again; what counts is when each event first arrives.
    const firstSeen = [...new Set(seen.filter((event) => event.key === key).map((event) => event.n))];
    expect(firstSeen).toEqual([...firstSeen].sort((a, b) => a - b));
  }
  await expect.poll(async () => (await db.pool.query("select count(*)::int as n from outbox")).rows[0].n).toBe(0);
});

test("events that together are larger than a broker takes in one batch arrive in parts, in their order", { timeout: 60_000 }, async () => {
  await broker.createTopics([{ topic: "large.v1", partitions: 1 }]);
  const seen: number[] = [];
  await runConsumer({
    ...{ kafka, groupId: "large", topics: ["large.v1"], fromBeginning: true, log, lifecycle },
    async eachBatch({ batch, resolveOffset, commitOffsetsIfNecessary }) {
      for (const message of batch.messages) {
        seen.push(Number(message.value?.toString().slice(0, 5)));
        resolveOffset(message.offset);
      }
      await commitOffsetsIfNecessary();
    },
  });
  await db.pool.query(`insert into outbox (event_id, topic, key, type, payload, traceparent)
    select gen_random_uuid(), 'large.v1', 'one', 'large.v1.Written', convert_to(lpad(n::text, 5, '0') || repeat('x', 10000), 'UTF8'), '' from generate_series(1, 450) n`);
  startRelay({ db, settings: { url }, sender: createSender(kafka), service: "test", log, lifecycle }).wake();
  await expect.poll(() => new Set(seen).size, { timeout: 30_000 }).toBe(450);
  const firstSeen = [...new Set(seen)];
  expect(firstSeen).toEqual(firstSeen.toSorted((a, b) => a - b));
});
