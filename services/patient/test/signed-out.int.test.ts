/** Imports and exports end with their caller's session: over HTTP, with a real Postgres. */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { type ClientRequest, type IncomingMessage, request } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { listenHttp } from "@pm/kit/http/server";
import { createLogger } from "@pm/kit/log";
import { expect, test } from "vitest";
import { type Client, patientsOfThisFile, someBody } from "./testing.ts";

const { service } = await patientsOfThisFile();
const { app, lifecycle, db, revocations } = service;
const server = await listenHttp({ app, host: "127.0.0.1", port: 0, log: createLogger("patient", "silent"), lifecycle });
const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

const until = () => Date.now() + 300_000;
const signOut = ({ caller }: Client) => revocations.add({ sessions: [{ id: caller.sessionId ?? "", until: until() }] });
const disable = ({ caller }: Client) => revocations.add({ users: [{ id: caller.id, issuedBefore: Date.now() / 1_000, until: until() }] });
const stored = async ({ caller }: Client): Promise<number> =>
  (await db.pool.query("select count(*)::int as n from patients where registered_by = $1", [caller.id])).rows[0].n;

const line = (body = someBody()) => `${JSON.stringify(body)}\n`;
const lines = (count: number) => Array.from({ length: count }, () => line()).join("");
const types = { ndjson: "application/x-ndjson", csv: "text/csv" };

/** An import that is being sent. `ended` gives the answer and when it came. */
function send(client: Client, { key = randomUUID() as string, format = "ndjson" as keyof typeof types } = {}) {
  const headers = { authorization: `Bearer ${client.caller.token}`, "content-type": types[format], "idempotency-key": key };
  const call: ClientRequest = request(`${url}/patients:import`, { method: "POST", headers });
  // After its answer the rest of the file has nowhere to go.
  call.on("error", () => undefined);
  const ended = once(call, "response").then(async ([response]: IncomingMessage[]) => {
    const at = performance.now();
    let text = "";
    for await (const part of response ?? []) text += part;
    return { status: response?.statusCode, type: response?.headers["content-type"], body: JSON.parse(text), at };
  });
  return { call, ended, key };
}

const refusal = {
  status: 401,
  type: "application/problem+json",
  body: { code: "unauthenticated", detail: expect.stringContaining("ended") },
};

test.each(["ndjson", "csv"] as const)(
  "an import as %s that waits for its sender ends at once, and stores nothing of what comes later",
  async (format) => {
    const owner = service.as("user");
    const { call, ended } = send(owner, { format });
    const row = () => `Ada,${randomUUID()}@example.com,1987-04-12,1 Main St\n`;
    const next = () => (format === "csv" ? row() : line());
    call.write((format === "csv" ? "name,email,dateOfBirth,address\n" : "") + next() + next());
    await delay(300);
    const since = performance.now();
    signOut(owner);
    const answer = await ended;
    expect(answer).toMatchObject(refusal);
    expect(answer.at - since).toBeLessThan(500);
    call.end(next());
    await delay(300);
    expect(await stored(owner)).toBe(0);
  },
);

test("a running import ends at once, keeps its batches, and goes on under its key when its sender has signed in again", async () => {
  const owner = service.as("user");
  const { call, ended, key } = send(owner);
  let file = "";
  const sending = setInterval(() => {
    const more = lines(200);
    file += more;
    call.write(more);
  }, 20);
  await expect.poll(() => stored(owner), { timeout: 20_000, interval: 20 }).toBeGreaterThan(1_000);
  const since = performance.now();
  disable(owner);
  const answer = await ended;
  expect(answer).toMatchObject(refusal);
  expect(answer.at - since).toBeLessThan(1_000);
  const kept = await stored(owner);
  await delay(500);
  clearInterval(sending);
  call.destroy();
  expect([kept % 1_000, await stored(owner)]).toEqual([0, kept]);

  const again = service.as("user", { id: owner.caller.id });
  const { status, body } = await again.send("POST", "/patients:import", file, { "content-type": types.ndjson, "idempotency-key": key });
  expect([status, body.created, body.failed]).toEqual([200, file.split("\n").length - 1, 0]);
  expect(await stored(owner)).toBe(body.created);
});

test("a batch that waits in the database when the session ends is not stored", async () => {
  const owner = service.as("user");
  const lock = await db.pool.connect();
  await lock.query("begin; lock table patients in share mode");
  const { call, ended } = send(owner);
  call.end(lines(1_000));
  const waiting = async () =>
    (await db.pool.query("select count(*)::int as n from pg_locks where not granted and relation = 'patients'::regclass")).rows[0].n;
  await expect.poll(waiting, { timeout: 10_000 }).toBe(1);
  signOut(owner);
  await lock.query("commit");
  lock.release();
  expect(await ended).toMatchObject(refusal);
  expect(await stored(owner)).toBe(0);
});

test("an import of somebody else, and one of another session of the same user, go on", async () => {
  const owner = service.as("user");
  const [other, elsewhere] = [service.as("user"), service.as("user", { id: owner.caller.id })];
  const running = [send(other), send(elsewhere)];
  for (const { call } of running) call.write(line());
  await delay(200);
  signOut(owner);
  await delay(200);
  for (const { call } of running) call.end(line());
  for (const { ended } of running) expect(await ended).toMatchObject({ status: 200, body: { created: 2 } });
});

test("an export that nobody reads any further is cut off, and an answer that is cut off does not look whole", {
  timeout: 120_000,
}, async () => {
  const owner = service.as("user");
  // More than lies in the buffers between the database and the reader.
  const address = "x".repeat(490);
  const { call, ended } = send(owner);
  for (let part = 0; part < 20; part++) call.write(Array.from({ length: 1_000 }, () => line(someBody({ address }))).join(""));
  call.end();
  expect(await ended).toMatchObject({ status: 200, body: { created: 20_000 } });

  const read = request(`${url}/patients:export`, { headers: { authorization: `Bearer ${owner.caller.token}` } }).end();
  const [response] = (await once(read, "response")) as [IncomingMessage];
  await once(response, "readable");
  await delay(500);
  const connections = () => new Promise<number>((resolve) => server.getConnections((_, count) => resolve(count)));
  const before = await connections();
  const since = performance.now();
  signOut(owner);
  await expect.poll(connections, { timeout: 2_000, interval: 10 }).toBe(before - 1);
  expect(performance.now() - since).toBeLessThan(1_000);
  let bytes = 0;
  response.on("data", (part: Buffer) => (bytes += part.length));
  const outcome = await new Promise((resolve) => response.once("end", () => resolve("whole")).once("error", () => resolve("cut off")));
  expect(outcome).toBe("cut off");
  expect(bytes).toBeLessThan(20_000 * 800);
});
