/** Roll-ups are a function of the set of events: however they come, and whether added as they come or from the log. */

import type { ConsumedEvent } from "@pm/kit/kafka/event";
import { createLogger } from "@pm/kit/log";
import { openDatabase } from "@pm/kit/postgres/database";
import { query } from "@pm/stack/native/postgres";
import { testDatabase } from "@pm/stack/testing";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { measures } from "../src/measures.ts";
import { up } from "../src/migrations/2026-11-21-day-parts.ts";
import { createRebuilds } from "../src/rebuild/rebuild.ts";
import { activeGeneration } from "../src/rollups/store.ts";
import { grains } from "../src/rollups/types.ts";
import type { AnalyticsDatabase } from "../src/tables.ts";
import { applyBatch, authEvent, billingEvent, idOf, money, patientEvent, registered } from "./testing.ts";

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

type Events = ConsumedEvent[];
const apply = (events: Events) => applyBatch(db, events);
const rollups = async () => {
  const generation = await activeGeneration(db.kysely);
  const text = `select measure, grain, slot, value, amount::text, by_quarter::text from rollups
    where generation = $1 and (amount <> 0 or 0 <> any(by_quarter)) order by 1, 2, 3, 4`;
  return (await db.pool.query(text, [generation])).rows;
};
const rebuilds = () => createRebuilds({ db, groupId: "analytics", log });

/** Everything that may happen to a few patients and their accounts within some months, corrections included. */
function history(run: number): fc.Arbitrary<Events> {
  const patient = (index: number) => `${run} ${index}`;
  const event = fc.oneof(
    ...patientEvents(patient),
    ...billingEvents(patient),
    at.map((time) => authEvent({ at: time }, { case: "signedIn", value: { userId: "u", sessionId: "s" } })),
    at.map((time) => authEvent({ at: time }, { case: "signInFailed", value: { reason: 1 } })),
  );
  return fc.array(event, { minLength: 1, maxLength: 40 });
}

const at = fc.integer({ min: Date.parse("2026-01-01"), max: Date.parse("2026-06-30") });
const who = fc.integer({ min: 0, max: 4 });

function patientEvents(patient: (index: number) => string) {
  const demographics = fc.record({
    dateOfBirth: fc.constantFrom("1950-02-28", "1996-02-29", "2020-12-31", ""),
    partialDateOfBirth: fc.constantFrom("", "", "1996", "2020-12", "20"),
    sex: fc.constantFrom("female", "male", ""),
    city: fc.constantFrom("Bonn", "Köln", ""),
    state: fc.constantFrom("NW", ""),
  });
  return [
    fc
      .tuple(who, at, demographics, fc.constantFrom(undefined, "2019-12-24"))
      .map(([p, time, values, registeredDate]) => registered(patient(p), time, { ...values, ...(registeredDate && { registeredDate }) })),
    fc
      .tuple(
        who,
        fc.integer({ min: 2, max: 9 }),
        at,
        fc.constantFrom("deleted" as const, "restored" as const, "updated" as const),
        demographics,
        fc.constantFrom("", "2026-02-01", "2019-12-24"),
      )
      .map(([p, version, time, what, values, registeredDate]) =>
        patientEvent(
          patient(p),
          version,
          { at: time },
          what === "deleted" ? { case: "deleted", value: {} } : { case: what, value: { demographics: values, registeredDate } },
        ),
      ),
    fc
      .tuple(who, who, fc.integer({ min: 2, max: 9 }), at, fc.boolean())
      .map(([p, other, version, time, back]) =>
        patientEvent(
          patient(p),
          version,
          { at: time },
          back
            ? { case: "unmerged", value: { unmergedPatientId: idOf(patient(other)) } }
            : { case: "merged", value: { mergedPatientId: idOf(patient(other)) } },
        ),
      ),
  ];
}

