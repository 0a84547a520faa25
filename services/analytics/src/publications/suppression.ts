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
  const inOrder = (a: Part, b: Part) =>
    (a.since ?? "").localeCompare(b.since ?? "") || Number(size(a.amount) - size(b.amount)) || (a.value < b.value ? -1 : 1);
  // Parts that were withheld for longest cover most others, so they stay withheld first.
  const candidates = parts.filter(({ amount }) => size(amount) > largestHidden).sort(inOrder);
  const withheldSince = new Map(candidates.map(({ since }) => [since, 0n]));
  const withhold = (part: Part) => {
    for (const [since, sum] of withheldSince) {
      if ((part.since ?? "") > (since ?? "")) continue;
      const before = since === null || since === part.since ? 0n : amountAt(part.value, since);
      withheldSince.set(since, sum + size(part.amount - before));
    }
  };
  for (const part of parts) if (!candidates.includes(part)) withhold(part);
  const isCovered = ({ since }: Part) => (withheldSince.get(since) ?? 0n) > largestHidden;
  let next = candidates.shift();
  while (next && ![next, ...candidates].every(isCovered)) {
    withhold(next);
    next = candidates.shift();
  }
  return new Set((next ? [next, ...candidates] : []).map(({ value }) => value));
}
