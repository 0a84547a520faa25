import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { measure, percentile, type Row } from "./measure.ts";

/** A row that takes eight times as long as its baseline, on a machine of some speed. */
const rowOn = (slowness: number, aims: NonNullable<Row["aims"]>): Row => ({
  name: "row",
  concurrency: 1,
  seconds: 0,
  request: () => delay(80 * slowness),
  baseline: { name: "baseline", request: () => delay(10 * slowness) },
  aims,
});

test("an aim is a multiple of the baseline: a slow machine does not miss it, and a slow row does", { timeout: 20_000 }, async () => {
  // Generous, because one stall of a busy machine counts fully in a row of one request.
  const aims = { minRate: 0.01, maxP99: 80 };
  const [fast, slow, missed] = await Promise.all([
    measure(rowOn(1, aims), {}),
    measure(rowOn(3, aims), {}),
    measure(rowOn(1, { minRate: 0.7 }), {}),
  ]);
  expect([fast.missed, slow.missed]).toEqual([[], []]);
  expect(missed.missed).toEqual([expect.stringMatching(/^rate 0\.\d\d × \(at least 0\.7\)$/)]);
});

test("rates are per thing, and what does not hold after a row is missed too", async () => {
  const row: Row = { name: "row", concurrency: 1, seconds: 0, things: 100, request: () => delay(80), after: () => ["memory grew"] };
  const result = await measure(row, {});
  expect([result.requests, result.missed]).toEqual([1, ["memory grew"]]);
  expect(result.perSecond).toBeGreaterThan(100);
});

test("a percentile needs no sorted values", () => {
  expect([0, 0.5, 0.99].map((share) => percentile([3, 1, 2, 5, 4], share))).toEqual([1, 3, 5]);
});
