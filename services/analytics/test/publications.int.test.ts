/** Weekly publications over a real Postgres: when they are made, of what, and that they never change. */

import { createLogger } from "@pm/kit/log";
import { query } from "@pm/stack/native/postgres";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createRebuilds } from "../src/rebuild/rebuild.ts";
import { type App, openAnalytics } from "./app.ts";
import { applyBatch, authEvent, billingEvent, money, patientEvent, registered } from "./testing.ts";

const clock = { now: 0 };
let app: App;
beforeEach(async () => {
  clock.now = Date.parse("2026-11-24T12:00:00+01:00");
  app = await openAnalytics(clock, "Europe/Berlin");
});
afterEach(() => app.close());

let people = 0;
const register = (count: number, at: string, demographics = {}) =>
  applyBatch(
    app.db,
    Array.from({ length: count }, () => registered(`p${people++}`, at, demographics)),
  );
type Report = {
  from: string;
  to: string;
  interval: string;
  timeZone: string;
  asOf: null;
  publishedTo: string | null;
  totals: Record<string, number | null>;
  lastYear: Record<string, number | null>;
  series: Record<string, number | string | null>[];
  breakdown: { rows: { value: string; registered: number | null; active: number | null }[] };
  currencies: string[];
};
const report = async (path: string) => {
  const response = await app.get(`/analytics/${path}`);
  expect(response.status, path).toBe(200);
  return (await response.json()) as Report;
};
const registeredIn = async () =>
  (await report("patients?from=2026-11-01&to=2026-11-29")).series.map(({ start, registered }) => [start, registered]);

test("a week from Monday to Sunday in the clinic's zone is published on Tuesday at midnight, and later events change nothing", async () => {
  // Sunday 8 November 23:30 in Berlin, and the Monday after it at 00:30.
  await register(12, "2026-11-08T22:30:00Z");
  await register(13, "2026-11-08T23:30:00Z");
  clock.now = Date.parse("2026-11-17T00:00:00+01:00") - 1;
  await app.publish();
  expect(await registeredIn()).toEqual([["2026-11-02", 12]]);
  clock.now += 1;
  await app.publish();
  expect(await registeredIn()).toEqual([
    ["2026-11-02", 12],
    ["2026-11-09", 13],
  ]);
  const before = await (await app.get("/analytics/summary")).text();
  await register(40, "2026-11-10T10:00:00Z");
  expect(await (await app.get("/analytics/summary")).text()).toBe(before);
  expect(await report("patients")).toMatchObject({
    to: "2026-11-15",
    interval: "week",
    timeZone: "Europe/Berlin",
    asOf: null,
    publishedTo: "2026-11-15",
    totals: { registered: 25, activeAtEnd: 25 },
    lastYear: { registered: null },
  });
  // What came late is in the next publication.
  clock.now = Date.parse("2026-11-24T00:00:00+01:00");
  await app.publish();
  expect((await registeredIn()).at(-1)).toEqual(["2026-11-16", 40]);
});

test("a small number waits until there are more, and nothing is lost", async () => {
  for (const [day, count] of [
    ["02", 4],
    ["09", 5],
    ["16", 3],
  ] as const)
    await register(count, `2026-11-${day}T10:00:00Z`);
  await app.publish();
  expect(await registeredIn()).toEqual([
    ["2026-11-02", null],
    ["2026-11-09", null],
    ["2026-11-16", 12],
  ]);
  expect((await report("patients?from=2026-11-01&to=2026-11-15")).totals).toMatchObject({ registered: null, activeAtEnd: null });
  expect((await report("patients")).totals).toMatchObject({ registered: 12, deleted: 0, activeAtEnd: 12 });
  // A correction is counted like everything else: these twelve wait until there are more deletions.
  await applyBatch(app.db, [patientEvent(`p${people - 1}`, 2, { at: "2026-11-24T10:00:00Z" }, { case: "deleted", value: {} })]);
  clock.now = Date.parse("2026-12-01T12:00:00Z");
  await app.publish();
  expect((await report("patients")).totals).toMatchObject({ registered: 12, deleted: null, activeAtEnd: 12 });
});

test("a breakdown shows what is large, names no place of a few patients, and a state is the sum of its cities", async () => {
  const of = (city: string, sex: string, state = "NRW") => ({ city, state, sex });
  await register(30, "2026-11-10T10:00:00Z", of("Bonn", "female"));
  await register(20, "2026-11-10T10:00:00Z", of("Köln", "male"));
  await register(3, "2026-11-10T10:00:00Z", of("Unkel", "other", "RLP"));
  await app.publish();
  const rows = async (by: string) => (await report(`patients?by=${by}`)).breakdown.rows;
  expect(await rows("city")).toEqual([{ value: "Bonn", registered: 30, active: null }]);
  expect(await rows("state")).toEqual([{ value: "NRW", registered: 30, active: null }]);
  expect(await rows("sex")).toEqual([
    { value: "female", registered: 30, active: null },
    { value: "male", registered: null, active: null },
    { value: "other", registered: null, active: null },
    { value: "unknown", registered: null, active: null },
    { value: "", registered: null, active: null },
  ]);
  const csv = await (await app.get("/analytics/patients?by=city&format=csv")).text();
  expect(csv).toBe("city,registered,active\nBonn,30,hidden\n");
  const svg = await (await app.get("/analytics/patients?by=city&format=svg")).text();
  expect(svg).toContain("Bonn");
  expect(svg).not.toMatch(/Unkel|Köln/);
});

