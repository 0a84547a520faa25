/**
 * An attack on small counts by somebody without analytics:detail, over a real Postgres: ten thousand reports of random
 * periods, zones, breakdowns and formats while events come in. All of them say only what the publications say, and from
 * these a solver finds no count of 1 to 10 and no amount of an account.
 */
import { addDays } from "@pm/kit/calendar";
import { afterAll, beforeAll, expect, test } from "vitest";
import { countOf, failureReasons, measures } from "../src/measures.ts";
import { registeredByPlace } from "../src/publications/figures.ts";
import { type App, openAnalytics } from "./app.ts";
import { createAttacker } from "./attacker.ts";
import { applyBatch, authEvent, billingEvent, money, patientEvent, registered } from "./testing.ts";

const weeks = 8;
const requests = 10_000;
const firstMonday = "2026-09-28";
const zone = "Europe/Berlin";
const mondays = Array.from({ length: weeks }, (_, week) => addDays(firstMonday, week * 7));
const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
const clock = { now: 0 };
let app: App;
beforeAll(async () => {
  app = await openAnalytics(clock, zone);
});
afterAll(() => app.close());

/** Numbers from 0 to `most` that follow from the seed. */
let state = seed;
function random(most: number): number {
  state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
  return Math.floor((state / 2 ** 31) * (most + 1));
}
const pick = <T>(values: readonly T[]): T => values[random(values.length - 1)] as T;

const sexes = ["female", "male", "other"] as const;
const births = ["2020-01-01", "1990-01-01", "1980-01-01", "1930-01-01"];
const bands = ["0-9", "30-39", "40-49", "90+"];
const cities = ["Bonn", "Köln", "Linz", "Unkel"];
const reasons = failureReasons.slice(1);
const accounts = 14;

/** What each publication has counted, by measure and value: only the test knows it. */
const truth = mondays.map(() => new Map<string, number>());
const amounts = mondays.map(() => new Map<string, number>());
const note = (week: number, measure: string, value = "", amount = 1) => {
  const counts = truth[week] as Map<string, number>;
  counts.set(`${measure} ${value}`, (counts.get(`${measure} ${value}`) ?? 0) + amount);
};
const { registeredBy } = measures.patients;
const { charged, voided, collected } = measures.billing;
const { signedIn, failed, failedBy } = measures.activity;

let people = 0;
/** In this week every sex and every reason of a failure is large enough to be shown, whatever the seed. */
const busyWeek = 5;
/** Events of a week. Some are of the week before, and came too late for its publication. */
function eventsOf(week: number) {
  const at = () => Date.parse(`${addDays(mondays[week] ?? "", random(6) - (week > 0 && random(9) === 0 ? 7 : 0))}T10:00:00Z`);
  const sizes = { female: pick([3, 14]), male: pick([2, 9]), other: pick([0, 0, 1]) };
  const registrations = sexes.flatMap((sex) =>
    Array.from({ length: week === busyWeek ? 12 + random(8) : random(sizes[sex]) }, () => {
      const band = pick([0, 1, 1, 2, 2, 3]);
      const city = cities[pick([0, 0, 0, 0, 1, 1, 2, 3])] ?? "";
      note(week, measures.patients.registered);
      note(week, registeredBy.sex, sex);
      note(week, registeredBy.ageBand, bands[band]);
      note(week, registeredByPlace, city);
      const born = { dateOfBirth: births[band] ?? "" };
      return registered(`p${people++}`, at(), { sex, city, state: "NRW", ...born, registeredDate: "" });
    }),
  );
  const deletions = Array.from({ length: people > 30 ? random(4) : 0 }, () => {
    note(week, measures.patients.deleted);
    return patientEvent(`p${deleted++}`, 2, { at: Date.parse(`${mondays[week]}T12:00:00Z`) }, { case: "deleted", value: {} });
  });
  const failures = reasons.flatMap((reason, index) =>
    Array.from({ length: week === busyWeek ? 12 + random(8) : random([16, 6, 2][index] ?? 0) }, () => {
      note(week, failed);
      note(week, failedBy, reason);
      return authEvent({ at: at() }, { case: "signInFailed", value: { reason: index + 1 } });
    }),
  );
  const signIns = Array.from({ length: random(12) }, () => {
    note(week, signedIn);
    return authEvent({ at: at() }, { case: "signedIn", value: { userId: "u", sessionId: "s" } });
  });
  return [...registrations, ...deletions, ...failures, ...signIns, ...moneyOf(week, at)];
}
let deleted = 0;

