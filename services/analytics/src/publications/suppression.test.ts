/** What readers find out who know every published figure: a solver looks for every number that has one value left. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { createAttacker } from "../../test/attacker.ts";
import { measures } from "../measures.ts";
import { addTo, addWeek, type Counts, decide } from "./figures.ts";
import { hasEnoughAccounts, isLargeEnough, partsToShow } from "./suppression.ts";
import type { Figure } from "./types.ts";

const { registered, registeredBy } = measures.patients;
const weekOf = (index: number) =>
  `2026-${String(Math.floor(index / 28) + 1).padStart(2, "0")}-${String((index % 28) + 1).padStart(2, "0")}`;
const noAccounts = () => ({ number: 0, largest: 0n });

/** Publishes weeks, each of which has counts by sex. */
function publish(weeks: number[][]): Figure[][] {
  const published: Figure[][] = [];
  let waiting: Figure[] = [];
  for (const [index, counts] of weeks.entries()) {
    const added: Counts = new Map();
    for (const [sex, count] of counts.entries()) {
      if (count === 0) continue;
      addTo(added, registered, "", BigInt(count));
      addTo(added, registeredBy.sex, `sex ${sex}`, BigInt(count));
    }
    const lastShown = (measure: string, value: string) => {
      const at = published.findLastIndex((figures) =>
        figures.some((each) => each.measure === measure && each.value === value && each.shown),
      );
      return at === -1 ? null : weekOf(at);
    };
    const figures = decide(addWeek(waiting, added, index === 0 ? null : weekOf(index - 1), lastShown), {
      accounts: noAccounts,
      amountAt: (measure, value, week) => {
        const before = published.find((_, at) => weekOf(at) === week) ?? [];
        return before.find((figure) => figure.measure === measure && figure.value === value && !figure.shown)?.amount ?? 0n;
      },
    });
    published.push(figures);
    waiting = figures.filter(({ shown }) => !shown);
  }
  return published;
}

const numberOf = fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 4 }), fc.integer({ min: 0, max: 14 }), fc.integer({ min: 0, max: 40 }));
const history = fc
  .tuple(fc.integer({ min: 2, max: 4 }), fc.integer({ min: 1, max: 8 }))
  .chain(([parts, weeks]) => fc.array(fc.array(numberOf, { minLength: parts, maxLength: parts }), { minLength: weeks, maxLength: weeks }));

test("no small number of any weeks follows from what is published, of a total or of a part", { timeout: 300_000 }, async () => {
  const attacker = await createAttacker();
  fc.assert(
    fc.property(history, (weeks) => {
      const parts = weeks[0]?.map((_, index) => `sex ${index}`) ?? [];
      const published = publish(weeks);
      const found = attacker.attack({
        weeks: weeks.length,
        totals: { [registered]: { [registeredBy.sex]: parts } },
        rowOf: (measure, value, week) => published[week]?.find((figure) => figure.measure === measure && figure.value === value),
        truth: (measure, value, week) =>
          measure === registered ? (weeks[week] ?? []).reduce((sum, n) => sum + n, 0) : (weeks[week]?.[parts.indexOf(value)] ?? 0),
      });
      expect(found, JSON.stringify(weeks)).toEqual([]);
    }),
    { numRuns: 25 },
  );
});

test("no figure from 1 to 10 is shown, and in the end nothing is lost", () => {
  fc.assert(
    fc.property(history, (weeks) => {
      const published = publish(weeks).flat();
      for (const { amount, shown } of published) if (shown) expect(isLargeEnough(amount)).toBe(true);
      const shown = published
        .filter((figure) => figure.measure === registered && figure.shown)
        .reduce((sum, { amount }) => sum + amount, 0n);
      const all = BigInt(weeks.flat().reduce((sum, count) => sum + count, 0));
      expect(all - shown).toBeLessThanOrEqual(10n);
    }),
  );
});

test("a clinic with few registrations sees them every few weeks, by sex too, and the sex with fewest stays withheld", () => {
  const published = publish(Array.from({ length: 12 }, () => [8, 3]));
  const shown = (measure: string, value: string) =>
    published.map(
      (figures) => figures.find((figure) => figure.measure === measure && figure.value === value && figure.shown)?.amount ?? null,
    );
  expect(shown(registered, "")).toEqual(Array.from({ length: 12 }, () => 11n));
  expect(shown(registeredBy.sex, "sex 0")).toEqual([null, null, null, 32n, null, null, null, 32n, null, null, null, 32n]);
  expect(shown(registeredBy.sex, "sex 1").every((count) => count === null)).toBe(true);
});

test("a part that cannot be covered keeps none withheld beside it", () => {
  const part = (value: string, amount: bigint, since: string | null = null) => ({ value, amount, since });
  const parts = [part("many", 100n), part("some", 20n), part("few", 12n), part("new", 11n, "2026-11-02")];
  const amountAt = (value: string) => (value === "many" ? 98n : value === "some" ? 19n : 12n);
  expect([...partsToShow(parts, amountAt)]).toEqual(["some", "many"]);
});

test("an amount needs eleven accounts, none of which has nearly all of it", () => {
  expect(hasEnoughAccounts(1_000n, { number: 10, largest: 100n })).toBe(false);
  expect(hasEnoughAccounts(1_000n, { number: 11, largest: 100n })).toBe(true);
  expect(hasEnoughAccounts(1_000n, { number: 11, largest: 900n })).toBe(false);
  expect(hasEnoughAccounts(0n, { number: 0, largest: 0n })).toBe(true);
  // A correction of one account that is as large as the amount of another.
  expect(hasEnoughAccounts(0n, { number: 2, largest: 100n })).toBe(false);
});
