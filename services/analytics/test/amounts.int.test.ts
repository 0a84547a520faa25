/**
 * Amounts at their bounds through every report and page, over a real Postgres: nothing is rounded and nothing fails.
 */

import { createAuditTrail } from "@pm/kit/audit/trail";
import { createRestApp, type RestApp } from "@pm/kit/http/rest";
import type { ConsumedEvent } from "@pm/kit/kafka/event";
import { createLogger } from "@pm/kit/log";
import { formatMoney } from "@pm/kit/money";
import { openDatabase } from "@pm/kit/postgres/database";
import { testDatabase } from "@pm/stack/testing";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createCharts } from "../src/charts/renderer.ts";
import { registerDashboard } from "../src/dashboard/rest.ts";
import type { DashboardSessions } from "../src/dashboard/session.ts";
import { eachMoneyFlow, moneyFlows } from "../src/measures.ts";
import { createRebuilds } from "../src/rebuild/rebuild.ts";
import { createReports } from "../src/reports/reports.ts";
import { registerReports } from "../src/reports/rest.ts";
import { about } from "../src/reports/schemas.ts";
import type { AnalyticsDatabase } from "../src/tables.ts";
import { applyBatch, billingEvent, money } from "./testing.ts";

const log = createLogger("test", "silent");
let db: AnalyticsDatabase;
let app: RestApp["app"];
let closeCharts: () => unknown;
let drop: () => Promise<void>;

const caller = {
  ...{
    kind: "user" as const,
    id: "somebody",
    sessionId: "s",
    roles: [],
    teams: [],
    hasSecondFactor: false,
    token: "",
    expiresAt: 0,
    issuedAt: 0,
  },
  scopes: new Set(["analytics:read" as const, "analytics:detail" as const]),
};
const sessions = { viewer: async () => ({ caller, cookie: undefined }) } as unknown as DashboardSessions;

beforeAll(async () => {
  const urls = await testDatabase("analytics");
  drop = urls.drop;
  db = openDatabase({ settings: { url: urls.databaseUrl }, poolSize: 4, applicationName: "test", log });
  const lifecycle = { onClose: () => undefined, onReady: () => undefined, notReady: async () => [], shutdown: async () => undefined };
  const audit = createAuditTrail(db);
  const rest = createRestApp({
    service: "analytics",
    ...about,
    log,
    lifecycle,
    verifier: { verify: async () => caller, onRevoked: () => () => undefined },
    audit,
  });
  const charts = createCharts({ onClose: (_, close) => (closeCharts = close) });
  const now = () => Date.parse("2026-11-21T12:00:00Z");
  const reports = createReports({ db, now, clinicTimeZone: "UTC" });
  registerReports(rest, { reports, charts, audit });
  registerDashboard(rest, { reports, charts, sessions, audit, clinicTimeZone: "UTC", now });
  app = rest.app;
});
afterAll(async () => {
  await closeCharts();
  await db.kysely.destroy();
  await drop();
});

const apply = (events: ConsumedEvent[]) => applyBatch(db, events);

async function textOf(path: string): Promise<string> {
  const response = await app.request(path);
  expect(response.status, path).toBe(200);
  return await response.text();
}

/** As a client that loses nothing reads it. */
function parse(text: string) {
  const revive = (_key: string, value: unknown, { source = "" }: { source?: string }) =>
    typeof value === "number" ? BigInt(source) : value;
  return JSON.parse(text, revive as (key: string, value: unknown) => unknown);
}

type Flows = ReturnType<typeof eachMoneyFlow<bigint>>;
type Expected = Flows & { outstanding: bigint; credit: bigint };
type Row = Flows & { outstanding: bigint; credit: bigint; aging: bigint[] };
const sum = (amounts: bigint[]) => amounts.reduce((total, amount) => total + amount, 0n);

