/** How many imports and exports run at once, how fast they must be and when they end: two replicas on real Postgres. */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { listenHttp } from "@pm/kit/http/server";
import { createLogger } from "@pm/kit/log";
import { afterAll, expect, test } from "vitest";
import { type Client, type PatientApp, patientsOfThisFile, someBody, startPatientApp } from "./testing.ts";

const { service, database } = await patientsOfThisFile();
const minute = 60_000;
const log = createLogger("patient", "silent");

async function replica(limits: { leaseMs?: number; deadlineMs?: number; patienceMs?: number } = {}) {
  const app = await startPatientApp(database.databaseUrl, {
    limits: { leaseMs: 30_000, deadlineMs: 60 * minute, patienceMs: 30_000, ...limits },
  });
  const server = await listenHttp({ ...app, host: "127.0.0.1", port: 0, log });
  afterAll(async () => {
    server.closeAllConnections();
    await app.close();
  });
  return { app, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}
type Replica = Awaited<ReturnType<typeof replica>>;
const [one, two] = [await replica(), await replica()];

/** The same user on a replica. */
const on = ({ app }: { app: PatientApp }, { caller }: Client) => app.as("user", { id: caller.id });
const line = () => `${JSON.stringify(someBody()).padEnd(1_000)}\n`;
/** Nothing is stored before the first MiB is examined. */
const lines = (count: number) => Array.from({ length: count }, line).join("");

/** An import that is being sent to a replica. */
function send(at: Replica, user: Client, { key, query = "" }: { key?: string; query?: string } = {}) {
  const { token } = on(at, user).caller;
  const call = request(`${at.url}/patients:import${query}`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/x-ndjson", ...(key && { "idempotency-key": key }) },
  });
  call.on("error", () => undefined);
  const ended = once(call, "response").then(async ([response]: IncomingMessage[]) => {
    let text = "";
    for await (const part of response ?? []) text += part;
    return { status: response?.statusCode, headers: response?.headers, body: JSON.parse(text) };
  });
  return { call, ended };
}

const running = async (user: Client): Promise<number> =>
  (await service.db.pool.query("select count(*)::int as n from file_transfers where caller = $1 and expires_at > now()", [user.caller.id]))
    .rows[0].n;
const untilRunning = (user: Client, count: number) => expect.poll(() => running(user), { timeout: 10_000, interval: 20 }).toBe(count);
const importOne = (at: { app: PatientApp }, user: Client) =>
  on(at, user).send("POST", "/patients:import", line(), { "content-type": "application/x-ndjson" });

test("a third import, on whichever replica, is 429 and names the two that run; others are not concerned", async () => {
  const [user, other] = [service.as("user"), service.as("user")];
  const first = send(one, user, { key: "outpatients" });
  first.call.write(line());
  await untilRunning(user, 1);
  const second = send(two, user, { query: "?dryRun=true" });
  second.call.write(line());
  await untilRunning(user, 2);
  for (const at of [one, two]) {
    const { status, headers, body } = await importOne(at, user);
    expect([status, headers.get("retry-after"), body.code]).toEqual([429, "30", "resource_exhausted"]);
    expect(body.detail).toMatch(/^You have 2 imports running: "outpatients" since [\d:.TZ-]+ and one since [\d:.TZ-]+\. Wait until /);
  }
  expect((await importOne(one, other)).status).toBe(200);
  expect((await on(one, user).send("GET", "/patients:export")).status).toBe(200);
  first.call.end();
  expect((await first.ended).status).toBe(200);
  expect((await importOne(two, user)).status).toBe(200);
  second.call.end();
  await second.ended;
});

test("of ten imports at once, two run", async () => {
  const user = service.as("user");
  const all = Array.from({ length: 10 }, (_, index) => send(index % 2 === 0 ? one : two, user));
  for (const { call } of all) call.write(line());
  const refused = all.map(({ ended }) => ended.then(({ status }) => status));
  await untilRunning(user, 2);
  await delay(500);
  for (const { call } of all) call.end();
  expect((await Promise.all(refused)).sort()).toEqual([200, 200, ...Array(8).fill(429)]);
});

