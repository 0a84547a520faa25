import fc from "fast-check";
import { expect, test } from "vitest";
import { measures } from "../measures.ts";
import { createAggregate } from "./aggregate.ts";
import { coverDates, coverFor } from "./cover.ts";
import { nextRow, slotOf } from "./slots.ts";
import { grains } from "./types.ts";

const slot = fc.integer({ min: slotOf(Date.UTC(2023, 0, 1)), max: slotOf(Date.UTC(2027, 0, 1)) });
const facts = fc.array(fc.tuple(slot, fc.bigInt({ min: -100n, max: 100n })), { maxLength: 40 });

test("whatever stretch is asked for, its cover adds up to exactly what happened in it", () => {
  fc.assert(
    fc.property(facts, slot, slot, (facts, a, b) => {
      const [from, until] = [Math.min(a, b), Math.max(a, b)];
      const inside = facts.filter(([at]) => at >= from && at < until).reduce((total, [, amount]) => total + amount, 0n);
      /** What a report over the stretch adds up of measures that count the same. */
      const sumOf = (measures: string[]) => {
        const aggregate = createAggregate();
        for (const measure of measures) for (const [at, amount] of facts) aggregate.atInstant(measure, "", at * 900_000 + 1, amount);
        const rows = [...aggregate.rows()];
        let sum = 0n;
        for (const { grain, part, from: start, until: end, sign } of coverFor(measures)(from, until))
          for (let at = start; at < end; at = nextRow(grain, at))
            for (const row of rows.filter((each) => each.grain === grain && each.slot === at))
              sum += BigInt(sign) * (part === 0 ? row.amount : (row.byQuarter?.[part - 1] ?? 0n));
        return sum;
      };
      expect(sumOf(["patients.registered"])).toBe(inside);
      // A breakdown has days and months by value, and profiles for the rest.
      expect(sumOf(["patients.registered.city", measures.patients.registeredProfile])).toBe(inside);
    }),
  );
});

test("a year of local days is read from a row for each day and one for each midnight, whatever the zone", () => {
  const midnights = Array.from({ length: 366 }, (_, day) => slotOf(Date.parse("2025-11-30T18:30:00Z")) + day * 96);
  const days = midnights.slice(1).flatMap((until, index) => coverFor(["billing.charged"])(midnights[index] ?? 0, until));
  expect(new Set(days.map(({ grain, part, from }) => `${grain} ${part} ${from}`)).size).toBe(365 + 366);
});

test("a year is twelve months, less what there was before its first midnight in UTC, with what there was before its last", () => {
  const [from, until] = [slotOf(Date.parse("2025-11-30T18:30:00Z")), slotOf(Date.parse("2026-11-30T18:30:00Z"))];
  const cover = coverFor(["billing.charged"])(from, until);
  expect(cover.filter((segment) => segment.from < segment.until).map(({ grain, sign }) => [grain, sign])).toEqual([
    [grains.day, -1],
    [grains.day, 1],
    [grains.month, 1],
    [grains.day, 1],
    [grains.day, -1],
  ]);
});

test("days known by their date alone are covered by months and days, before the epoch too", () => {
  const cover = coverDates(slotOf(Date.parse("1949-12-30")), slotOf(Date.parse("1950-03-02")));
  expect(cover.map(({ grain }) => grain)).toEqual([grains.date, grains.dateMonth, grains.date]);
});