test("an amount is shown with eleven accounts behind it, none of which has nearly all, and a currency of one is not named", async () => {
  const charge = (account: string, at: string, amount: number, currency = "EUR") =>
    billingEvent(
      account,
      { at },
      { case: "chargeCreated", value: { chargeId: `${account}${at}${amount}`, amount: money(amount, currency) } },
    );
  const accounts = Array.from({ length: 11 }, (_, index) => `account ${index}`);
  await applyBatch(
    app.db,
    accounts.slice(0, 6).map((account) => charge(account, "2026-11-03T10:00:00Z", 2_000)),
  );
  await applyBatch(
    app.db,
    accounts.map((account) => charge(account, "2026-11-10T10:00:00Z", 1_000)),
  );
  await applyBatch(app.db, [charge("account 0", "2026-11-10T11:00:00Z", 700, "USD")]);
  await applyBatch(
    app.db,
    accounts.map((account, index) => charge(account, "2026-11-10T12:00:00Z", index === 0 ? 10_000 : 10, "CHF")),
  );
  await app.publish();
  const billing = await report("billing");
  expect(billing.currencies).toEqual(["EUR"]);
  expect(billing.totals).toMatchObject({ charged: 23_000, charges: 17, voided: 0, outstandingAtEnd: null, creditAtEnd: null });
  expect(billing.series.map(({ start, charged }) => [start, charged])).toEqual([
    ["2026-11-02", null],
    ["2026-11-09", 23_000],
    ["2026-11-16", 0],
  ]);
  // A currency of few accounts is answered like one that nobody uses.
  for (const currency of ["USD", "CHF", "JPY"])
    expect(new Set(Object.values((await report(`billing?currency=${currency}`)).totals))).toEqual(new Set([null]));
});

test("what is discounted or credited is published with what is voided, and is not charged", async () => {
  const accounts = Array.from({ length: 11 }, (_, index) => `account ${index}`);
  const at = "2026-11-10T10:00:00Z";
  const reduce = (account: string, index: number) =>
    billingEvent(account, { at }, { case: index < 5 ? "chargeDiscounted" : "creditNoteIssued", value: { amount: money(300) } });
  await applyBatch(
    app.db,
    accounts.map((account) => billingEvent(account, { at }, { case: "chargeCreated", value: { chargeId: account, amount: money(1_000) } })),
  );
  const reductions = accounts.map(reduce);
  await applyBatch(app.db, reductions.slice(0, 10));
  await app.publish();
  const published = async () => {
    const page = await (await app.page("/analytics/dashboard")).text();
    return [(await report("billing")).totals, /<dt>Charged<\/dt><dd>(.*?) <small>/.exec(page)?.[1]];
  };
  const alone = { charged: 11_000, discounted: null, credited: null, writtenOff: null };
  expect(await published()).toMatchObject([{ ...alone, voided: null }, "EUR 110.00"]);
  // What ten accounts wait with is shown with the eleventh.
  await applyBatch(app.db, reductions.slice(10));
  clock.now = Date.parse("2026-12-01T12:00:00Z");
  await app.publish();
  expect(await published()).toMatchObject([{ ...alone, voided: 3_300 }, "EUR 77.00"]);
});

test("sign-ins are published too, and the reasons of failures only beside enough others", async () => {
  const failed = (count: number, reason: number) =>
    Array.from({ length: count }, () => authEvent({ at: "2026-11-10T10:00:00Z" }, { case: "signInFailed", value: { reason } }));
  const signedIn = Array.from({ length: 5 }, () =>
    authEvent({ at: "2026-11-10T10:00:00Z" }, { case: "signedIn", value: { userId: "u", sessionId: "s" } }),
  );
  await applyBatch(app.db, [...failed(20, 1), ...failed(12, 2), ...failed(2, 3), ...signedIn]);
  await app.publish();
  const activity = (await report("activity")) as unknown as { totals: object; failures: object[] };
  expect(activity.totals).toEqual({ signedIn: null, failed: 34, sessionsEnded: 0, usersDisabled: 0 });
  expect(activity.failures).toEqual([
    { reason: "unknown", count: null },
    { reason: "credentials", count: 20 },
    { reason: "secondFactor", count: null },
    { reason: "throttled", count: null },
  ]);
});