/** Charges, discounts, credit notes and payments in EUR of many accounts, and charges in USD of one. */
function moneyOf(week: number, at: () => number) {
  const noteAmount = (measure: string, account: number, amount: number) =>
    amounts[week]?.set(`${measure} ${account}`, (amounts[week]?.get(`${measure} ${account}`) ?? 0) + amount);
  const charge = (account: number, amount: number, currency: string) => {
    if (currency === "EUR") noteAmount(charged, account, amount);
    const value = { chargeId: `${week} ${account} ${currency} ${random(2 ** 30)}`, amount: money(amount, currency) };
    return billingEvent(`account ${account}`, { at: at() }, { case: "chargeCreated", value });
  };
  const pay = (account: number, amount: number) => {
    noteAmount(collected, account, amount);
    const value = { paymentId: `${week} ${account} ${random(2 ** 30)}`, amount: money(amount), allocations: [] };
    return billingEvent(`account ${account}`, { at: at() }, { case: "paymentRecorded", value });
  };
  const reduce = (account: number, amount: number) => {
    noteAmount(voided, account, amount);
    const what = pick(["chargeDiscounted", "creditNoteIssued"] as const);
    return billingEvent(`account ${account}`, { at: at() }, { case: what, value: { amount: money(amount) } });
  };
  const some = Array.from({ length: accounts }, (_, account) => account);
  return [
    ...some.filter(() => random(2) > 0).map((account) => charge(account, 1 + random(random(3) === 0 ? 500 : 50), "EUR")),
    ...some.filter(() => random(2) === 0).map((account) => pay(account, 1 + random(50))),
    ...some.filter(() => random(1) === 0).map((account) => reduce(account, 1 + random(50))),
    charge(0, 100 + random(50), "USD"),
  ];
}

type Report = {
  publishedTo: string;
  totals: Record<string, number | null>;
  series: Record<string, number | string | null>[];
  failures: { reason: string; count: number | null }[];
  breakdown: { rows: { value: string; registered: number | null; active: null }[] };
  currency: string;
  currencies: string[];
};
async function ask(path: string): Promise<Report> {
  const response = await app.get(`/analytics/${path}`);
  expect(response.status, path).toBe(200);
  return (await response.json()) as Report;
}

/** What single weeks have published, by number: null if it waits. Whoever asks for each week learns it. */
const learned = new Map<string, (number | null)[]>();
async function learn(week: number): Promise<void> {
  const only = `from=${mondays[week]}&to=${mondays[week]}`;
  const set = (measure: string, value: string, count: number | null | undefined) => {
    const row = learned.get(`${measure} ${value}`) ?? [];
    learned.set(`${measure} ${value}`, row);
    row[week] = count ?? null;
  };
  const patients = await ask(`patients?${only}`);
  for (const flow of ["registered", "deleted"] as const) set(measures.patients[flow], "", patients.totals[flow]);
  const lines = [
    ["sex", registeredBy.sex],
    ["ageBand", registeredBy.ageBand],
    ["city", registeredByPlace],
  ] as const;
  for (const [by, measure] of lines) {
    const { rows } = (await ask(`patients?${only}&by=${by}`)).breakdown;
    for (const value of valuesOf[measure] ?? []) set(measure, value, rows.find((row) => row.value === value)?.registered);
    expect(rows.every(({ active }) => active === null)).toBe(true);
  }
  const states = (await ask(`patients?${only}&by=state`)).breakdown.rows;
  const inCities = cities.reduce((sum, city) => sum + (learned.get(`${registeredByPlace} ${city}`)?.[week] ?? 0), 0);
  expect(states.reduce((sum, { registered: count }) => sum + (count ?? 0), 0)).toBe(inCities);
  const activity = await ask(`activity?${only}`);
  set(signedIn, "", activity.totals.signedIn);
  set(failed, "", activity.totals.failed);
  for (const { reason, count } of activity.failures) set(failedBy, reason, count);
  const billing = await ask(`billing?${only}&currency=EUR`);
  set(charged, "", billing.totals.charged);
  set(voided, "", billing.totals.voided);
  set(collected, "", billing.totals.collected);
  set(countOf(charged), "", billing.totals.charges);
  for (const flow of ["charged", "voided", "collected"]) expect((await ask(`billing?${only}&currency=USD`)).totals[flow] ?? 0).toBe(0);
}
const valuesOf: Record<string, readonly string[]> = {
  [registeredBy.sex]: sexes,
  [registeredBy.ageBand]: bands,
  [registeredByPlace]: cities,
  [failedBy]: reasons,
};

/** What the weeks of a period say together. */
function sumOf(measure: string, value: string, from: number, to: number): number | null {
  const counts = (learned.get(`${measure} ${value}`) ?? []).slice(from, to + 1);
  const sum = counts.reduce<number>((total, count) => total + (count ?? 0), 0);
  return sum === 0 && counts.includes(null) ? null : sum;
}

