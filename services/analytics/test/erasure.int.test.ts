/**
 * Erasing a patient in analytics: totals stay, breakdowns say "unknown", live and after a rebuild, and no value stays.
 */
import { randomUUID } from "node:crypto";
import { verifyAudit } from "@pm/kit/audit/verify";
import type { ConsumedEvent } from "@pm/kit/kafka/event";
import { createLogger } from "@pm/kit/log";
import { openDatabase } from "@pm/kit/postgres/database";
import { tablesWith } from "@pm/kit/test/tables";
import { query } from "@pm/stack/native/postgres";
import { testDatabase } from "@pm/stack/testing";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { findErasure } from "../src/erasure/store.ts";
import { createRebuilds } from "../src/rebuild/rebuild.ts";
import { activeGeneration } from "../src/rollups/store.ts";
import type { AnalyticsDatabase } from "../src/tables.ts";
import { applyBatch, billingEvent, idOf, money, patientEvent, registered } from "./testing.ts";

const log = createLogger("test", "silent");
let db: AnalyticsDatabase;
let migrationDatabaseUrl: string;
let drop: () => Promise<void>;
beforeAll(async () => {
  const urls = await testDatabase("analytics");
  ({ migrationDatabaseUrl, drop } = urls);
  db = openDatabase({ settings: { url: urls.databaseUrl }, poolSize: 4, applicationName: "test", log });
});
afterAll(async () => {
  await db.kysely.destroy();
  await drop();
});

const apply = (...events: ConsumedEvent[]) => applyBatch(db, events);
const asOwner = (text: string, values: unknown[] = []) =>
  query(migrationDatabaseUrl, async (client) => (await client.query(text, values)).rows);
const erased = (patient: string, version: number, at = "2026-05-01T10:00:00Z") =>
  patientEvent(patient, version, { at }, { case: "erased", value: { erasureId: idOf(`erasure of ${patient}`) } });
const rollups = async () => {
  const generation = await activeGeneration(db.kysely);
  const text = `select measure, grain, slot, value, amount::text, by_quarter::text from rollups
    where generation = $1 and (amount <> 0 or 0 <> any(by_quarter)) order by 1, 2, 3, 4`;
  return (await db.pool.query(text, [generation])).rows;
};
async function rebuild() {
  const rebuilds = createRebuilds({ db, groupId: "analytics", log });
  await rebuilds.request();
  await rebuilds.step();
  return rebuilds;
}
/** Sums of a measure over all days, by value. */
async function sums(measure: string): Promise<Record<string, number>> {
  const generation = await activeGeneration(db.kysely);
  const text = `select value, sum(amount)::int as n from rollups where generation = $1 and measure = $2 and grain in (1, 2)
    and grain = (select max(grain) from rollups where generation = $1 and measure = $2 and grain <= 2) group by value having sum(amount) <> 0`;
  return Object.fromEntries((await db.pool.query(text, [generation, measure])).rows.map(({ value, n }) => [value, n]));
}
test("the person moves to unknown in every breakdown, totals stay, and a rebuild gives the same", async () => {
  const totals = async () => [await sums("patients.registered"), await sums("billing.charged")];
  const charge = { case: "chargeCreated" as const, value: { chargeId: randomUUID(), amount: money(500) } };
  await apply(
    registered("other", "2026-03-01T10:00:00Z"),
    registered("gone", "2026-03-02T10:00:00Z", { city: "Quillonville", state: "QV", sex: "other" }),
    billingEvent("gone", { at: "2026-03-02T11:00:00Z" }, charge),
  );
  const moved = { dateOfBirth: "1955-05-05", sex: "other", city: "Quillonbury", state: "QB" };
  await apply(patientEvent("gone", 2, { at: "2026-03-03T10:00:00Z" }, { case: "updated", value: { demographics: moved } }));
  const before = await totals();
  await apply(erased("gone", 3));
  expect(await totals()).toEqual(before);
  expect(await sums("patients.registered.city")).toEqual({ Springfield: 1, "": 1 });
  expect(await sums("patients.deleted")).toEqual({ "": 1 });
  const noted = async () => (await asOwner("select removed from erasures where patient_id = $1", [idOf("gone")]))[0].removed;
  expect(await noted()).toMatchObject({ events: 2, deadLetters: 0, copiesOfDeadLetters: 0, rollups: expect.any(Number) });
  const { rollups: changed } = await noted();
  expect(changed).toBeGreaterThan(0);
  const again = erased("gone", 3);
  const { erasure_id } = (await findErasure(db, idOf("gone"), undefined)) ?? {};
  expect(erasure_id).toBeDefined();
  expect(await findErasure(db, idOf("gone"), again.id)).toBeUndefined();
  await apply(again);
  expect(await findErasure(db, idOf("gone"), again.id)).toMatchObject({ erasure_id });
  const later = { case: "chargeCreated" as const, value: { chargeId: randomUUID(), amount: money(100) } };
  await apply(billingEvent("gone", { at: "2026-03-04T10:00:00Z" }, later));
  expect((await noted()).rollups).toBe(changed);
  for (const word of ["Quillonville", "Quillonbury", "1955-05-05"]) expect(await tablesWith(migrationDatabaseUrl, word), word).toEqual([]);
  const live = await rollups();
  await rebuild();
  expect(await rollups()).toEqual(live);
  expect(await verifyAudit(db.pool)).toMatchObject({ intact: true });
});

test("an event that comes after the erasure, or again, changes nothing and leaves no value", async () => {
  const first = registered("late", "2026-03-02T10:00:00Z", { city: "Latetown" });
  const update = { demographics: { city: "Laterville" }, changedFields: [] };
  await apply(first, erased("late", 3));
  await apply(patientEvent("late", 2, { at: "2026-03-03T10:00:00Z" }, { case: "updated", value: update }), first);
  const live = await rollups();
  await apply(erased("late", 3));
  expect(await rollups()).toEqual(live);
  for (const word of ["Latetown", "Laterville"]) expect(await tablesWith(migrationDatabaseUrl, word), word).toEqual([]);
  await rebuild();
  expect(await rollups()).toEqual(live);
});

