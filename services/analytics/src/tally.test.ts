import fc from "fast-check";
import { expect, test } from "vitest";
import { grains } from "./schema.ts";
import { coverDates, coverFor, createTally, profileMeasure, slotOf } from "./tally.ts";

const slot = fc.integer({ min: slotOf(Date.UTC(2023, 0, 1)), max: slotOf(Date.UTC(2027, 0, 1)) });

test("whatever stretch is asked for, its cover adds up to exactly what happened in it", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(slot, fc.bigInt({ min: -100n, max: 100n })), { maxLength: 40 }), slot, slot, (facts, a, b) => {
      const [from, until] = [Math.min(a, b), Math.max(a, b)];
      for (const measure of ["patients.registered", profileMeasure]) {
        const tally = createTally();
        for (const [at, amount] of facts) tally.atInstant(measure, "", at * 900_000 + 1, amount);
        const rows = [...tally.rows()];
        const covered = coverFor([measure])(from, until);
        const sum = covered.reduce(
          (total, segment) =>
            total +
            rows
              .filter((row) => row.grain === segment.grain && row.slot >= segment.from && row.slot < segment.until)
              .reduce((each, row) => each + row.amount, 0n),
          0n,
        );
        const inside = facts.filter(([at]) => at >= from && at < until).reduce((total, [, amount]) => total + amount, 0n);
        // A profile is kept by the quarter of an hour alone: its days and months are the dimensions'.
        if (measure === "patients.registered") expect(sum).toBe(inside);
      }
    }),
  );
});

test("a year is covered by twelve months, whatever the zone, and few days, hours and quarters", () => {
  const [from, until] = [slotOf(Date.parse("2025-11-30T18:30:00Z")), slotOf(Date.parse("2026-11-30T18:30:00Z"))];
  const cover = coverFor(["billing.charged"])(from, until);
  expect(cover.map(({ grain }) => grain)).toEqual([grains.quarter, grains.hour, grains.month, grains.day, grains.hour, grains.quarter]);
  expect(cover.reduce((sum, segment) => sum + segment.until - segment.from, 0)).toBe(until - from);
});

test("days known by their date alone are covered by months and days, before the epoch too", () => {
  const cover = coverDates(slotOf(Date.parse("1949-12-30")), slotOf(Date.parse("1950-03-02")));
  expect(cover.map(({ grain }) => grain)).toEqual([grains.date, grains.dateMonth, grains.date]);
});

test("what adds up to nothing leaves nothing", () => {
  const tally = createTally();
  tally.atInstant("m", "v", 0, 5n);
  tally.atInstant("m", "v", 0, -5n);
  expect([...tally.rows()]).toEqual([]);
  expect(tally.size).toBe(0);
});