function billingEvents(patient: (index: number) => string) {
  const charge = fc.integer({ min: 0, max: 3 });
  return [
    fc.tuple(who, at).map(([p, time]) => billingEvent(patient(p), { at: time }, { case: "accountOpened", value: { currencyCode: "EUR" } })),
    fc
      .tuple(who, at, fc.constantFrom("HUF", "USD"))
      .map(([p, time, currencyCode]) =>
        billingEvent(patient(p), { at: time }, { case: "accountCurrencyChanged", value: { currencyCode } }),
      ),
    fc
      .tuple(who, charge, at, fc.integer({ min: 1, max: 99_999 }))
      .map(([p, c, time, cents]) =>
        billingEvent(patient(p), { at: time }, { case: "chargeCreated", value: { chargeId: `${c}`, amount: money(cents) } }),
      ),
    fc.tuple(who, charge, at, fc.integer({ min: 1, max: 99_999 })).map(([p, c, time, cents]) =>
      billingEvent(
        patient(p),
        { at: time },
        {
          case: "chargeVoided",
          value: { chargeId: `${c}`, amount: money(cents), allocations: [{ chargeId: `${c}`, amount: money(-cents) }] },
        },
      ),
    ),
    fc.tuple(who, charge, at, fc.integer({ min: 1, max: 99_999 })).map(([p, c, time, cents]) =>
      billingEvent(
        patient(p),
        { at: time },
        {
          case: "paymentRecorded",
          value: { paymentId: "1", amount: money(cents), allocations: [{ chargeId: `${c}`, amount: money(Math.ceil(cents / 2)) }] },
        },
      ),
    ),
    fc.tuple(who, charge, at, fc.integer({ min: 1, max: 99_999 })).map(([p, c, time, cents]) =>
      billingEvent(
        patient(p),
        { at: time },
        {
          case: "paymentRefunded",
          value: { paymentId: "1", refundId: "1", amount: money(cents), allocations: [{ chargeId: `${c}`, amount: money(-cents) }] },
        },
      ),
    ),
    fc.tuple(who, charge, charge, at, fc.integer({ min: 1, max: 99_999 })).map(([p, from, to, time, cents]) => {
      const allocations = [
        { chargeId: `${from}`, amount: money(-cents) },
        { chargeId: `${to}`, amount: money(cents) },
      ];
      return billingEvent(patient(p), { at: time }, { case: "paymentReallocated", value: { paymentId: "1", allocations } });
    }),
    fc.tuple(who, charge, at, fc.integer({ min: 1, max: 99_999 }), fc.nat(2)).map(([p, c, time, cents, kind]) => {
      const value = { amount: money(cents), reductions: [{ chargeId: `${c}`, amount: money(cents) }] };
      const cases = ["chargeDiscounted", "creditNoteIssued", "writtenOff"] as const;
      return billingEvent(patient(p), { at: time }, { case: cases[kind] ?? "writtenOff", value });
    }),
    fc
      .tuple(who, at, fc.constantFrom("ACTIVE", "SUSPENDED", "CLOSED"))
      .map(([p, time, status]) => billingEvent(patient(p), { at: time }, { case: "accountStatusChanged", value: { status } })),
  ];
}

test("what is added up as events come, in any order and more than once, is what a rebuild adds up from the log", {
  timeout: 120_000,
}, async () => {
  let run = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.integer().chain(() => history(run++)),
      fc.integer({ min: 1, max: 7 }),
      async (events, size) => {
        for (let start = 0; start < events.length; start += size) {
          const batch = events.slice(start, start + size);
          await apply(batch);
          // Every other batch is delivered again, as after a crash.
          if (start % 2 === 0) await apply(batch);
        }
        const incremental = await rollups();
        const before = await activeGeneration(db.kysely);
        await rebuilds().request();
        await rebuilds().step();
        expect(await activeGeneration(db.kysely)).toBe(1 - before);
        expect(await rollups()).toEqual(incremental);
      },
    ),
    { numRuns: 25, endOnFailure: true },
  );
});

test("events that come while a rebuild runs are in it, once", { timeout: 60_000 }, async () => {
  const events = Array.from({ length: 3_000 }, (_, index) => registered(`during ${index}`, Date.parse("2026-07-01") + index * 60_000));
  await apply(events.slice(0, 1_500));
  const { id } = await rebuilds().request();
  await expect(rebuilds().request()).rejects.toThrow(`A rebuild is under way: GET /analytics/rebuilds/${id}`);
  const work = rebuilds().step();
  for (let start = 1_500; start < 3_000; start += 100) await apply(events.slice(start, start + 100));
  await work;
  expect(await rebuilds().get(id)).toMatchObject({ state: "done" });
  const during = await rollups();
  const july = during.filter(
    (row) => row.measure === "patients.registered" && row.grain === 3 && row.slot === Date.UTC(2026, 6, 1) / 900_000,
  );
  expect(july).toMatchObject([{ amount: "3000" }]);
  await rebuilds().request();
  await rebuilds().step();
  expect(await rollups()).toEqual(during);
});

test("roll-ups of the release that kept quarters of an hour as rows count the same after the migration", { timeout: 60_000 }, async () => {
  const now = await rollups();
  const asBefore = [
    `insert into rollups (generation, measure, grain, slot, value, amount)
      select generation, measure, 0, slot + n - 1, value, by_quarter[n] - coalesce(by_quarter[n - 1], 0) from rollups, generate_series(1, 96) n
      where by_quarter[n] <> coalesce(by_quarter[n - 1], 0)`,
    "alter table rollups drop column by_quarter",
  ];
  await query(migrationDatabaseUrl, async (client) => {
    for (const text of asBefore) await client.query(text);
  });
  const owner = openDatabase({ settings: { url: migrationDatabaseUrl }, poolSize: 1, applicationName: "test", log });
  await owner.kysely.transaction().execute(up);
  await owner.kysely.destroy();
  const isOld = ({ grain, measure }: { grain: number; measure: string }) =>
    grain === grains.quarterHour && measure !== measures.patients.registeredProfile;
  const migrated = await rollups();
  expect(migrated.filter(isOld).length).toBeGreaterThan(100);
  expect(migrated.filter((row) => !isOld(row))).toEqual(now);
  // A rebuild follows anyway, because the release before may have added more to the old rows.
  expect(await rebuilds().step()).toBe("done");
  expect(await rollups()).toEqual(now);
});
