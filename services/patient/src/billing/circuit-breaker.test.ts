import { createLogger } from "@pm/kit/log";
import { expect, test } from "vitest";
import { createBreaker } from "./circuit-breaker.ts";

function breakerAt() {
  const clock = { now: 0 };
  return { clock, breaker: createBreaker({ log: createLogger("test", "silent"), name: "test", now: () => clock.now }) };
}

test("three failures in a row open it, a success in between starts the count again", () => {
  const { breaker } = breakerAt();
  breaker.failed(new Error());
  breaker.failed(new Error());
  breaker.succeeded();
  breaker.failed(new Error());
  breaker.failed(new Error());
  expect(breaker.isClosed()).toBe(true);
  breaker.failed(new Error());
  expect([breaker.isClosed(), breaker.mayTry()]).toEqual([false, false]);
});

test("after a pause one may try at a time, and its success closes it", () => {
  const { breaker, clock } = breakerAt();
  for (let count = 0; count < 3; count++) breaker.failed(new Error());
  clock.now = 1_000;
  expect([breaker.mayTry(), breaker.mayTry(), breaker.isClosed()]).toEqual([true, false, false]);
  breaker.notTried();
  expect(breaker.mayTry()).toBe(true);
  breaker.succeeded();
  expect([breaker.isClosed(), breaker.mayTry(), breaker.mayTry()]).toEqual([true, true, true]);
});

test("every failed try makes the pause longer, up to a limit", () => {
  const { breaker, clock } = breakerAt();
  for (let count = 0; count < 3; count++) breaker.failed(new Error());
  for (let tries = 0; tries < 10; tries++) {
    clock.now += 10_000;
    expect(breaker.mayTry()).toBe(true);
    breaker.failed(new Error());
  }
  const failedAt = clock.now;
  while (!breaker.mayTry()) clock.now += 10;
  expect(clock.now - failedAt).toBeGreaterThanOrEqual(3_750);
  expect(clock.now - failedAt).toBeLessThanOrEqual(6_260);
});