test("another zone and another interval are refused with the fix, and days are extended to whole weeks", async () => {
  await register(12, "2026-11-10T10:00:00Z");
  await app.publish();
  const problems = async (query: string) => {
    const response = await app.get(`/analytics/patients?${query}`);
    return [response.status, ((await response.json()) as { errors?: object[] }).errors];
  };
  const needs = "without the scope analytics:detail, there are only whole weeks of the clinic's days";
  expect(await problems("timeZone=Asia/Tokyo&interval=day")).toEqual([
    400,
    [
      { path: "interval", message: `must be week or left out: ${needs}` },
      { path: "timeZone", message: `must be Europe/Berlin or left out: ${needs}` },
    ],
  ]);
  expect(await problems("from=2026-11-12&to=2026-11-11")).toMatchObject([400, [{ path: "from" }]]);
  expect(await problems("from=2000-01-01&to=2026-11-11")).toMatchObject([400, [{ path: "from" }]]);
  expect(await report("patients?from=2026-11-11&to=2026-11-12&interval=week&timeZone=europe/berlin")).toMatchObject({
    from: "2026-11-09",
    to: "2026-11-15",
    totals: { registered: 12 },
  });
  expect(await report("patients?from=2027-01-11&to=2027-01-12")).toMatchObject({
    to: "2027-01-17",
    totals: { registered: null },
    series: [],
  });
  const detail = "analytics:read analytics:detail";
  expect((await app.get("/analytics/patients?timeZone=Asia/Tokyo&interval=day", detail)).status).toBe(200);
});

test("replicas that publish at the same time, one of which is killed in the middle, make each publication once", async () => {
  for (const week of ["02", "09", "16"]) await register(20, `2026-11-${week}T10:00:00Z`);
  const waiting = async () => {
    const text = "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    return (await app.db.pool.query<{ pid: number }>(text)).rows;
  };
  const first = app.createPublisher();
  await query(app.urls.migrationDatabaseUrl, async (client) => {
    await client.query("begin; lock table publication_figures in exclusive mode");
    const killed = expect(first.step()).rejects.toThrow();
    await expect.poll(waiting).toHaveLength(1);
    const [{ pid } = { pid: 0 }] = await waiting();
    await app.db.pool.query("select pg_terminate_backend($1)", [pid]);
    await killed;
    await client.query("rollback");
  });
  expect((await app.db.pool.query("select from publications")).rowCount).toBe(0);
  const untilDone = async ({ step }: { step: () => Promise<string> }) => {
    while ((await step()) === "more");
  };
  await Promise.all([first, app.createPublisher(), app.createPublisher()].map(untilDone));
  expect(await registeredIn()).toEqual([
    ["2026-11-02", 20],
    ["2026-11-09", 20],
    ["2026-11-16", 20],
  ]);
});

test("publications stay as they are after a rebuild, and not even the service's own role can change them", async () => {
  await register(20, "2026-11-10T10:00:00Z");
  await app.publish();
  const rows = async () => (await app.db.pool.query("select * from publication_figures order by measure, week, value")).rows;
  const before = await rows();
  await register(15, "2026-11-10T11:00:00Z");
  const rebuilds = createRebuilds({ db: app.db, groupId: "analytics", log: createLogger("test", "silent") });
  await rebuilds.request();
  await rebuilds.step();
  await app.publish();
  expect(await rows()).toEqual(before);
  for (const table of ["publications", "publication_figures"])
    for (const change of [`update ${table} set week = week`, `delete from ${table}`, `truncate ${table} cascade`])
      await query(app.urls.databaseUrl, (client) => expect(client.query(change)).rejects.toThrow("permission denied"));
});

test("the first start publishes past weeks one by one, five years at most, and what is older with the first of them", async () => {
  await register(15, "2015-03-03T10:00:00Z");
  await register(15, "2026-11-10T10:00:00Z");
  const publisher = app.createPublisher();
  expect(await publisher.step()).toBe("more");
  const weeks = async () => (await app.db.pool.query("select week from publications order by week")).rows.map(({ week }) => week);
  expect(await weeks()).toEqual(["2021-11-29"]);
  await app.publish();
  expect(await weeks()).toHaveLength(260);
  expect((await report("patients")).totals).toMatchObject({ registered: 15, activeAtEnd: 30 });
});

test("the dashboard is complete without the scope for details, and says what it does not show", async () => {
  const page = async () => (await app.page("/analytics/dashboard?timeZone=Asia/Tokyo&interval=day")).text();
  expect(await page()).toContain("Nothing is published yet.");
  await register(30, "2026-11-10T10:00:00Z", { city: "Bonn" });
  await register(3, "2026-11-10T10:00:00Z", { city: "Unkel" });
  await app.publish();
  expect((await app.page("/analytics/dashboard?from=1900-01-01")).status).toBe(200);
  const shown = await page();
  for (const text of ["Registrations per week", "Registrations by age", "Europe/Berlin", "published up to 2026-11-22", "analytics:detail"])
    expect(shown).toContain(text);
  expect(shown).toMatch(/Registered<\/dt><dd>33 /);
  expect(shown).not.toMatch(/Unkel|Time zone|Outstanding/);
});
