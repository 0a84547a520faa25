/** Registrations and active patients by sex, age, city or state. Small counts are hidden here, so that no way out can forget it. */
import { addDays, addYears, type Instant, type LocalDate, localDateAt, type Span, spanOf } from "../calendar.ts";
import { ageBands, sexes } from "../ingest/patient-record.ts";
import { profileMeasure } from "../rollups/aggregate.ts";
import type { Amounts, Sums } from "../rollups/query.ts";
import { type Dimension, dimensions } from "../rollups/types.ts";
import type { Period } from "./period.ts";
import { type Shown, suppressList, suppressTable } from "./suppression.ts";

export type BreakdownRow = {
  /** Empty where it is not known. */
  value: string;
  /** Registered within the period; by their age on that day. */
  registered: Shown;
  /** Active now; by their age now. */
  active: Shown;
};

export type Breakdown = {
  by: Dimension;
  rows: BreakdownRow[];
  /** Active patients by age and sex, for `ageBand` only: rows as above. */
  pyramid?: { female: Shown; male: Shown; other: Shown }[];
  /** Some counts are hidden. */
  hidden: boolean;
  /** There are more values than rows; those with the fewest patients are left out. */
  truncated: boolean;
};

const maxRows = 500;
const otherSexes = sexes.filter((sex) => sex !== "female" && sex !== "male");

export async function breakDown(period: Period, by: Dimension, detail: boolean, sums: Sums, now: Instant): Promise<Breakdown> {
  const whole = spanOf(period.from, period.to, period.timeZone);
  const [registered, active] = await Promise.all([
    registeredBy(sums, whole, by),
    by === "ageBand" ? activeByAge(sums, localDateAt(now, period.timeZone)) : activeBy(sums, by),
  ]);
  const fixed: readonly string[] | undefined = by === "sex" ? sexes : by === "ageBand" ? ageBands : undefined;
  const values = (fixed ?? [...new Set([...registered.keys(), ...active.keys()])]).map((value) => ({
    value,
    registered: registered.get(value) ?? 0,
    active: total(active.get(value)),
  }));
  if (!fixed) values.sort((a, b) => b.active - a.active || b.registered - a.registered || (a.value < b.value ? -1 : 1));

  const shownRegistered = detail ? values.map((each) => each.registered) : suppressList(values.map((each) => each.registered));
  const shownActive = detail ? values.map((each) => each.active) : suppressList(values.map((each) => each.active));
  const rows = values.map(({ value }, index) => ({
    value,
    registered: shownRegistered[index] ?? null,
    active: shownActive[index] ?? null,
  }));
  // A place of which nothing may be said is not named either: that somebody lives there is a small count too.
  const named = fixed ? rows : rows.filter((row) => (row.registered ?? 0) > 0 || (row.active ?? 0) > 0);
  const table = by === "ageBand" ? values.map(({ value }) => bySex(active.get(value))) : undefined;
  const shownTable = table && (detail ? table : hideWithMargins(table, shownActive));
  return {
    by,
    rows: named.slice(0, maxRows),
    ...(shownTable && { pyramid: shownTable.map(([female = null, male = null, other = null]) => ({ female, male, other })) }),
    hidden: rows.some((row) => row.registered === null || row.active === null),
    truncated: named.length > maxRows,
  };
}

/** Whole days are summed by value; what is left at the edges of the period comes as whole profiles. */
async function registeredBy(sums: Sums, whole: Span, by: Dimension): Promise<Map<string, number>> {
  const measure = `patients.registered.${by}`;
  const [byValue, byProfile] = await Promise.all([sums.within([measure], [whole]), sums.within([profileMeasure], [whole])]);
  const registered = new Map(byValue[0]?.counts(measure));
  for (const [profile, count] of byProfile[0]?.counts(profileMeasure) ?? []) {
    const value = (JSON.parse(profile) as string[])[dimensions.indexOf(by)] ?? "";
    registered.set(value, (registered.get(value) ?? 0) + count);
  }
  return registered;
}

/** Active patients by a value, and within it by sex where that is known. */
type Active = Map<string, Map<string, number>>;

const total = (bySex: Map<string, number> | undefined): number => [...(bySex?.values() ?? [])].reduce((sum, count) => sum + count, 0);

async function activeBy(sums: Sums, by: Exclude<Dimension, "ageBand">): Promise<Active> {
  const amounts = await sums.now([`patients.active.${by}`]);
  return new Map(amounts.counts(`patients.active.${by}`).map(([value, count]) => [value, new Map([["", count]])]));
}

/** Birth dates are kept like dates of events, so that everybody of an age is a sum over a stretch of days. */
async function activeByAge(sums: Sums, today: LocalDate): Promise<Active> {
  const born = "patients.active.born";
  const bands = ageBands.slice(0, -1).map((band, index) => ({
    band,
    start: index === 9 ? "1850-01-01" : bornAfter(today, index * 10 + 10),
    end: addDays(bornAfter(today, index * 10), -1),
  }));
  const [byBand, unknown] = await Promise.all([sums.onDays([born], bands.toReversed()), sums.now(["patients.active.bornUnknown"])]);
  const asMap = (amounts: Amounts | undefined, measure: string) => new Map(amounts?.counts(measure));
  return new Map([
    ...bands.map(({ band }, index) => [band, asMap(byBand[bands.length - 1 - index], born)] as const),
    ["", asMap(unknown, "patients.active.bornUnknown")] as const,
  ]);
}

/** The first birth date of those who have not completed so many years of life today. */
function bornAfter(today: LocalDate, years: number): LocalDate {
  return addDays(addYears(today, -years), 1);
}

function bySex(counts: Map<string, number> | undefined): number[] {
  return [counts?.get("female") ?? 0, counts?.get("male") ?? 0, otherSexes.reduce((sum, sex) => sum + (counts?.get(sex) ?? 0), 0)];
}

/** The sums of rows and columns are published too, hidden where they are small: their cells are hidden with them. */
function hideWithMargins(table: number[][], rowSums: Shown[]): Shown[][] {
  return suppressTable(table).map((row, index) => (rowSums[index] === null ? row.map(() => null) : row));
}
