/**
 * What operators do: handle dead letters, rebuild, run commands, keep a dashboard open for longer than a token lives,
 * and undo amounts that only earlier releases accepted.
 */
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { create, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { createKafka, createSender, type Message } from "@pm/kit/kafka/client";
import { createLogger } from "@pm/kit/log";
import { PatientEventSchema } from "@pm/proto/patient/v1/events";
import { environmentFor } from "@pm/stack/environment";
import { query } from "@pm/stack/native/postgres";
import { type Platform, startPlatform } from "@pm/stack/platform";
import { ROOT } from "@pm/stack/services";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openReplica } from "../../services/billing/test/testing.ts";
import { logIn, person } from "../e2e/client.ts";

/** Short, so that a dashboard soon outlives it. */
const tokenSeconds = 10;
const dataDir = mkdtempSync(join(tmpdir(), "pm-operators-"));
let platform: Platform;

beforeAll(async () => {
  platform = await startPlatform({ dataDir, durable: false, env: { auth: { ACCESS_TOKEN_SECONDS: String(tokenSeconds) } } });
});
afterAll(async () => {
  await platform?.stop();
  rmSync(dataDir, { recursive: true, force: true });
});

/** Runs a command of the service as an operator would, in the service's environment. */
async function run(command: string, ...args: string[]): Promise<{ code: number; said: Record<string, unknown> }> {
  const env = environmentFor({ ...platform, host: "127.0.0.1", brokers: platform.kafka.brokers }).analytics;
  const path = join(ROOT, "services", "analytics", "src/commands", command);
  const { code, stdout } = await promisify(execFile)(process.execPath, [path, ...args], { env: { PATH: process.env.PATH, ...env } }).then(
    ({ stdout }) => ({ code: 0, stdout }),
    (error: { code: number; stdout: string }) => error,
  );
  return { code, said: JSON.parse(stdout) };
}

/** A registration that only Kafka knows of. */
function registration(patientId: string, payloadId = patientId): Message {
  const at = timestampFromMs(Date.now());
  const value = {
    demographics: { dateOfBirth: "1990-01-01", sex: "female", city: "Bonn", state: "" },
    registeredDate: "2026-01-01",
    registeredAt: at,
  };
  const event = create(PatientEventSchema, { patientId: payloadId, version: 1n, occurredAt: at, event: { case: "registered", value } });
  const headers = { ce_id: randomUUID(), ce_type: "patient.v1.registered", ce_source: "/test", ce_time: new Date().toISOString() };
  return { key: patientId, value: Buffer.from(toBinary(PatientEventSchema, event)), headers };
}

