/** Transactions, audit entries and outbox events over a real Postgres. */
import { randomUUID } from "node:crypto";
import { testDatabase } from "@pm/stack/testing";
import { afterAll, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { type AuditTables, createAuditTables, insertAuditEntries } from "../src/audit/audit.ts";
import { AppError } from "../src/errors.ts";
import { createOutboxTable, eventType, insertOutboxEvents, type OutboxTables } from "../src/kafka/outbox.ts";
import { createLogger } from "../src/log.ts";
import { type Database, openDatabase } from "../src/postgres/database.ts";
import { inTransaction, retryConflicts, type Transaction } from "../src/postgres/transaction.ts";

type Tables = { numbers: { id: number; value: number } } & AuditTables & OutboxTables;

const log = createLogger("test", "silent");
const urls = await testDatabase("transactions");
let owner: Database<Tables>;
let db: Database<Tables>;

beforeAll(async () => {
  owner = openDatabase({ settings: { url: urls.migrationDatabaseUrl }, poolSize: 2, applicationName: "owner", log });
  await createAuditTables(owner.kysely as never, "transactions");
  await createOutboxTable(owner.kysely as never, "transactions");
  await owner.pool.query("create table numbers (id int primary key, value int not null)");
  await owner.pool.query("grant select, insert, update, delete on numbers to transactions");
  db = openDatabase({ settings: { url: urls.databaseUrl }, poolSize: 4, applicationName: "test", log });
});
beforeEach(async () => {
  await db.pool.query("delete from numbers");
  await db.pool.query("insert into numbers values (1, 0), (2, 0)");
});
afterAll(async () => {
  await db.kysely.destroy();
  await owner.kysely.destroy();
  await urls.drop();
});

const values = async () => (await db.pool.query("select value from numbers order by id")).rows.map(({ value }) => value);
const add = (tx: Transaction<Tables>, id: number) =>
  tx.query({ name: "add", text: "update numbers set value = value + 1 where id = $1" }, [id]);

test("work waits for the work of its turn before it, for ten seconds at most", async () => {
  vi.useFakeTimers({ toFake: ["performance"] });
  const first = Promise.withResolvers<void>();
  const done: string[] = [];
  const inTurn = (name: string) => inTransaction(db, async () => void done.push(name), { turn: "a" });
  const running = inTransaction(db, () => first.promise, { turn: "a" });
  const late = inTurn("late").catch((error: unknown) => error);
  vi.advanceTimersByTime(9_000);
  const inTime = inTurn("in time");
  const other = inTransaction(db, async () => void done.push("other"), { turn: "b" });
  await other;
  vi.advanceTimersByTime(2_000);
  first.resolve();
  await running;
  expect(await late).toMatchObject({ code: "unavailable", options: { retryAfterSeconds: 1 } });
  await inTime;
  expect(done).toEqual(["other", "in time"]);
  vi.useRealTimers();
});

test("named statements and built queries of one transaction commit together, and are taken back together", async () => {
  const both = async (tx: Transaction<Tables>) => {
    await add(tx, 1);
    await tx.kysely.updateTable("numbers").set({ value: 7 }).where("id", "=", 2).execute();
    return (await tx.kysely.selectFrom("numbers").select("value").orderBy("id").execute()).map((row) => row.value);
  };
  const failing = inTransaction(db, async (tx) => {
    expect(await both(tx)).toEqual([1, 7]);
    throw new Error("changed its mind");
  });
  await expect(failing).rejects.toThrow("changed its mind");
  expect(await values()).toEqual([0, 0]);
  expect(await inTransaction(db, both)).toEqual([1, 7]);
  expect(await values()).toEqual([1, 7]);
});

test("of two transactions that lock each other out, both are carried out", async () => {
  let meeting = 0;
  const { promise: bothHaveTheFirst, resolve } = Promise.withResolvers<void>();
  const work = (first: number, second: number) => async (tx: Transaction<Tables>) => {
    await add(tx, first);
    if (++meeting === 2) resolve();
    await bothHaveTheFirst;
    await add(tx, second);
  };
  await Promise.all([inTransaction(db, work(1, 2)), inTransaction(db, work(2, 1))]);
  expect(await values()).toEqual([2, 2]);
  expect(meeting).toBe(3);
});

test("work that conflicts every time is given up with an error that the caller may read", async () => {
  let tries = 0;
  const losing = () => {
    tries++;
    return db.pool.query("insert into numbers values (1, 0)");
  };
  const isConflict = (error: unknown) => error instanceof Error && "code" in error && error.code === "23505";
  await expect(retryConflicts(losing, { tries: 2, isConflict })).rejects.toEqual(
    expect.objectContaining({ code: "aborted", options: expect.objectContaining({ reason: "TOO_MANY_CONFLICTS" }) }),
  );
  expect(tries).toBe(2);
  await expect(retryConflicts(losing)).rejects.not.toBeInstanceOf(AppError);
  expect(tries).toBe(3);
});

test("a connection whose transaction failed is used again", async () => {
  for (let i = 0; i < 10; i++)
    await expect(inTransaction(db, (tx) => tx.query({ name: "nonsense", text: "select * from nothing" }, []))).rejects.toThrow();
  expect(db.pool.totalCount).toBeLessThanOrEqual(4);
  expect(db.pool.idleCount).toBe(db.pool.totalCount);
});

test("audit entries and events are written in their order, with the transaction that they belong to", async () => {
  const event = (n: number) => ({
    ...{ eventId: randomUUID(), topic: "numbers.v1", key: "1", payload: Buffer.from([n]), traceparent: "00-1" },
    type: eventType("numbers.v1", "numberAdded"),
  });
  const entry = { actorId: "ada", action: "number.added", subject: "1", requestId: "request-1" };
  const write = async (tx: Transaction<Tables>) => {
    await insertOutboxEvents(tx, [event(1), event(2), event(3)]);
    await insertAuditEntries(tx, [entry, { ...entry, details: { by: 'a "person"' } }]);
    await insertAuditEntries(tx, []);
    await insertOutboxEvents(tx, []);
  };
  await expect(inTransaction(db, async (tx) => Promise.reject(await write(tx)))).rejects.toBeUndefined();
  await inTransaction(db, write);
  const events = await db.kysely.selectFrom("outbox").selectAll().orderBy("id").execute();
  expect(events.map(({ type, payload }) => [type, payload[0]])).toEqual([1, 2, 3].map((n) => ["numbers.v1.number_added", n]));
  const entries = await db.kysely.selectFrom("audit_entries").selectAll().orderBy("id").execute();
  expect(entries).toMatchObject([
    { actor: "ada", action: "number.added", subject: "1", request_id: "request-1", details: {} },
    { details: { by: 'a "person"' } },
  ]);
});

test.each([
  ["auth.v1", "sessionRevoked", "auth.v1.session_revoked"],
  ["billing.v1", "accountOpened", "billing.v1.account_opened"],
  ["patient.v1", "registered", "patient.v1.registered"],
])("the type of an event is topic, dot, snake case: %s %s", (topic, name, type) => {
  expect(eventType(topic, name)).toBe(type);
});