/** Every report, chart and page that has money in it says what is expected. */
async function expectEverywhere(currency: string, expected: Expected): Promise<void> {
  const { outstanding, credit, ...flows } = expected;
  const net = flows.charged - flows.voided - flows.discounted - flows.credited;
  for (const query of ["interval=month", "interval=day&timeZone=Asia/Kathmandu"]) {
    const path = `/analytics/billing?from=2026-08-01&to=2026-11-21&${query}&currency=${currency}`;
    const report = parse(await textOf(path)) as { totals: object; aging: { amount: bigint }[]; series: Row[] };
    expect(report.totals).toMatchObject({ ...flows, outstandingAtEnd: outstanding, creditAtEnd: credit });
    expect(sum(report.aging.map(({ amount }) => amount))).toBe(outstanding);
    expect(report.series.at(-1)).toMatchObject({ outstanding, credit });
    for (const flow of moneyFlows) expect(sum(report.series.map((row) => row[flow]))).toBe(flows[flow]);
    const csv = await textOf(`${path}&format=csv`);
    expect(csv.trim().split("\n").at(-1)?.split(",").slice(11, 13)).toEqual([String(outstanding), String(credit)]);
    const drawn = { money: net, outstanding, aging: report.aging[0]?.amount ?? 0n };
    for (const [chart, amount] of Object.entries(drawn)) {
      const svg = await textOf(`${path}&format=svg&chart=${chart}`);
      expect(svg).toContain(formatMoney({ currencyCode: currency, minorUnits: amount }, "code"));
      expect(svg).not.toMatch(/NaN|Infinity|undefined/);
    }
  }
  const summary = `/analytics/summary?from=2026-08-01&to=2026-11-21&currency=${currency}`;
  const { billing } = parse(await textOf(summary)) as { billing: { now: object } };
  expect(billing.now).toMatchObject({ ...flows, outstandingAtEnd: outstanding, creditAtEnd: credit });
  expect(await textOf(`${summary}&format=csv`)).toContain(`billing,outstandingAtEnd,${outstanding},`);
  const page = await textOf(`/analytics/dashboard?from=2026-08-01&to=2026-11-21&interval=month&currency=${currency}`);
  const numbers = { Charged: net, Collected: flows.collected, Refunded: flows.refunded, Outstanding: outstanding };
  for (const [name, minorUnits] of Object.entries(numbers))
    expect(page).toContain(`<dt>${name}</dt><dd>${formatMoney({ currencyCode: currency, minorUnits }, "code")} <small>`);
}

const bounds = [1n, 2n ** 32n - 1n, 2n ** 32n, 10n ** 12n - 1n, 10n ** 12n, 2n ** 53n - 1n, 2n ** 53n];
const nexts = ["nothing", "void", "discount and void", "write-off", "payment", "credit note", "refund"] as const;
type Step = { amount: bigint; minute: number; account: number; next: (typeof nexts)[number] };
const first = Date.parse("2026-08-01T06:00:00Z");
const minutesOfAll = 110 * 24 * 60;

let currencies = 0;
/** A currency that nobody has used yet. */
const newCurrency = () => `X${String.fromCharCode(65 + Math.floor(currencies / 26), 65 + (currencies++ % 26))}`;

/**
 * Charges, each of which may be voided, also after a discount of about half, or written off. Or it is paid with as much
 * again as credit, and that refunded, or the charge credited.
 */
function eventsOf(currency: string, steps: Step[]) {
  const expected: Expected = { ...eachMoneyFlow(() => 0n), outstanding: 0n, credit: 0n };
  const of = (minorUnits: bigint) => money(minorUnits, currency);
  const events = steps.flatMap(({ amount, minute, account, next }, index) => {
    const chargeId = `${currency}${index}`;
    const add = (minutes: number, what: Parameters<typeof billingEvent>[2]) =>
      billingEvent(`${currency} ${account}`, { at: first + (minute + minutes) * 60_000 }, what);
    // Reports have gross amounts, so a tax in an amount changes nothing.
    const tax = { code: "VAT", rateBasisPoints: 10_000, net: of(amount - amount / 2n), tax: of(amount / 2n), gross: of(amount) };
    const charge = add(0, { case: "chargeCreated", value: { chargeId, amount: of(amount), ...(index % 2 === 1 && { tax }) } });
    expected.charged += amount;
    if (next === "nothing") expected.outstanding += amount;
    if (next === "nothing") return [charge];
    if (next === "void") {
      expected.voided += amount;
      return [charge, add(30, { case: "chargeVoided", value: { chargeId, amount: of(amount) } })];
    }
    const settled = { chargeId, amount: of(amount) };
    if (next === "discount and void") {
      const discount = (amount + 1n) / 2n;
      expected.discounted += discount;
      expected.voided += amount - discount;
      const reductions = [{ chargeId, amount: of(discount) }];
      const discounted = add(20, { case: "chargeDiscounted", value: { amount: of(discount), reductions } });
      return [charge, discounted, add(30, { case: "chargeVoided", value: { chargeId, amount: of(amount - discount) } })];
    }
    if (next === "write-off") {
      expected.writtenOff += amount;
      return [charge, add(30, { case: "writtenOff", value: { amount: of(amount), reductions: [settled] } })];
    }
    const payment = add(40, { case: "paymentRecorded", value: { paymentId: chargeId, amount: of(amount * 2n), allocations: [settled] } });
    expected.collected += amount * 2n;
    expected.credit += amount;
    if (next === "payment") return [charge, payment];
    const opened = { chargeId, amount: of(-amount) };
    if (next === "credit note") {
      expected.credited += amount;
      expected.credit += amount;
      const value = { amount: of(amount), reductions: [settled], allocations: [opened] };
      return [charge, payment, add(50, { case: "creditNoteIssued", value })];
    }
    const value = { paymentId: chargeId, refundId: chargeId, amount: of(amount * 2n), allocations: [opened] };
    expected.refunded += amount * 2n;
    expected.credit -= amount;
    expected.outstanding += amount;
    return [charge, payment, add(50, { case: "paymentRefunded", value })];
  });
  return { events, expected };
}

