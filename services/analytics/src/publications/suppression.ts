/**
 * Decides what a publication shows: "one patient of 90 or older in a village" is a person. A small number is withheld,
 * and added to the number of the next week, until it is large enough. So no number is lost, and whatever readers
 * subtract from each other, they get a sum of numbers that were large enough to be shown.
 */
import type { LocalDate } from "@pm/kit/calendar";
import type { Figure } from "./types.ts";

/** Counts from 1 to this one are withheld, and so are amounts of this many accounts or fewer. */
export const largestHidden = 10;

/** A count, or null if it is withheld. */
export type Shown = number | null;

/** The largest account of an amount is less than this part of it, so that the amount says little about that account. */
const largestPart = { numerator: 5n, denominator: 6n };

const size = (amount: bigint) => (amount < 0n ? -amount : amount);

/** Whether a count is none, or not a small one. A correction makes it negative. */
export function isLargeEnough(count: bigint): boolean {
  return count === 0n || size(count) > largestHidden;
}

/** Whether enough accounts stand behind an amount. */
export function hasEnoughAccounts(amount: bigint, accounts: { number: number; largest: bigint }): boolean {
  if (accounts.number === 0) return amount === 0n;
  const { numerator, denominator } = largestPart;
  return accounts.number > largestHidden && size(accounts.largest) * denominator <= size(amount) * numerator;
}

type Part = Pick<Figure, "value" | "amount" | "since">;

/**
 * Which parts of a total can be shown, if the total is. Readers know the total of every week, so they know what the
 * withheld parts of a week add up to. That there was none of a part is not shown. A part is shown if more than a few of
 * the same weeks stay withheld in parts that were withheld all that time. Then what is withheld can be distributed over
 * weeks and parts in more than one way: one more of a part in one week and one less of another, and the other way round
 * in another week. A property test finds no number that follows.
 * @param amountAt what a part that is withheld now was withheld with in an earlier week; 0 if it was shown then
 */
export function partsToShow(parts: Part[], amountAt: (value: string, week: LocalDate) => bigint): Set<string> {
  /** What a part has counted since a week, if it was withheld all that time. */
  const countedSince = (part: Part, week: LocalDate | null): bigint => {
    if ((part.since ?? "") > (week ?? "")) return 0n;
    return size(part.amount - (week === null || week === part.since ? 0n : amountAt(part.value, week)));
  };
  const large = parts.filter(({ amount }) => size(amount) > largestHidden);
  const all = new Map<LocalDate | null, bigint>();
  for (const { since } of large)
    if (!all.has(since))
      all.set(
        since,
        parts.reduce((sum, part) => sum + countedSince(part, since), 0n),
      );
  // A part that not even all others cover is withheld, and no others in vain beside it.
  const candidates = large.filter(({ since, amount }) => (all.get(since) ?? 0n) - size(amount) > largestHidden);
  // Parts that were withheld for longest cover most others, so they are the first that stay withheld.
  const byAge = (a: Part, b: Part) =>
    (a.since ?? "").localeCompare(b.since ?? "") || Number(size(a.amount) - size(b.amount)) || (a.value < b.value ? -1 : 1);
  candidates.sort(byAge);
  /** What is shown of the parts that wait since a week, and how many of these there are. */
  const groups = new Map(candidates.map(({ since }) => [since, { shown: 0n, parts: 0 }]));
  const show = (part: Part, sign: 1 | -1) => {
    for (const [since, group] of groups) {
      group.shown += BigInt(sign) * countedSince(part, since);
      if (since === part.since) group.parts += sign;
    }
  };
  for (const part of candidates) show(part, 1);
  const isCovered = () =>
    groups.entries().every(([since, { shown, parts: count }]) => count === 0 || (all.get(since) ?? 0n) - shown > largestHidden);
  let first = 0;
  for (let next = candidates[0]; next && !isCovered(); next = candidates[++first]) show(next, -1);
  return new Set(candidates.slice(first).map(({ value }) => value));
}
