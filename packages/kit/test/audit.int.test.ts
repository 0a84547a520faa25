/**
 * The audit chain and the leader loop over a real Postgres. The tamperer is the owner, since the runtime role may only
 * add and read.
 */
import { startPostgres } from "@pm/stack/native/postgres";
import { Pool } from "pg";
import { afterAll, beforeEach, expect, test } from "vitest";
import { createAuditTables } from "../src/audit/audit.ts";
import { knownHead } from "../src/audit/heads.ts";
import { createAuditPatients } from "../src/audit/migrations.ts";
import { divideTrail } from "../src/audit/months.ts";
import { createAuditTrail } from "../src/audit/trail.ts";
import { verifyAudit } from "../src/audit/verify.ts";
import { createLogger } from "../src/log.ts";
import { openDatabase } from "../src/postgres/database.ts";
import { sealAll } from "./sealing.ts";

const log = createLogger("test", "silent");
const postgres = await startPostgres({ durable: false });
const closers: (() => unknown)[] = [];
afterAll(async () => {
  for (const close of closers.reverse()) await close();
  await postgres.stop();
});

let owner: Pool;
let runtime: Pool;
let count = 0;

beforeEach(async () => {
  const { databaseUrl, migrationDatabaseUrl } = await postgres.createDatabase("audited", `audited_${++count}`);
  const db = openDatabase<unknown>({ settings: { url: migrationDatabaseUrl }, poolSize: 4, applicationName: "owner", log });
  owner = db.pool;
  await createAuditTables(db.kysely, "audited");
  await createAuditPatients(db.kysely, "audited");
  await divideTrail(db.kysely, "audited", log);
  const pool = new Pool({ connectionString: databaseUrl, max: 16 });
  // The server may close a connection while the pool closes it.
  pool.on("error", () => undefined);
  runtime = pool;
  closers.push(
    () => db.kysely.destroy(),
    () => pool.end(),
  );
});

/** Seals everything, as two replicas at once would. */
const seal = () => sealAll(String(runtime.options.connectionString), { sealers: 2 });

async function write(entries: number, action = "patient.read"): Promise<void> {
  const insert = "insert into audit_entries (actor, action, subject, request_id, details) values ($1, $2, $3, $4, $5)";
  await Promise.all(
    Array.from({ length: entries }, (_, index) =>
      runtime.query(insert, [`user-${index % 7}`, action, `patient-${index % 11}`, `request-${index}`, { index }]),
    ),
  );
}

test("an untouched chain is intact, whoever wrote at once and however many sealed it", async () => {
  await write(500);
  await seal();
  await write(300);
  await seal();
  expect(await verifyAudit(owner)).toMatchObject({ intact: true, entries: 800, unsealed: 0 });
});

test.each([
  ["changed", "update audit_entries set details = '{}' where id = 42", "42"],
  ["given another actor", "update audit_entries set actor = 'nobody' where id = 1", "1"],
  ["given another time", "update audit_entries set occurred_at = occurred_at + interval '1 microsecond' where id = 99", "99"],
  ["deleted", "delete from audit_entries where id = 77", "77"],
  [
    "swapped with another one",
    "update audit_entries set (actor, request_id, details) = (select actor, request_id, details from audit_entries other where other.id = 103 - audit_entries.id) where id in (50, 53)",
    "50",
  ],
])("an entry that was %s is named", async (_, tampering, id) => {
  await write(100);
  await seal();
  await owner.query(tampering);
  expect(await verifyAudit(owner)).toMatchObject({ intact: false, entryId: id });
});

test("an entry that was added behind the chain's back is named", async () => {
  await write(10);
  await seal();
  await owner.query("alter table audit_entries disable trigger all");
  const { rows } = await owner.query(
    "insert into audit_entries (actor, action, subject, request_id) values ('x', 'x', 'x', 'x') returning id::text",
  );
  expect(await verifyAudit(owner)).toMatchObject({ intact: false, entryId: rows[0].id });
});

test("a block that was deleted, or whose entries were reordered, is named by its first entry", async () => {
  for (let round = 0; round < 3; round++) {
    await write(10);
    await seal();
  }
  await owner.query(
    "update audit_blocks set entry_ids = array[entry_ids[2], entry_ids[1]] || entry_ids[3:], entry_hashes = array[entry_hashes[2], entry_hashes[1]] || entry_hashes[3:] where number = 2",
  );
  expect(await verifyAudit(owner)).toMatchObject({ intact: false, problem: expect.stringContaining("reordered") });
  await owner.query("delete from audit_blocks where number = 2");
  expect(await verifyAudit(owner)).toMatchObject({ intact: false, problem: expect.stringContaining("missing") });
});

test("a chain whose end was cut off no longer has the head that was noted", async () => {
  await write(10);
  await seal();
  await write(10);
  await seal();
  const before = await verifyAudit(owner);
  if (!before.intact) throw new Error("the chain should be intact");
  expect(await verifyAudit(owner, knownHead(before.head))).toMatchObject({ intact: true });
  await owner.query("delete from audit_entries where id = any(select unnest(entry_ids) from audit_blocks where number = $1)", [
    before.blocks,
  ]);
  await owner.query("delete from audit_blocks where number = $1", [before.blocks]);
  expect(await verifyAudit(owner)).toMatchObject({ intact: true });
  expect(await verifyAudit(owner, knownHead(before.head))).toMatchObject({ intact: false });
});

test("the runtime role can neither change nor delete an entry or a block", async () => {
  await write(1);
  await seal();
  for (const statement of [
    "update audit_entries set actor = 'x'",
    "delete from audit_entries",
    "update audit_blocks set hash = ''",
    "delete from audit_blocks",
    "truncate audit_entries",
  ])
    await expect(runtime.query(statement)).rejects.toMatchObject({ code: "42501" });
});

test("a burst of reads leaves an entry for each, in a few inserts", async () => {
  const url = `${runtime.options.connectionString}`;
  const db = openDatabase<unknown>({ settings: { url }, poolSize: 4, applicationName: "reader", log });
  const trail = createAuditTrail(db);
  const read = (n: number) => ({ actorId: "somebody", action: "thing.read", subject: `${n}`, requestId: `r${n}`, details: { version: n } });
  await Promise.all(Array.from({ length: 1_000 }, (_, n) => trail.record(read(n))));
  // A transaction id for each insert.
  const counts = "select count(*)::int as entries, count(distinct subject)::int as subjects, count(distinct xmin::text)::int as inserts";
  expect((await runtime.query(`${counts} from audit_entries`)).rows).toEqual([{ entries: 1_000, subjects: 1_000, inserts: 4 }]);
  await db.pool.end();
  await expect(trail.record(read(1_001))).rejects.toThrow();
});
