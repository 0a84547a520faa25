/** The log and the roll-ups over a real Postgres. */

import { addDays, localDateAt } from "@pm/kit/calendar";
import { createLogger } from "@pm/kit/log";
import { openDatabase } from "@pm/kit/postgres/database";
import { testDatabase } from "@pm/stack/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { applyEvents } from "../src/ingest/ingest.ts";
import { unmatchedPatients } from "../src/ingest/store.ts";
import type { PeriodQuery } from "../src/reports/period.ts";
import { createReports } from "../src/reports/reports.ts";
import { createRollupQueries } from "../src/rollups/query.ts";
import { activeGeneration } from "../src/rollups/store.ts";
import type { AnalyticsDatabase } from "../src/tables.ts";
import { billingEvent, idOf, patientEvent, registered } from "./testing.ts";

const log = createLogger("test", "silent");
let db: AnalyticsDatabase;
let drop: () => Promise<void>;

beforeAll(async () => {
  const urls = await testDatabase("analytics");
  drop = urls.drop;
  db = openDatabase({ settings: { url: urls.databaseUrl }, poolSize: 4, applicationName: "test", log });
});
afterAll(async () => {
  await db.kysely.destroy();
  await drop();
});

const apply = (...events: Parameters<typeof applyEvents>[0]) => db.kysely.transaction().execute((tx) => applyEvents(events, tx));
const patients = async (query: PeriodQuery & { by?: "ageBand" }) => {
  const reports = createReports({ db, now: () => Date.parse("2026-11-21T12:00:00Z"), clinicTimeZone: "UTC" });
  return (await reports.patients(query, true)).make();
};

test("a redelivered event counts once, on the local day of whoever asks, and days without any are zero", async () => {
  const late = registered("late", "2026-11-19T22:30:00Z");
  await apply(late, registered("early", "2026-11-21T08:00:00Z"));
  await apply(late);
  const berlin = await patients({ from: "2026-11-19", to: "2026-11-21", interval: "day", timeZone: "Europe/Berlin" });
  expect(berlin.series.map((each) => [each.start, each.registered, each.active])).toEqual([
    ["2026-11-19", 1, 1],
    ["2026-11-20", 0, 1],
    ["2026-11-21", 1, 2],
  ]);
  const kathmandu = await patients({ from: "2026-11-19", to: "2026-11-21", interval: "day", timeZone: "Asia/Kathmandu" });
  expect(kathmandu.series.map((each) => each.registered)).toEqual([0, 1, 1]);
});

test("a deletion, a restoration and a merge correct what they touch, even where they come before the registration", async () => {
  const day = { from: "2026-03-01", to: "2026-03-31", interval: "month", timeZone: "UTC" } as const;
  await apply(patientEvent("swapped", 2, { at: "2026-03-05T10:00:00Z" }, { case: "deleted", value: {} }));
  expect((await patients(day)).totals).toMatchObject({ registered: 0, deleted: 0, activeAtEnd: 0 });
  await apply(registered("swapped", "2026-03-04T10:00:00Z"));
  expect((await patients(day)).totals).toMatchObject({ registered: 1, deleted: 1, net: 0, activeAtEnd: 0 });
  await apply(patientEvent("swapped", 3, { at: "2026-03-06T10:00:00Z" }, { case: "restored", value: {} }));
  expect((await patients(day)).totals).toMatchObject({ registered: 1, deleted: 1, restored: 1, net: 1, activeAtEnd: 1 });
});

test("patients without account and accounts without patient are counted and named, whichever was heard of first", async () => {
  const generation = await activeGeneration(db.kysely);
  const measures = ["consistency.patientsWithoutAccount", "consistency.accountsWithoutPatient"];
  const counts = async () => {
    const now = await createRollupQueries(db)(generation).now(measures);
    return measures.map((measure) => now.count(measure));
  };
  const withoutAccount = () => unmatchedPatients(db, "patient.v1", "billing.v1", 10_000);
  const withoutPatient = () => unmatchedPatients(db, "billing.v1", "patient.v1", 10_000);
  const at = "2026-04-04T10:00:00Z";
  const opened = (patient: string) => billingEvent(patient, { at }, { case: "accountOpened", value: { currencyCode: "EUR" } });
  const [patients = 0, accounts = 0] = await counts();
  await apply(registered("alone", at), opened("orphan"), registered("both", at), opened("both"));
  expect(await counts()).toEqual([patients + 1, accounts + 1]);
  const named = await withoutAccount();
  expect(named).toHaveLength(patients + 1);
  expect(named).toContain(idOf("alone"));
  expect(named).toEqual(named.toSorted().toReversed());
  expect(await unmatchedPatients(db, "patient.v1", "billing.v1", 1)).toEqual(named.slice(0, 1));
  expect(await withoutPatient()).toEqual([idOf("orphan")]);
  await apply(opened("alone"), registered("orphan", at));
  expect(await counts()).toEqual([patients, accounts]);
  expect(await withoutAccount()).not.toContain(idOf("alone"));
  expect(await withoutPatient()).toEqual([]);
});