const used = new Map<string, Expected>();
async function countAndExpect(steps: Step[]): Promise<void> {
  const currency = newCurrency();
  const { events, expected } = eventsOf(currency, steps);
  used.set(currency, expected);
  await apply(events);
  await expectEverywhere(currency, expected);
}

test("a charge of 2^53 leaves every report as it was, for its own currency and for others", async () => {
  const step = { minute: 0, account: 0, next: "nothing" } as const;
  await countAndExpect([{ ...step, amount: 2n ** 53n }]);
  await countAndExpect([{ ...step, amount: 100n }]);
  for (const report of ["patients", "activity", "summary", "billing"]) await textOf(`/analytics/${report}`);
});

test.each(["void", "discount and void", "credit note"] as const)("nothing is charged after: %s", async (next) => {
  await countAndExpect([{ amount: 100n, minute: 0, account: 0, next }]);
  const page = await textOf(`/analytics/dashboard?from=2026-08-01&to=2026-11-21&interval=month&currency=${[...used.keys()].at(-1)}`);
  expect(page).toMatch(/<dt>Charged<\/dt><dd>\S+ 0\.00 /);
});

test("thousands of amounts at the bounds add up exactly in every report, chart and page", { timeout: 240_000 }, async () => {
  const steps = fc.array(
    fc.record<Step>({
      amount: fc.constantFrom(...bounds),
      minute: fc.nat(minutesOfAll),
      account: fc.nat(20),
      next: fc.constantFrom(...nexts),
    }),
    { minLength: 200, maxLength: 400, size: "max" },
  );
  await fc.assert(fc.asyncProperty(steps, countAndExpect), { numRuns: 8, endOnFailure: true });
});

test("a sum that 64 bits do not hold is exact within a quarter of an hour, and after a rebuild", { timeout: 240_000 }, async () => {
  const step = { amount: 2n ** 53n, minute: 100, next: "nothing" } as const;
  await countAndExpect(Array.from({ length: 1_500 }, (_, account) => ({ ...step, account })));
  const rebuilds = createRebuilds({ db, groupId: "analytics", log });
  await rebuilds.request();
  await rebuilds.step();
  for (const [currency, expected] of used) await expectEverywhere(currency, expected);
});

test("what an earlier release counted whole adds up with what is counted in parts", async () => {
  const currency = newCurrency();
  const step = { amount: 2n ** 53n - 1n, minute: 100, account: 0 };
  const { events, expected } = eventsOf(currency, [
    { ...step, next: "void" },
    { ...step, next: "nothing" },
  ]);
  const [charge, voided, other] = events;
  await apply([charge, other].filter((event) => event !== undefined));
  const parts = "like $1 || ' ×%'";
  await db.pool.query(
    `insert into rollups (generation, measure, grain, slot, value, amount, by_quarter)
      select generation, measure, grain, slot, $1::text, amount * 4294967296, array(select unnest(by_quarter) * 4294967296)
      from rollups where value ${parts}
      on conflict (generation, measure, grain, slot, value) do update set amount = rollups.amount + excluded.amount,
        by_quarter = case when rollups.by_quarter is not null
          then array(select a + b from unnest(rollups.by_quarter, excluded.by_quarter) as q(a, b)) end`,
    [currency],
  );
  await db.pool.query(`delete from rollups where value ${parts}`, [currency]);
  await apply([voided].filter((event) => event !== undefined));
  await expectEverywhere(currency, expected);
});
