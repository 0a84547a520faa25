/** Registrations and active patients by sex, age, city or state. */
import { addDays, type Instant, type LocalDate, localDateAt } from "@pm/kit/calendar";
import { addYears, type Span, spanOf } from "../calendar.ts";
import { ageBands, type Dimension, dimensions, measures, sexes } from "../measures.ts";
import type { Shown } from "../publications/suppression.ts";
import type { Amounts } from "../rollups/amounts.ts";
import type { RollupQuery } from "../rollups/query.ts";
import type { Period } from "./period.ts";

type BreakdownRow = {
  /** Empty if it is not known. */
  value: string;
  /** Registered within the period, by their age on that day. */
  registered: Shown;
  /** Active now, by their age now. */
  active: Shown;
};

export type Breakdown = {
  by: Dimension;
  rows: BreakdownRow[];
  /** Active patients by age and sex, for `ageBand` only; rows as above. */
  pyramid?: { female: Shown; male: Shown; other: Shown }[];
  /** Whether some counts are hidden. */
  hidden: boolean;
  /** Whether values with fewer patients were left out. */
  truncated: boolean;
};

export const maxRows = 500;
const otherSexes = sexes.filter((sex) => sex !== "female" && sex !== "male");

export async function breakDown(period: Period, by: Dimension, rollups: RollupQuery, now: Instant): Promise<Breakdown> {
  const whole = spanOf(period.from, period.to, period.timeZone);
  const [registered, active] = await Promise.all([
    registeredBy(rollups, whole, by),
    by === "ageBand" ? activeByAge(rollups, localDateAt(now, period.timeZone)) : activeBy(rollups, by),
  ]);
  const fixed = fixedValues(by);
  const rows = (fixed ?? [...new Set([...registered.keys(), ...active.keys()])]).map((value) => ({
    value,
    registered: registered.get(value) ?? 0,
    active: total(active.get(value)),
  }));
  if (!fixed) rows.sort((a, b) => b.active - a.active || b.registered - a.registered || (a.value < b.value ? -1 : 1));
  const named = fixed ? rows : rows.filter((row) => row.registered > 0 || row.active > 0);
  return {
    by,
    rows: named.slice(0, maxRows),
    ...(by === "ageBand" && { pyramid: rows.map(({ value }) => bySex(active.get(value))) }),
    hidden: false,
    truncated: named.length > maxRows,
  };
}

/** The values of a dimension that has only some; they are listed even if they have no patients. */
export function fixedValues(by: Dimension): readonly string[] | undefined {
  return by === "sex" ? sexes : by === "ageBand" ? ageBands : undefined;
}

/** Whole days are summed up by value. Both ends of the period come from profiles. */
async function registeredBy(rollups: RollupQuery, whole: Span, by: Dimension): Promise<Map<string, number>> {
  const measure = measures.patients.registeredBy[by];
  const profiles = measures.patients.registeredProfile;
  const [byValue, byProfile] = await Promise.all([rollups.within([measure], [whole]), rollups.within([profiles], [whole])]);
  const registered = new Map(byValue[0]?.counts(measure));
  for (const [profile, count] of byProfile[0]?.counts(profiles) ?? []) {
    const value = (JSON.parse(profile) as string[])[dimensions.indexOf(by)] ?? "";
    registered.set(value, (registered.get(value) ?? 0) + count);
  }
  return registered;
}

/** Active patients by value, and within a value by sex if that is known. */
type Active = Map<string, Map<string, number>>;

const total = (bySex: Map<string, number> | undefined): number => [...(bySex?.values() ?? [])].reduce((sum, count) => sum + count, 0);

async function activeBy(rollups: RollupQuery, by: Exclude<Dimension, "ageBand">): Promise<Active> {
  const measure = measures.patients.activeBy[by];
  const amounts = await rollups.now([measure]);
  return new Map(amounts.counts(measure).map(([value, count]) => [value, new Map([["", count]])]));
}

/** Active patients are kept at their date of birth, so the patients of an age band are a sum over a range of days. */
async function activeByAge(rollups: RollupQuery, today: LocalDate): Promise<Active> {
  const { activeByBirthDate, activeWithoutBirthDate } = measures.patients;
  const bands = ageBands.slice(0, -1).map((band, index) => ({
    band,
    start: index === 9 ? "1850-01-01" : bornAfter(today, index * 10 + 10),
    end: addDays(bornAfter(today, index * 10), -1),
  }));
  const [byBand, unknown] = await Promise.all([
    rollups.onDates([activeByBirthDate], bands.toReversed()),
    rollups.now([activeWithoutBirthDate]),
  ]);
  const asMap = (amounts: Amounts | undefined, measure: string) => new Map(amounts?.counts(measure));
  return new Map([
    ...bands.map(({ band }, index) => [band, asMap(byBand[bands.length - 1 - index], activeByBirthDate)] as const),
    ["", asMap(unknown, activeWithoutBirthDate)] as const,
  ]);
}

/** The first date of birth of those who have completed fewer than `years` years of life today. */
function bornAfter(today: LocalDate, years: number): LocalDate {
  return addDays(addYears(today, -years), 1);
}

function bySex(counts: Map<string, number> | undefined) {
  const count = (sex: string) => counts?.get(sex) ?? 0;
  return { female: count("female"), male: count("male"), other: otherSexes.reduce((sum, sex) => sum + count(sex), 0) };
}