test("an event that cannot be counted waits with those behind it, is inspected, refused again, given up, and the rest is counted", {
  timeout: 180_000,
}, async () => {
  const created = await (await logIn(platform)).send("POST", "/patients", person());
  expect(created.status, created.text).toBe(201);
  // Nothing is wrong yet. The check waits for a service that refuses connections, as it must in a new pod.
  await platform.services.patient.stop();
  const wall = createServer((socket) => socket.destroy()).listen(platform.ports.patient, "127.0.0.1");
  const checking = run("check-consistency.ts");
  await once(wall, "connection");
  await new Promise((resolve) => wall.close(resolve));
  await platform.services.patient.restart();
  expect(await checking).toMatchObject({ code: 0, said: { drift: 0, settled: true, deadLetters: 0 } });
  expect(await run("replay-dead-letters.ts")).toEqual({ code: 0, said: { replayed: 0, waiting: 0 } });

  const sender = createSender(createKafka({ brokers: platform.kafka.brokers, clientId: "test" }, createLogger("test", "silent")));
  const patientId = randomUUID();
  const [broken, good] = [registration(patientId, "nobody"), registration(patientId)];
  await sender.send([{ topic: "patient.v1", messages: [broken, good] }]);
  await sender.close();
  const list = async () =>
    (await (await logIn(platform)).get("/analytics/dead-letters?state=waiting&topic=patient.v1")).body as {
      items: Record<string, string>[];
    };
  await expect.poll(async () => (await list()).items.length, { timeout: 30_000, interval: 500 }).toBe(2);
  const [follower, first] = (await list()).items;
  expect(first).toMatchObject({
    eventId: broken.headers.ce_id,
    key: patientId,
    reason: "patient_id is not a UUID",
    tries: 5,
    state: "waiting",
  });
  expect(follower).toMatchObject({ eventId: good.headers.ce_id, reason: "follows a dead letter of its key", tries: 0 });

  const operator = await logIn(platform);
  const page = (await operator.get("/analytics/dead-letters?limit=1")).body as { items: unknown[]; nextCursor: string };
  expect(page.items).toEqual([follower]);
  expect((await operator.get(`/analytics/dead-letters?limit=1&cursor=${page.nextCursor}`)).body).toEqual({ items: [first] });
  const letter = await operator.get(`/analytics/dead-letters/${first?.id}`);
  expect(letter.body).toMatchObject({ ...first, payload: broken.value.toString("base64") });
  expect((await operator.get("/analytics/dead-letters/999999")).status).toBe(404);
  const metrics = await (await fetch(`${platform.services.analytics.url}/metrics`)).text();
  expect(metrics).toContain('consumer_dead_letters_waiting{group="analytics"} 2');
  expect(metrics).toContain('consumer_dead_letters_total{group="analytics",topic="patient.v1"} 2');
  // The offsets are committed to Kafka too, for tools that watch the lag there.
  expect(metrics).toMatch(/consumer_lag_events\{group="analytics",topic="patient\.v1",partition="\d"\} 0/);

  const again = await operator.send("POST", `/analytics/dead-letters/${first?.id}:replay`);
  expect([again.status, (again.body as { detail: string }).detail]).toEqual([409, expect.stringContaining("patient_id is not a UUID")]);
  expect(await run("replay-dead-letters.ts", "patient.v1")).toEqual({ code: 1, said: { replayed: 0, waiting: 2 } });
  expect((await (await logIn(platform)).send("POST", `/analytics/dead-letters/${first?.id}:discard`)).status).toBe(204);
  const rest = await (await logIn(platform)).send("POST", "/analytics/dead-letters:replay?topic=patient.v1");
  expect([rest.status, rest.body]).toEqual([200, { replayed: 1, waiting: 0 }]);
  expect((await list()).items).toEqual([]);
  expect(await run("replay-dead-letters.ts")).toEqual({ code: 0, said: { replayed: 0, waiting: 0 } });

  // The counted patient does not exist in patient-service. The check has to notice that.
  const drifting = await run("check-consistency.ts");
  expect(drifting.code).toBe(1);
  const checks = drifting.said.checks as { name: string; here: string; there: string; holds: boolean }[];
  expect(checks.filter(({ holds }) => !holds).map(({ name, here, there }) => [name, Number(here) - Number(there)])).toEqual([
    ["patients", 1],
    ["active patients", 1],
    ["patients without account", 1],
  ]);
  expect(drifting.said.patientsWithoutAccount).toMatchObject({ ids: expect.arrayContaining([patientId]) });
});

test("a rebuild through the gateway says how far it is, and who asked for what stays provable", { timeout: 120_000 }, async () => {
  const operator = await logIn(platform);
  const started = await operator.send("POST", "/analytics:rebuild");
  expect(started.status).toBe(202);
  const location = started.headers.get("location") ?? "";
  await expect
    .poll(async () => (await (await logIn(platform)).get(location)).body, { timeout: 60_000, interval: 1_000 })
    .toMatchObject({ state: "done" });
  const { eventsDone, eventsTotal } = (await (await logIn(platform)).get(location)).body as { eventsDone: number; eventsTotal: number };
  expect([eventsDone > 0, eventsDone]).toEqual([true, eventsTotal]);

  const { databaseUrl, migrationDatabaseUrl } = platform.databases.analytics;
  const { rows: all } = await query(databaseUrl, (client) => client.query("select actor, action, subject from audit_entries order by id"));
  // Reads leave entries too.
  const rows = all.filter(({ action }) => /\.(replayed|discarded|rebuild-requested)$/.test(action));
  const me = rows.at(-1)?.actor;
  expect(me).toMatch(/^[0-9a-f-]{36}$/);
  expect(rows.map(({ actor, action, subject }) => [actor, action, /^\d+$/.test(subject) ? "an id" : subject])).toEqual([
    ["service:analytics", "dead-letters.replayed", "all topics"],
    [me, "dead-letter.replayed", "an id"],
    ["service:analytics", "dead-letters.replayed", "patient.v1"],
    [me, "dead-letter.discarded", "an id"],
    [me, "dead-letters.replayed", "patient.v1"],
    ["service:analytics", "dead-letters.replayed", "all topics"],
    [me, "rollups.rebuild-requested", "an id"],
  ]);
  await expect
    .poll(() => run("verify-audit.ts"), { timeout: 20_000 })
    .toMatchObject({ code: 0, said: { intact: true, entries: all.length } });
  await query(migrationDatabaseUrl, (client) =>
    client.query("update audit_entries set actor = 'somebody else' where action like '%discarded'"),
  );
  expect(await run("verify-audit.ts")).toMatchObject({ code: 1, said: { intact: false } });
});