test("whatever happened to some patients, in whatever order: with erasures, live roll-ups and a rebuild agree", async () => {
  let run = 0;
  const at = fc.integer({ min: Date.parse("2026-01-01"), max: Date.parse("2026-06-30") });
  const who = fc.integer({ min: 0, max: 3 });
  const demographics = fc.record({
    dateOfBirth: fc.constantFrom("1950-02-28", ""),
    sex: fc.constantFrom("male", ""),
    city: fc.constantFrom("Bonn", "Köln"),
  });
  const event = fc.oneof(
    fc.tuple(who, at, demographics).map(
      ([p, time, values]) =>
        (r: number) =>
          registered(`${r} ${p}`, time, values),
    ),
    fc.tuple(who, fc.integer({ min: 2, max: 6 }), at, demographics, fc.constantFrom("updated" as const, "restored" as const)).map(
      ([p, version, time, values, what]) =>
        (r: number) =>
          patientEvent(`${r} ${p}`, version, { at: time }, { case: what, value: { demographics: values } }),
    ),
    fc.tuple(who, who, fc.integer({ min: 2, max: 6 }), at).map(
      ([p, q, version, time]) =>
        (r: number) =>
          patientEvent(`${r} ${p}`, version, { at: time }, { case: "merged", value: { mergedPatientId: idOf(`${r} ${q}`) } }),
    ),
    fc.tuple(who, at).map(
      ([p, time]) =>
        (r: number) =>
          patientEvent(`${r} ${p}`, 2, { at: time }, { case: "deleted", value: {} }),
    ),
    fc.tuple(who, at).map(
      ([p, time]) =>
        (r: number) =>
          erased(`${r} ${p}`, 9, new Date(time).toISOString()),
    ),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(event, { minLength: 1, maxLength: 30 }), fc.integer({ min: 1, max: 5 }), async (makers, size) => {
      run += 1;
      const events = makers.map((make) => make(run));
      for (let first = 0; first < events.length; first += size) await apply(...events.slice(first, first + size));
      const live = await rollups();
      await rebuild();
      expect(await rollups()).toEqual(live);
    }),
    { numRuns: 25 },
  );
});

test("a rebuild during which somebody is erased begins again", async () => {
  await apply(registered("while", "2026-03-02T10:00:00Z", { city: "Whileville" }));
  const idle = 1 - (await activeGeneration(db.kysely));
  const rebuilds = createRebuilds({ db, groupId: "analytics", log });
  await rebuilds.request();
  // Locks stop it after it has read this patient, and before it writes what it has read.
  const lock = async (table: string) => {
    const client = await db.pool.connect();
    await client.query(`begin; lock table ${table} in share mode`);
    return async () => {
      await client.query("commit");
      client.release();
    };
  };
  const isStopped = (table: string) =>
    asOwner("select 1 from pg_locks where relation = $1::regclass and not granted", [table]).then((rows) => rows.length > 0);
  const start = await lock("rebuilds");
  const done = rebuilds.step();
  await expect.poll(() => isStopped("rebuilds"), { timeout: 10_000 }).toBe(true);
  const write = await lock(`rollups_${idle}`);
  await start();
  await expect.poll(() => isStopped(`rollups_${idle}`), { timeout: 10_000 }).toBe(true);
  await apply(erased("while", 2));
  await write();
  await done;
  const rebuilt = await rollups();
  await rebuild();
  expect(rebuilt).toEqual(await rollups());
});

test("the roll-ups from before a rebuild are emptied, so that nobody stays in them", async () => {
  await apply(registered("idle", "2026-03-02T10:00:00Z", { city: "Idleton" }));
  const rebuilds = await rebuild();
  await apply(erased("idle", 2));
  expect(await tablesWith(migrationDatabaseUrl, "Idleton")).not.toEqual([]);
  await asOwner("update rollup_state set rebuilt_at = now() - interval '2 minutes'");
  await rebuilds.step();
  expect(await tablesWith(migrationDatabaseUrl, "Idleton")).toEqual([]);
});

test("dead letters of the person lose their demographics, and copies that wait to be published go", async () => {
  const { key, value } = registered("dead", "2026-03-02T10:00:00Z", { city: "Deadwood" });
  const letter = `insert into dead_letters (consumer_group, event_id, topic, partition, "offset", key, type, source, event_time, traceparent, payload, reason, tries, state)
    values ('analytics', gen_random_uuid(), 'patient.v1', 0, 0, $1, '', '', now(), '', $2, '', 1, 'discarded')`;
  await asOwner(letter, [key, Buffer.from(value)]);
  await asOwner(letter, [key, Buffer.from("Deadwood, unreadable")]);
  const copy =
    "insert into outbox (event_id, topic, key, type, payload, traceparent) values (gen_random_uuid(), 'patient.v1.dead', $1, '', $2, '')";
  await asOwner(copy, [key, Buffer.from("Deadwood")]);
  await apply(erased("dead", 2));
  expect(await tablesWith(migrationDatabaseUrl, "Deadwood")).toEqual([]);
});

test("the service can change events by the function alone", async () => {
  const denied = [
    "update events set payload = ''",
    "delete from events",
    "insert into erasures (patient_id, erasure_id) values (gen_random_uuid(), gen_random_uuid())",
    "update audit_entries set details = '{}'",
  ];
  for (const text of denied) await expect(db.pool.query(text), text).rejects.toMatchObject({ code: "42501" });
});
