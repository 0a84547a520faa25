/** What takes how long. It runs alone, because other tests beside it would be measured with it. */
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { afterAll, beforeEach, expect, test } from "vitest";
import { admin, freshEmail, from, startAuth } from "./testing.ts";

const auth = await startAuth({ PASSWORD_QUEUE: "20" });
afterAll(() => auth.stop());
beforeEach(async () => void (await auth.owner.query("delete from throttles")));

const guess = (address: string, email: string) =>
  auth.call("POST", "/auth/login", { body: { email, password: "a wrong guess" }, headers: from(address) });
const anyAddress = () => `198.51.${randomInt(256)}.${randomInt(256)}`;
const median = (values: number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;

// Interleaved, so that whatever else this machine does falls on both alike; a busy machine needs more samples to be sure.
test("an unknown account takes as long as a known one: medians within 5 %", { timeout: 300_000 }, async () => {
  const times = { known: [] as number[], unknown: [] as number[] };
  const difference = () => Math.abs(median(times.known) / median(times.unknown) - 1);
  for (let batch = 0; batch < 4 || (batch < 20 && difference() >= 0.05); batch++) {
    for (let i = 0; i < 40; i++) {
      const kinds = i % 2 === 0 ? (["known", "unknown"] as const) : (["unknown", "known"] as const);
      for (const kind of kinds) {
        const started = performance.now();
        const { status } = await guess(anyAddress(), kind === "known" ? admin.email : freshEmail());
        times[kind].push(performance.now() - started);
        expect(status).toBe(401);
      }
    }
    // The attacked account is slowed down at its fifty-first failure; that is not what is measured here.
    await auth.owner.query("delete from throttles");
  }
  expect(difference()).toBeLessThan(0.05);
});

test("asking for a reset takes as long for an unknown account as for a known one", { retry: 3, timeout: 60_000 }, async () => {
  const times = { known: [] as number[], unknown: [] as number[] };
  for (let i = 0; i < 150; i++) {
    for (const kind of i % 2 === 0 ? (["known", "unknown"] as const) : (["unknown", "known"] as const)) {
      const body = { email: kind === "known" ? admin.email : freshEmail() };
      const started = performance.now();
      await auth.call("POST", "/auth/password-reset", { body, headers: from(anyAddress()) });
      times[kind].push(performance.now() - started);
      await auth.owner.query("delete from throttles");
    }
  }
  expect(Math.abs(median(times.known) / median(times.unknown) - 1)).toBeLessThan(0.1);
});

/** Asks for health every 20 ms for a while, from a thread of its own, whose event loop the flood does not share; gives milliseconds. */
async function pollHealth(url: string, forMs: number): Promise<number[]> {
  const code = `
    const { parentPort, workerData } = require("node:worker_threads");
    (async () => {
      const times = [];
      for (const end = performance.now() + workerData.forMs; performance.now() < end; ) {
        const started = performance.now();
        const answer = await fetch(workerData.url + "/health/live");
        await answer.text();
        times.push(answer.status === 200 ? performance.now() - started : Infinity);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      parentPort.postMessage(times);
    })();`;
  const worker = new Worker(code, { eval: true, workerData: { url, forMs } });
  const [times] = (await once(worker, "message")) as [number[]];
  return times;
}

test("under a flood of logins health answers within 50 ms, and who does not fit in is refused at once", {
  retry: 3,
  timeout: 60_000,
}, async () => {
  const forMs = 3_000;
  const end = performance.now() + forMs;
  const statuses = new Set<number>();
  const flood = Array.from({ length: 64 }, async () => {
    while (performance.now() < end) {
      const { status, headers } = await guess(anyAddress(), freshEmail());
      statuses.add(status);
      if (status !== 503) continue;
      expect(headers.get("retry-after")).toBe("1");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  });
  const health = await pollHealth(auth.url, forMs);
  await Promise.all(flood);
  expect([...statuses].toSorted()).toEqual([401, 503]);
  expect(median(health)).toBeLessThan(50);
  expect((await auth.call("GET", "/health/ready")).status).toBe(200);
});