test("a dashboard that is open for longer than a token lives goes on, with a new cookie, until its session ends", {
  timeout: 60_000,
}, async () => {
  const address = `${platform.gatewayUrl}/analytics/dashboard`;
  const cookieOf = (response: Response) => response.headers.get("set-cookie")?.split(";")[0] ?? "";
  const send = (path: string, cookie: string, method = "GET") =>
    fetch(`${address}${path}`, { method, redirect: "manual", headers: { cookie, origin: platform.gatewayUrl, connection: "close" } });
  const isSignedIn = async (response: Response) => response.status === 200 && (await response.text()).includes("Sign out");
  const signedIn = await fetch(`${address}/login`, {
    method: "POST",
    redirect: "manual",
    headers: { origin: platform.gatewayUrl },
    body: new URLSearchParams(platform.admin),
  });
  expect(signedIn.status).toBe(303);
  let cookie = cookieOf(signedIn);
  for (let life = 0; life < 2; life++) {
    await delay((tokenSeconds + 1) * 1_000);
    const response = await send("", cookie);
    expect(await isSignedIn(response)).toBe(true);
    expect(cookieOf(response)).toMatch(/^__Host-pm_session=./);
    expect(cookieOf(response)).not.toBe(cookie);
    cookie = cookieOf(response);
  }
  // Whoever signs out late has an access token that has expired.
  await delay((tokenSeconds + 1) * 1_000);
  expect((await send("/logout", cookie, "POST")).status).toBe(303);
  await expect.poll(async () => isSignedIn(await send("", cookie)), { timeout: 5_000 }).toBe(false);
});

test("who may not see the dashboard leaves no session behind by signing in to it", async () => {
  const { send } = await logIn(platform);
  const credentials = { email: `${randomUUID()}@example.com`, password: "correct horse battery" };
  const { body } = await send("POST", "/auth/users", { ...credentials, roles: ["user"] });
  const form = { method: "POST", headers: { origin: platform.gatewayUrl }, body: new URLSearchParams(credentials) };
  expect((await fetch(`${platform.gatewayUrl}/analytics/dashboard/login`, form)).status).toBe(403);
  expect((await send("GET", `/auth/users/${(body as { id: string }).id}/sessions`)).body).toEqual({ items: [] });
});

test("charges of 2^53, which earlier releases took, are in every report and in the check of what is counted, and can be undone", {
  timeout: 120_000,
}, async () => {
  const ledger = openReplica(platform.databases.billing.databaseUrl);
  const accounts = [await ledger.newAccount(), await ledger.newAccount(), await ledger.newAccount()];
  const charges = await Promise.all(accounts.map((id) => ledger.charge(id, 2n ** 53n)));
  const money = async () => {
    const answer = await (await logIn(platform)).get("/analytics/consistency");
    expect(answer.status, answer.text).toBe(200);
    const checks = (answer.body as { checks: { name: string; here: string; holds: boolean }[] }).checks;
    const euros = checks.filter(({ name }) => name.startsWith("EUR "));
    return Object.fromEntries(euros.map(({ name, here, holds }) => [name, holds ? here : "not yet"]));
  };
  const sum = String(3n * 2n ** 53n);
  const charged = { "EUR charged": sum, "EUR outstanding": sum, "EUR credit": "0" };
  await expect.poll(money, { timeout: 30_000, interval: 500 }).toMatchObject(charged);

  const { get } = await logIn(platform);
  const reports = ["summary", "summary?format=csv", "patients", "activity", "billing", "billing?format=csv", "billing?format=svg"];
  const texts = await Promise.all(reports.map((path) => get(`/analytics/${path}`)));
  expect(texts.map(({ status }) => status)).toEqual(reports.map(() => 200));
  for (const index of [0, 1, 4, 5]) expect(texts[index]?.text).toContain(sum);
  const signedIn = await fetch(`${platform.gatewayUrl}/analytics/dashboard/login`, {
    ...{ method: "POST", redirect: "manual", headers: { origin: platform.gatewayUrl }, body: new URLSearchParams(platform.admin) },
  });
  const cookie = signedIn.headers.get("set-cookie")?.split(";")[0] ?? "";
  const page = await fetch(`${platform.gatewayUrl}/analytics/dashboard`, { headers: { cookie } });
  expect([page.status, await page.text()]).toEqual([200, expect.stringContaining("EUR 270,215,977,642,229.76")]);

  const { payment } = await ledger.pay(accounts[0] ?? "", 2n ** 53n);
  await ledger.refund(payment?.paymentId ?? "", undefined);
  for (const { charge } of charges) await ledger.void(charge?.chargeId ?? "");
  const undone = { ...charged, "EUR voided": sum, "EUR refunded": String(2n ** 53n), "EUR outstanding": "0" };
  await expect.poll(money, { timeout: 30_000, interval: 500 }).toMatchObject(undone);
  await ledger.close();
});
