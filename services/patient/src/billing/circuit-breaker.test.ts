import { createLogger } from "@pm/kit/log";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type CircuitBreaker, createCircuitBreaker } from "./circuit-breaker.ts";

beforeEach(() => void vi.useFakeTimers({ toFake: ["Date"] }));
afterEach(() => void vi.useRealTimers());

const create = () =>
  createCircuitBreaker({
    log: createLogger("test", "silent"),
    target: "test",
    isFailure: (error) => (error as Error).message !== "refused",
  });
const succeed = (breaker: CircuitBreaker) => breaker.call(async () => "made");
const fail = (breaker: CircuitBreaker, message = "down") =>
  breaker.call(async () => Promise.reject(new Error(message))).catch((error: Error) => error.message);
const notMade = "Execution prevented because the circuit breaker is open";

test("three failures in a row open it, a success in between starts the count again", async () => {
  const breaker = create();
  await fail(breaker);
  await fail(breaker);
  await succeed(breaker);
  await fail(breaker);
  await fail(breaker);
  expect(breaker.isClosed()).toBe(true);
  await fail(breaker);
  expect(breaker.isClosed()).toBe(false);
  await expect(succeed(breaker)).rejects.toThrow(notMade);
});

test("a refusal is an answer and opens nothing", async () => {
  const breaker = create();
  for (let count = 0; count < 5; count++) expect(await fail(breaker, "refused")).toBe("refused");
  expect(breaker.isClosed()).toBe(true);
});

test("after a pause one may try at a time, and its success closes it", async () => {
  const breaker = create();
  for (let count = 0; count < 3; count++) await fail(breaker);
  vi.setSystemTime(Date.now() + 10_000);
  let made = 0;
  let answer: () => void = () => undefined;
  const trial = breaker.call(() => {
    made++;
    return new Promise<void>((resolve) => (answer = resolve));
  });
  const next = breaker.call(async () => void made++);
  await Promise.resolve();
  expect([made, breaker.isClosed()]).toEqual([1, false]);
  answer();
  await Promise.all([trial, next]);
  expect([made, breaker.isClosed()]).toEqual([2, true]);
});

test("every failed try makes the pause longer, up to a limit", async () => {
  const breaker = create();
  for (let count = 0; count < 3; count++) await fail(breaker);
  for (let tries = 0; tries < 10; tries++) {
    vi.setSystemTime(Date.now() + 10_000);
    expect(await fail(breaker)).toBe("down");
  }
  const failedAt = Date.now();
  while ((await fail(breaker)) === notMade) vi.setSystemTime(Date.now() + 10);
  expect(Date.now() - failedAt).toBeLessThanOrEqual(5_010);
  expect(Date.now() - failedAt).toBeGreaterThan(500);
});