test("a registration of long ago counts on the day that the clinic gave, in every time zone", async () => {
  await apply(registered("old", "2026-05-05T10:00:00Z", { registeredDate: "1999-12-31" }));
  for (const timeZone of ["UTC", "Pacific/Kiritimati", "America/Los_Angeles"]) {
    const report = await patients({ from: "1999-12-01", to: "1999-12-31", interval: "month", timeZone });
    expect(report.totals).toMatchObject({ registered: 1, activeAtEnd: 1 });
  }
});

test("a registration counts on the day that the last change of the record says", async () => {
  const registeredOn = async (from: string, to: string) =>
    (await patients({ from, to, interval: "month", timeZone: "UTC" })).totals.registered;
  const years = () => Promise.all(["1997", "1998"].map((year) => registeredOn(`${year}-01-01`, `${year}-12-31`)));
  const at = "2026-06-05T10:00:00Z";
  await apply(
    registered("moved", at),
    patientEvent("moved", 2, { at }, { case: "updated", value: { registeredDate: "1997-03-01" } }),
    patientEvent("moved", 3, { at }, { case: "deleted", value: {} }),
  );
  expect(await years()).toEqual([1, 0]);
  await apply(patientEvent("moved", 4, { at }, { case: "restored", value: { registeredDate: "1998-03-01" } }));
  expect(await years()).toEqual([0, 1]);
  await apply(
    patientEvent("moved", 5, { at }, { case: "merged", value: { mergedPatientId: idOf("other"), registeredDate: "1997-05-01" } }),
  );
  expect(await years()).toEqual([1, 0]);
  await apply(
    patientEvent("moved", 6, { at }, { case: "unmerged", value: { unmergedPatientId: idOf("other"), registeredDate: "1998-05-01" } }),
  );
  expect(await years()).toEqual([0, 1]);
  // An event of the version before does not say it.
  await apply(patientEvent("moved", 7, { at }, { case: "restored", value: {} }));
  expect(await years()).toEqual([0, 1]);
});

test("ages count from the middle of a year or month of birth, but from no day after the registration", async () => {
  const born = (name: string, partialDateOfBirth: string) =>
    registered(name, "2026-01-20T12:00:00Z", { dateOfBirth: "", partialDateOfBirth, city: "Middleton" });
  await apply(born("ten in July", "2016"), born("ten in mid-January", "2016-01"), born("newborn", "2026"), born("unknown", ""));
  const january = { from: "2026-01-01", to: "2026-01-31", interval: "month", timeZone: "UTC", by: "ageBand" } as const;
  const rows = (await patients(january)).breakdown?.rows.filter(({ registered }) => registered) ?? [];
  expect(rows.map(({ value, registered, active }) => [value, registered, active])).toEqual([
    ["0-9", 2, 1],
    ["10-19", 1, 2],
    ["", 1, 1],
  ]);
});

test("the runtime role can neither change nor delete an event", async () => {
  await expect(db.pool.query("delete from events")).rejects.toThrow("permission denied");
  await expect(db.pool.query("update events set version = 2")).rejects.toThrow("permission denied");
});

test.each(["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kolkata", "Pacific/Chatham"])(
  "a year by day in %s has every registration on its local day",
  async (timeZone) => {
    const now = Date.parse("2025-12-31T12:00:00Z");
    // Every five hours and a bit, so that every quarter of an hour and both changes of the clocks are hit.
    const instants = Array.from({ length: 1_600 }, (_, index) => Date.parse("2024-12-31T00:10:00Z") + index * 19_740_000);
    if (timeZone === "UTC") await apply(...instants.map((at, index) => registered(`year ${index}`, at)));
    const byDay = Map.groupBy(instants, (at) => localDateAt(at, timeZone));
    const reports = createReports({ db, now: () => now, clinicTimeZone: "UTC" });
    const { series } = await (await reports.patients({ from: "2025-01-01", to: "2025-12-31", interval: "day", timeZone }, true)).make();
    expect(series.map(({ start, registered }) => [start, registered])).toEqual(
      Array.from({ length: 365 }, (_, day) => addDays("2025-01-01", day)).map((date) => [date, byDay.get(date)?.length ?? 0]),
    );
  },
);

test("the log has read a partition to its end also where the end repeats events of the same batch", async () => {
  const [again, once] = [registered("sent-again", "2020-11-20T08:00:00Z"), registered("sent-once", "2020-11-20T08:00:00Z")];
  await apply(...[again, once, again].map((event, offset) => ({ ...event, partition: 7, offset: BigInt(offset) })));
  const { rows } = await db.pool.query("select next_offset::int from watermarks where partition = 7");
  expect(rows).toEqual([{ next_offset: 3 }]);
});
