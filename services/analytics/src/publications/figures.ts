/** The figures of one week: what is counted, and which of it is shown. */
import type { LocalDate } from "@pm/kit/calendar";
import { countOf, measures } from "../measures.ts";
import { hasEnoughAccounts, isLargeEnough, partsToShow } from "./suppression.ts";
import type { Figure } from "./types.ts";

/** The value is a JSON array of state and city: a state is the sum of its cities, so neither tells about the other. */
export const registeredByPlace = "patients.registered.place";

/** Totals, each with what it is broken down by. */
const totals: { total: string; parts: string[] }[] = [
  {
    total: measures.patients.registered,
    parts: [measures.patients.registeredBy.sex, measures.patients.registeredBy.ageBand, registeredByPlace],
  },
  { total: measures.activity.failed, parts: [measures.activity.failedBy] },
];
const { charged, voided, discounted, credited, collected, refunded, invoiced } = measures.billing;
/** The amounts that are published. */
export const amountMeasures: string[] = [charged, voided, collected, refunded, invoiced];

/**
 * The measure with which another is published. What is discounted or credited is published with what is voided: by
 * itself, beside what is charged and invoiced, it would tell single voids.
 */
export function publishedWith(measure: string): string {
  return measure === discounted || measure === credited ? voided : measure;
}

/** The amount whose accounts decide about a measure: its own, or that which it counts. */
export function amountOf(measure: string): string | undefined {
  return amountMeasures.find((amount) => measure === amount || measure === countOf(amount));
}

const partsOf = new Map(totals.flatMap(({ total, parts }) => parts.map((part) => [part, total] as const)));

/** What is counted, by measure and value. */
export type Counts = Map<string, Map<string, bigint>>;

export function addTo(counts: Counts, measure: string, value: string, amount: bigint): void {
  const byValue = counts.get(measure) ?? new Map<string, bigint>();
  counts.set(measure, byValue);
  byValue.set(value, (byValue.get(value) ?? 0n) + amount);
}

/** Measures that are parts of a total. */
export const partMeasures = [...partsOf.keys()];

/**
 * Adds what a week has counted to what is waiting. Nothing is shown yet.
 * @param previous the week that was published before; null if this is the first
 * @param lastShown the week in which a part was shown last; null if it never was
 */
export function addWeek(
  waiting: Figure[],
  added: Counts,
  previous: LocalDate | null,
  lastShown: (measure: string, value: string) => LocalDate | null,
): Figure[] {
  const figures = new Map(waiting.map((figure) => [JSON.stringify([figure.measure, figure.value]), { ...figure }]));
  for (const [measure, byValue] of added)
    for (const [value, amount] of byValue) {
      const key = JSON.stringify([measure, value]);
      // Every other number that is not waiting was shown, if only as none.
      const since = partsOf.has(measure) ? lastShown(measure, value) : previous;
      const figure = figures.get(key) ?? { measure, value, amount: 0n, since, shown: false };
      figures.set(key, { ...figure, amount: figure.amount + amount });
    }
  return [...figures.values()];
}

/** The weeks of whose waiting figures `decide` asks: those since which large parts wait. */
export function weeksToCompare(figures: Figure[]): LocalDate[] {
  const parts = figures.filter(({ measure, amount }) => partsOf.has(measure) && isLargeEnough(amount));
  return [...new Set(parts.map(({ since }) => since))].filter((week) => week !== null);
}

type Knowledge = {
  accounts: (measure: string, value: string) => { number: number; largest: bigint };
  /** What a figure that waits now waited with in an earlier week; 0 if it was shown then. */
  amountAt: (measure: string, value: string, week: LocalDate) => bigint;
};

/** Decides which figures of a week are shown. */
export function decide(figures: Figure[], { accounts, amountAt }: Knowledge): Figure[] {
  const byMeasure = Map.groupBy(figures, ({ measure }) => measure);
  const decided: Figure[] = [];
  for (const [measure, all] of byMeasure) {
    const total = partsOf.get(measure);
    const amount = amountOf(measure);
    // If the total waits, its parts wait too: their sum would tell it.
    const isTotalShown = total !== undefined && (byMeasure.get(total) ?? []).every((figure) => isLargeEnough(figure.amount));
    const shown = isTotalShown ? partsToShow(all, (value, week) => amountAt(measure, value, week)) : new Set<string>();
    const isShown = (figure: Figure): boolean => {
      if (total !== undefined) return shown.has(figure.value);
      if (amount === undefined) return isLargeEnough(figure.amount);
      const ofAmount = byMeasure.get(amount)?.find(({ value }) => value === figure.value);
      return hasEnoughAccounts(ofAmount?.amount ?? 0n, accounts(amount, figure.value));
    };
    for (const figure of all) decided.push({ ...figure, shown: isShown(figure) });
  }
  return decided;
}
