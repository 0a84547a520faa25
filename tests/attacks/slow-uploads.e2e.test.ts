/**
 * Imports that send a byte at a time, to occupy the platform for ever. Several users send all they can. Meanwhile other
 * requests are answered as fast as before, and these imports end by themselves. All through the gateway.
 */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { type ClientRequest, type IncomingMessage, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Platform, startPlatform } from "@pm/stack/platform";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Client, logIn, person } from "../e2e/client.ts";

const dataDir = mkdtempSync(join(tmpdir(), "pm-slow-"));
/** As many imports and exports as the gateway lets through at a time, and how many of them a user may have. */
const [places, perUser] = [32, 2];
const imports = { "content-type": "application/x-ndjson" };
let platform: Platform;
let attackers: Client[];
let honest: Client;

beforeAll(async () => {
  platform = await startPlatform({ dataDir, durable: false, gateway: { LOGIN_RATE_PER_SECOND: "1000" } });
  honest = await logIn(platform);
  attackers = [];
  for (let user = 0; user < places / perUser; user++) {
    const [email, password] = [`${randomUUID()}@example.com`, "vexing-quartz-jamboree"];
    const created = await honest.send("POST", "/auth/users", { email, name: "Zebulon Quist", roles: ["user"], password });
    expect(created.status, created.text).toBe(201);
    attackers.push(await logIn(platform, { email, password }));
  }
});
afterAll(async () => {
  await platform?.stop();
  rmSync(dataDir, { recursive: true, force: true });
});

type Ended = { status: number; body: { code: string; detail: string }; seconds: number };
type Slow = { call: ClientRequest; ended: Promise<Ended> };

/** Sends a byte per second until it is answered. */
function sendSlowly({ token }: Client): Slow {
  const headers = { authorization: `Bearer ${token}`, ...imports };
  const call = request(`${platform.gatewayUrl}/patients:import`, { method: "POST", headers, agent: false });
  call.on("error", () => undefined);
  const started = performance.now();
  call.write("{");
  const trickle = setInterval(() => call.write(" "), 1_000);
  const ended = once(call, "response").then(async ([response]: IncomingMessage[]) => {
    const seconds = (performance.now() - started) / 1_000;
    let text = "";
    for await (const part of response ?? []) text += part;
    call.destroy();
    return { status: response?.statusCode ?? 0, body: JSON.parse(text), seconds };
  });
  const over = ended.finally(() => clearInterval(trickle));
  over.catch(() => undefined);
  return { call, ended: over };
}

/** What those have answered that have answered. */
async function answered(all: Slow[]): Promise<Ended[]> {
  const now = await Promise.all(all.map(({ ended }) => Promise.race([ended, delay(0)])));
  return now.filter((one) => one !== undefined);
}

/** How long ordinary requests take, in milliseconds from the fastest to the slowest. */
async function ordinary(requests: number): Promise<number[]> {
  const milliseconds: number[] = [];
  for (let index = 0; index < requests; index++) {
    const asked = performance.now();
    const { status, text } = index % 10 === 0 ? await honest.send("POST", "/patients", person()) : await honest.get("/patients?limit=5");
    milliseconds.push(performance.now() - asked);
    expect(status, text).toBeLessThan(300);
  }
  return milliseconds.sort((a, b) => a - b);
}
const at = (milliseconds: number[], share: number) => milliseconds[Math.floor(milliseconds.length * share)] ?? Number.NaN;

test("imports of a byte at a time take no place from others, slow nobody down, and all end within a minute", {
  timeout: 180_000,
}, async () => {
  await ordinary(200);
  const before = await ordinary(400);
  const slow: Slow[] = [];
  for (const user of attackers) {
    const isLast = user === attackers.at(-1);
    const own = Array.from({ length: isLast ? perUser : perUser + 1 }, () => sendSlowly(user));
    slow.push(...own);
    if (isLast) continue;
    const { status, body } = await Promise.race(own.map(({ ended }) => ended));
    expect([status, body.code]).toEqual([429, "resource_exhausted"]);
    expect(body.detail).toContain("You have 2 imports running: one since ");
  }
  await delay(500);
  const late = await honest.send("POST", "/patients:import", `${JSON.stringify(person())}\n`, imports);
  expect([late.status, late.headers.get("retry-after"), late.body]).toEqual([
    503,
    "1",
    expect.objectContaining({ code: "unavailable", detail: expect.stringContaining("imports and exports") }),
  ]);
  const during = await ordinary(400);
  const refused = await answered(slow);
  expect(refused.length).toBe(attackers.length - 1);
  const ends = (await Promise.all(slow.map(({ ended }) => ended))).filter(({ status }) => status !== 429);
  process.stdout.write(`${ends.length} slow imports ended after ${Math.max(...ends.map(({ seconds }) => seconds)).toFixed(1)} s\n`);
  expect(ends.map(({ status, body }) => `${status} ${body.code}`)).toEqual(Array(places).fill("408 request_timeout"));
  expect(ends[0]?.body.detail).toContain("at least 1 KiB per second");
  expect(Math.max(...ends.map(({ seconds }) => seconds))).toBeLessThan(60);
  expect((await honest.send("POST", "/patients:import", `${JSON.stringify(person())}\n`, imports)).status).toBe(200);

  const after = await ordinary(400);
  const figures = [before, during, after].map((times) => `p50 ${at(times, 0.5).toFixed(1)}, p99 ${at(times, 0.99).toFixed(1)} ms`);
  process.stdout.write(`ordinary requests: ${figures[0]} before; ${figures[1]} beside ${places} slow imports; ${figures[2]} after\n`);
  // Other work of this machine moves all of them by some milliseconds.
  for (const [share, noise] of [
    [0.5, 5],
    [0.99, 20],
  ] as const)
    expect(at(during, share)).toBeLessThanOrEqual(1.5 * Math.max(at(before, share), at(after, share)) + noise);
});

test("a body of a byte at a time of an ordinary request occupies no service", async () => {
  const calls = Array.from({ length: 20 }, () => {
    const headers = { authorization: `Bearer ${honest.token}`, "content-type": "application/json" };
    const call = request(`${platform.gatewayUrl}/patients`, { method: "POST", headers, agent: false });
    call.on("error", () => undefined);
    call.write("{");
    return call;
  });
  await delay(500);
  const metrics = await (await fetch(`${platform.envoy.adminUrl}/stats?filter=^cluster.patient.upstream_rq_active$`)).text();
  expect(metrics.trim()).toBe("cluster.patient.upstream_rq_active: 0");
  for (const call of calls) call.destroy();
});

test("places of a killed process are free again within half a minute", { timeout: 120_000 }, async () => {
  const [user] = attackers as [Client];
  const slow = [sendSlowly(user), sendSlowly(user)];
  await delay(1_000);
  const send = async () => (await user.send("POST", "/patients:import", `${JSON.stringify(person())}\n`, imports)).status;
  expect(await send()).toBe(429);
  await platform.services.patient.kill();
  const killed = performance.now();
  await platform.services.patient.restart();
  for (const { call } of slow) call.destroy();
  await expect.poll(send, { timeout: 60_000, interval: 500 }).toBe(200);
  process.stdout.write(`places were free ${((performance.now() - killed) / 1_000).toFixed(1)} s after the process was killed\n`);
  expect(performance.now() - killed).toBeLessThan(35_000);
});
