import { expect, test } from "vitest";
import { createEndHistory } from "./lag.ts";

test("an offset that is not applied is as old as the first end that was seen behind it", () => {
  const ends = createEndHistory();
  expect(ends.firstSeenBeyond(0n)).toBeUndefined();
  ends.note(5n, 1_000);
  ends.note(5n, 2_000);
  ends.note(9n, 3_000);
  expect(ends.firstSeenBeyond(0n)).toBe(1_000);
  expect(ends.firstSeenBeyond(4n)).toBe(1_000);
  expect(ends.firstSeenBeyond(5n)).toBe(3_000);
  expect(ends.firstSeenBeyond(9n)).toBeUndefined();
  ends.note(10n, 4_000);
  expect(ends.firstSeenBeyond(9n)).toBe(4_000);
});

test("while a group is stuck for days, the age of its first event stays exact, and memory is bounded", () => {
  const ends = createEndHistory();
  for (let n = 1; n <= 100_000; n++) ends.note(BigInt(n), n);
  expect(ends.firstSeenBeyond(0n)).toBe(1);
  const later = ends.firstSeenBeyond(50_000n) ?? 0;
  expect(later).toBeGreaterThan(50_000);
  expect(later).toBeLessThanOrEqual(100_000);
});

test("a topic that was made anew and is shorter has no end that was seen", () => {
  const ends = createEndHistory();
  ends.note(5n, 1_000);
  ends.note(2n, 2_000);
  expect(ends.firstSeenBeyond(5n)).toBeUndefined();
});