test("a slot is free as soon as its client has gone, in the middle of an import or of an export, or after a HEAD", async () => {
  const user = service.as("user");
  const { call, ended } = send(one, user);
  ended.catch(() => undefined);
  call.write(line());
  await untilRunning(user, 1);
  call.destroy();
  await untilRunning(user, 0);
  const file = Array.from({ length: 3_000 }, line).join("");
  expect((await on(one, user).send("POST", "/patients:import", file, { "content-type": "application/x-ndjson" })).status).toBe(200);
  const headers = { authorization: `Bearer ${on(one, user).caller.token}` };
  const reading = request(`${one.url}/patients:export`, { headers }).end();
  const [response] = (await once(reading, "response")) as [IncomingMessage];
  await untilRunning(user, 1);
  response.destroy();
  await untilRunning(user, 0);
  for (let time = 0; time < 3; time++) expect((await fetch(`${one.url}/patients:export`, { method: "HEAD", headers })).status).toBe(200);
  await untilRunning(user, 0);
});

test("a lease is renewed while its import runs, and an import whose slot was taken over ends", async () => {
  const brief = await replica({ leaseMs: 600 });
  const user = service.as("user");
  const imports = [send(brief, user), send(brief, user)];
  for (const { call } of imports) call.write(line());
  await untilRunning(user, 2);
  await delay(1_500);
  expect((await importOne(one, user)).status).toBe(429);
  await service.db.pool.query("update file_transfers set id = gen_random_uuid() where caller = $1", [user.caller.id]);
  for (const { ended } of imports) expect(await ended).toMatchObject({ status: 503, body: { code: "unavailable" } });
});

test("an import that comes too slowly is 408, says what is stored, and goes on under its key", async () => {
  const impatient = await replica({ patienceMs: 700 });
  const user = service.as("user");
  const key = randomUUID();
  const file = lines(1_400);
  const { call, ended } = send(impatient, user, { key });
  const started = performance.now();
  call.write(file);
  let more = "";
  const trickle = setInterval(() => {
    more += " ";
    call.write(" ");
  }, 50);
  const { status, headers, body } = await ended;
  clearInterval(trickle);
  call.destroy();
  expect(performance.now() - started).toBeLessThan(5_000);
  expect([status, headers?.["content-type"], body.code]).toEqual([408, "application/problem+json", "request_timeout"]);
  expect(body.detail).toBe(
    "The file came too slowly: an import must send at least 1 KiB per second. 1000 patients of the first 1000 lines are stored; 0 of these lines failed. Send the whole file again with the same Idempotency-Key: it goes on behind these lines.",
  );
  const whole = await on(one, user).send("POST", "/patients:import", file, {
    "content-type": "application/x-ndjson",
    "idempotency-key": key,
  });
  expect([whole.status, whole.body.created, whole.body.failed]).toEqual([200, 1_400, 0]);
  expect(more.length).toBeGreaterThan(5);
});

test("an import of a byte at a time ends, and one that pauses and is faster in between does not", async () => {
  const impatient = await replica({ patienceMs: 700 });
  const [slow, honest] = [send(impatient, service.as("user")), send(impatient, service.as("user"))];
  const trickle = setInterval(() => slow.call.write(" "), 20);
  for (let part = 0; part < 8; part++) {
    honest.call.write(line());
    await delay(300);
  }
  honest.call.end();
  expect(await honest.ended).toMatchObject({ status: 200, body: { created: 8 } });
  expect(await slow.ended).toMatchObject({ status: 408, body: { detail: expect.stringContaining("0 patients of the first 0 lines") } });
  clearInterval(trickle);
});

test("an import and an export end when their time is over", { timeout: 120_000 }, async () => {
  const hasty = await replica({ deadlineMs: 2_500 });
  const user = service.as("user");
  const address = "x".repeat(490);
  const file = Array.from({ length: 20_000 }, () => `${JSON.stringify(someBody({ address }))}\n`).join("");
  expect((await on(one, user).send("POST", "/patients:import", file, { "content-type": "application/x-ndjson" })).status).toBe(200);
  const { call, ended } = send(hasty, user);
  const trickle = setInterval(() => call.write(line()), 100);
  const reading = request(`${hasty.url}/patients:export`, { headers: { authorization: `Bearer ${on(hasty, user).caller.token}` } }).end();
  const [response] = (await once(reading, "response")) as [IncomingMessage];
  const cut = new Promise((resolve) => response.once("end", () => resolve("whole")).once("error", () => resolve("cut off")));
  await once(response, "readable");
  const { status, body } = await ended;
  clearInterval(trickle);
  expect([status, body.code]).toEqual([408, "request_timeout"]);
  expect(body.detail).toMatch(/^An import may take 60 minutes\. 0 patients of the first 0 lines are stored; .* Leave these lines out /);
  await untilRunning(user, 0);
  response.resume();
  expect(await cut).toBe("cut off");
});
