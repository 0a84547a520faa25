import { setTimeout as delay, setImmediate as turn } from "node:timers/promises";
import { expect, test } from "vitest";
import { createBatcher } from "./batcher.ts";

/** A batcher whose calls end when the test says so. */
function heldBatcher(maxSize: number) {
  const calls: { items: number[]; finish: () => void; fail: () => void }[] = [];
  const batcher = createBatcher<number, number>({
    name: "numbers",
    maxSize,
    run: (items) =>
      new Promise((resolve, reject) => {
        calls.push({ items, finish: () => resolve(items.map((item) => item * 2)), fail: () => reject(new Error("down")) });
      }),
  });
  return { batcher, calls };
}

test("items that arrive while a call is under way go together with the next one, each getting its own result", async () => {
  const { batcher, calls } = heldBatcher(10);
  const first = batcher.add(1);
  await turn();
  const others = [batcher.add(2), batcher.add(3)];
  await turn();
  expect(calls.map((call) => call.items)).toEqual([[1]]);
  expect(batcher.runningMs()).toBeGreaterThan(0);
  calls[0]?.finish();
  expect(await first).toBe(2);
  calls[1]?.finish();
  expect(await Promise.all(others)).toEqual([4, 6]);
  expect(batcher.runningMs()).toBe(0);
});

test("a batch has at most its largest size", async () => {
  const { batcher, calls } = heldBatcher(2);
  const results = [1, 2, 3].map((item) => batcher.add(item));
  await turn();
  expect(calls[0]?.items).toEqual([1, 2]);
  calls[0]?.finish();
  await turn();
  calls[1]?.finish();
  expect(await Promise.all(results)).toEqual([2, 4, 6]);
});

test("a call that fails fails its own items and no others", async () => {
  const { batcher, calls } = heldBatcher(10);
  const first = batcher.add(1);
  const failed = expect(first).rejects.toThrow("down");
  await turn();
  const second = batcher.add(2);
  calls[0]?.fail();
  await failed;
  await turn();
  calls[1]?.finish();
  expect(await second).toBe(4);
});

test("after a call the batcher rests, and what arrives meanwhile goes together", async () => {
  const batches: number[][] = [];
  let wakeUp: () => void = () => undefined;
  const batcher = createBatcher<number, number>({
    name: "numbers",
    maxSize: 10,
    linger: () => new Promise((resolve) => (wakeUp = resolve)),
    async run(items) {
      batches.push(items);
      return items;
    },
  });
  expect(await batcher.add(1)).toBe(1);
  const others = [batcher.add(2), batcher.add(3)];
  await turn();
  expect(batches).toEqual([[1]]);
  wakeUp();
  expect(await Promise.all(others)).toEqual([2, 3]);
  expect(batches).toEqual([[1], [2, 3]]);
});

/** A batcher that waits for callers to come back, and its batches. */
function gatheringBatcher(gatherMs: number) {
  const batches: number[][] = [];
  const batcher = createBatcher<number, number>({
    ...{ name: "numbers", maxSize: 10, gatherMs },
    async run(items) {
      batches.push(items);
      await turn();
      return items;
    },
  });
  return { batcher, batches };
}

test("callers who send one item after the other share each call, instead of taking turns in groups", async () => {
  const { batcher, batches } = gatheringBatcher(500);
  const caller = async (number: number) => {
    for (let round = 0; round < 20; round++) {
      await batcher.add(number);
      // Callers need different times to come back.
      await delay(number);
    }
  };
  const first = caller(1);
  await turn();
  await Promise.all([first, caller(2), caller(3), caller(4)]);
  // The first caller is alone once, so the others are at the end.
  expect(batches.map((batch) => batch.length)).toEqual([1, ...Array(19).fill(4), 3]);
});

test("a caller who is alone does not wait for others", async () => {
  const { batcher, batches } = gatheringBatcher(60_000);
  for (let number = 0; number < 5; number++) await batcher.add(number);
  expect(batches).toEqual([[0], [1], [2], [3], [4]]);
});

test("those who wait go on without callers who do not come back", async () => {
  const { batcher, batches } = gatheringBatcher(50);
  const first = batcher.add(1);
  await turn();
  const second = batcher.add(2);
  await first;
  const started = performance.now();
  expect(await second).toBe(2);
  // A timer of Node may be early by a millisecond.
  expect(performance.now() - started).toBeGreaterThan(48);
  expect(batches).toEqual([[1], [2]]);
});

test("a call that can take no more does not wait, however many are to come back", async () => {
  const sizes: number[] = [];
  const batcher = createBatcher<number, number>({
    ...{ name: "numbers", maxSize: 2, gatherMs: 60_000 },
    async run(items) {
      sizes.push(items.length);
      await turn();
      return items;
    },
  });
  expect(await Promise.all([1, 2, 3, 4, 5].map((item) => batcher.add(item).then(() => batcher.add(item))))).toEqual([1, 2, 3, 4, 5]);
  expect(sizes).toEqual([2, 2, 2, 2, 2]);
});