/** A report of a random period, which says what its weeks say. Others are refused, and say nothing. */
async function askAtRandom(published: number): Promise<void> {
  const [a, b] = [random(published - 1), random(published - 1)].sort((x, y) => x - y) as [number, number];
  const period = `from=${addDays(mondays[a] ?? "", random(6))}&to=${addDays(mondays[b] ?? "", a === b ? 6 : random(6))}`;
  const refused =
    random(3) === 0 ? pick(["&timeZone=Asia/Kathmandu", "&timeZone=America/New_York", "&interval=day", "&interval=month"]) : "";
  const path = pick([
    "patients?",
    "patients?by=sex&",
    "patients?by=ageBand&",
    "patients?by=city&",
    "activity?",
    "billing?currency=EUR&",
    "summary?",
  ]);
  const format = random(200) === 0 && !path.startsWith("summary") ? "&format=svg" : pick(["", "", "&format=csv"]);
  const address = `${path}${period}${refused}${format}`;
  const response = await app.get(`/analytics/${address}`);
  const text = await response.text();
  if (refused !== "") expect([response.status, text], address).toEqual([400, expect.stringContaining("analytics:detail")]);
  else {
    expect(response.status, address).toBe(200);
    if (format === "") expectSum(path, JSON.parse(text) as Report, a, b, address);
    if (format === "&format=csv") expectNoSmallNumber(path, text, address);
  }
}

function expectSum(path: string, report: Report, a: number, b: number, address: string): void {
  const expected = (measure: string, value = "") => sumOf(measure, value, a, b);
  if (path.startsWith("patients")) {
    expect(report.totals, address).toMatchObject({
      registered: expected(measures.patients.registered),
      deleted: expected(measures.patients.deleted),
    });
    const measure = { sex: registeredBy.sex, ageBand: registeredBy.ageBand, city: registeredByPlace }[/by=(\w+)/.exec(path)?.[1] ?? ""];
    for (const { value, registered: count } of report.breakdown?.rows ?? [])
      if (measure && (valuesOf[measure] ?? []).includes(value)) expect(count, `${address} ${value}`).toBe(expected(measure, value));
  } else if (path.startsWith("activity")) {
    expect(report.totals, address).toMatchObject({ signedIn: expected(signedIn), failed: expected(failed) });
  } else if (path.startsWith("billing")) {
    const flows = { charged: expected(charged), voided: expected(voided), collected: expected(collected) };
    expect(report.totals, address).toMatchObject({ ...flows, outstandingAtEnd: null });
    expect(report.currencies, address).not.toContain("USD");
  }
}

/** No count in a table is from 1 to 10. */
function expectNoSmallNumber(path: string, csv: string, address: string): void {
  if (path.startsWith("billing") || path.startsWith("summary")) return;
  for (const line of csv.trim().split("\n").slice(1))
    expect(line.split(",").slice(1), `${address}\n${csv}`).not.toContainEqual(expect.stringMatching(/^-?([1-9]|10)$/));
}

test(`ten thousand reports tell no small count and no account's amount (seed ${seed})`, { timeout: 600_000 }, async () => {
  const answers = new Map<string, string>();
  for (const week of mondays.keys()) {
    await applyBatch(app.db, eventsOf(week));
    clock.now = Date.parse(`${addDays(mondays[week] ?? "", 8)}T12:00:00Z`);
    await app.publish();
    await learn(week);
    for (let count = 0; count < requests / weeks; count++) await askAtRandom(week + 1);
    // What was published once is the same for ever.
    for (const [path, before] of answers) expect(await (await app.get(path)).text(), path).toContain(before);
    const path = `/analytics/activity?from=${firstMonday}&to=${mondays[week]}&format=csv`;
    answers.set(path, await (await app.get(path)).text());
  }
  await expectSecrets();
});

async function expectSecrets(): Promise<void> {
  const attacker = await createAttacker();
  const rowOf = (measure: string, value: string, week: number) => {
    const count = learned.get(`${measure} ${value}`)?.[week];
    // A place that is not named has few patients or none.
    return typeof count === "number" ? { amount: BigInt(count), shown: true } : { amount: 0n, shown: false };
  };
  const parts = (...line: string[]) => Object.fromEntries(line.map((measure) => [measure, [...(valuesOf[measure] ?? [])]]));
  const question = {
    weeks,
    totals: {
      [measures.patients.registered]: parts(registeredBy.sex, registeredBy.ageBand, registeredByPlace),
      [failed]: parts(failedBy),
    },
    alone: [measures.patients.deleted, signedIn],
    rowOf,
    truth: (measure: string, value: string, week: number) => truth[week]?.get(`${measure} ${value}`) ?? 0,
  };
  expect(attacker.attack(question)).toEqual([]);
  // To withhold everything would be no art.
  const shown = [...learned].filter(([, counts]) => counts.some((count) => count)).map(([key]) => key.split(" ")[0]);
  expect(shown).toEqual(expect.arrayContaining([measures.patients.registered, failed]));
  expect(shown.filter((measure) => valuesOf[measure ?? ""]).length, JSON.stringify([...learned])).toBeGreaterThan(1);
  for (const measure of [charged, voided, collected]) {
    const rows = mondays.map((_, week) => rowOf(measure, "", week));
    for (const { account, from, to, bounds } of attacker.attackAmounts(accounts, rows)) {
      const amount = amounts.slice(from, to + 1).reduce((sum, week) => sum + (week.get(`${measure} ${account}`) ?? 0), 0);
      expect(bounds.greatest - bounds.least, `${measure} ${account} ${from} ${to}`).toBeGreaterThanOrEqual(amount / 5);
    }
  }
}
