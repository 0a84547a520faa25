/** A patient is erased everywhere: in every live database, whatever fails meanwhile, and after a restore too. */
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { verifyAudit } from "@pm/kit/audit/verify";
import { type Platform, startPlatform } from "@pm/stack/platform";
import { installPostgresClient } from "@pm/stack/programs/postgres-client";
import type { OperationOutcome } from "fhir/r4.js";
import { Secret, TOTP } from "otpauth";
import { Pool } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Client, clientOf } from "./client.ts";

const dataDir = mkdtempSync(join(tmpdir(), "pm-erasure-"));
const services = ["patient", "billing", "analytics", "auth"] as const;
let platform: Platform;
let admin: Client;
let programs: string;

beforeAll(async () => {
  programs = await installPostgresClient(() => undefined);
  const env = { patient: { RECORD_RETENTION_YEARS: "0" }, billing: { BILLING_RETENTION_YEARS: "0" } };
  platform = await startPlatform({ dataDir, durable: false, env });
  admin = await administrator();
});
afterAll(async () => {
  await platform?.stop();
  rmSync(dataDir, { recursive: true, force: true });
});

/** The first administrator, with a second factor. */
async function administrator(): Promise<Client> {
  const first = clientOf(platform.gatewayUrl);
  const login = (await first.send("POST", "/auth/login", platform.admin)).body as { token: string; refreshToken: string };
  const before = clientOf(platform.gatewayUrl, login.token);
  const { password } = platform.admin;
  const { secret } = (await before.send("POST", "/auth/mfa/totp", { password })).body as { secret: string };
  await before.send("POST", "/auth/mfa/totp/confirm", { code: new TOTP({ secret: Secret.fromBase32(secret) }).generate() });
  const { token } = (await first.send("POST", "/auth/refresh", { refreshToken: login.refreshToken })).body as { token: string };
  return clientOf(platform.gatewayUrl, token);
}

// biome-ignore lint/suspicious/noExplicitAny: answers of many operations
type Body = any;
async function ask(method: string, path: string, body?: unknown): Promise<Body> {
  const answer = await admin.send(method, path, body);
  if (answer.status >= 300) throw new Error(`${method} ${path} answered ${answer.status}: ${answer.text}`);
  return answer.body;
}
const rpc = (name: string, body: object) => ask("POST", `/billing.v1.BillingService/${name}`, { ...body, requestId: randomUUID() });
const euros = (minorUnits: number) => ({ currencyCode: "EUR", minorUnits: String(minorUnits) });

const outputOf = async (program: string, args: string[]) =>
  (await promisify(execFile)(join(programs, program), args, { maxBuffer: 1 << 28, encoding: "buffer" })).stdout;
function urlOf(service: string): string {
  const url = new URL(platform.postgres.url);
  url.pathname = `/${service}`;
  return url.href;
}

/** The databases whose dump has a value, as text in any case or as bytes. */
async function databasesWith(value: string): Promise<string[]> {
  const found: string[] = [];
  for (const service of services) {
    const dump = (await outputOf("pg_dump", ["--dbname", urlOf(service)])).toString().toLowerCase();
    const bytes = Buffer.from(value).toString("hex");
    if (dump.includes(value.toLowerCase()) || dump.includes(bytes)) found.push(service);
  }
  return found;
}

/** A patient with values that nobody else has, and everything that can happen to them. */
async function somebody() {
  const word = randomUUID().replace(/\d/g, "").replaceAll("-", "").slice(0, 12);
  const values = {
    name: `Quillon${word}`,
    former: `Maiden${word}`,
    email: `mail${word}@example.com`,
    street: `Street ${word}`,
    city: `City${word}`,
    identifier: `PASS${word}`.toUpperCase(),
    contact: `Contact${word}`,
    text: `Text${word}`,
    payer: `Payer${word}`,
  };
  const patient = await ask("POST", "/patients", {
    name: `${values.former} Featherstone`,
    email: values.email,
    address: { street: values.street, city: values.city, state: "ZZ" },
    dateOfBirth: "1901-02-03",
    identifiers: [{ system: "passport", value: values.identifier }],
    contacts: [{ name: values.contact }],
  });
  const { id } = patient;
  await expect.poll(async () => (await ask("GET", `/patients/${id}`)).billing.status, { timeout: 15_000 }).toBe("active");
  const { accountId } = (await ask("GET", `/patients/${id}`)).billing;
  await ask("PATCH", `/patients/${id}`, { name: `${values.name} Featherstone` });
  const { payer } = await rpc("CreatePayer", { kind: "PAYER_KIND_PERSON", name: values.payer, reference: values.text });
  await rpc("UpdateBillingAccount", { account: { accountId, payerId: payer.payerId, name: values.name } });
  await rpc("CreateCharge", { accountId, amount: euros(1_000), description: values.text });
  await rpc("CreateInvoice", { accountId, issue: true });
  await rpc("RecordPayment", { accountId, amount: euros(1_000), reference: values.text });
  return { id: id as string, accountId: accountId as string, values: Object.values(values) };
}

/** Dumps a database. Gives how to restore it. */
async function backUp(service: string): Promise<() => Promise<unknown>> {
  const path = join(dataDir, `${service}-${randomUUID()}.dump`);
  await outputOf("pg_dump", ["--format", "custom", "--file", path, "--dbname", urlOf(service)]);
  const empty = "drop schema public cascade; create schema public authorization pg_database_owner; grant usage on schema public to public";
  return async () => {
    await outputOf("psql", ["--quiet", "--command", empty, urlOf(service)]);
    await outputOf("pg_restore", ["--single-transaction", "--dbname", urlOf(service), path]);
  };
}

/** A command about erasures, as an operator runs it in a pod of patient-service. */
function command(name: "apply" | "export", ...options: string[]) {
  const path = join(import.meta.dirname, "../../services/patient/src/commands", `${name}-erasures.ts`);
  const { databaseUrl: DATABASE_URL } = platform.databases.patient;
  const env = { PATH: process.env.PATH, DATABASE_URL, KAFKA_BROKERS: platform.kafka.brokers.join(","), RECORD_RETENTION_YEARS: "0" };
  return promisify(execFile)(process.execPath, [path, ...options], { env });
}

async function registered(): Promise<number> {
  const { series } = await ask("GET", "/analytics/patients?interval=day");
  return series.reduce((sum: number, day: { registered: number }) => sum + day.registered, 0);
}
const stateOf = async (id: string) => (await ask("GET", `/patients/${id}/erasure`)).state;
const countedIn = async (service: string, text: string, values: unknown[]) => {
  const pool = new Pool({ connectionString: urlOf(service), max: 1 });
  const { rows } = await pool.query(text, values);
  await pool.end();
  return rows;
};
const entries = "select ledger_account, currency, sum(amount)::text, count(*)::int from entries group by 1, 2 order by 1, 2";
const isForgotten = (id: string) => async () =>
  (await countedIn("analytics", "select 1 from erasures where patient_id = $1", [id])).length === 1;

test("after an erasure no dump of any database has a value of the patient, and the numbers agree", async () => {
  const { id, values } = await somebody();
  await expect.poll(() => databasesWith(values[4] ?? ""), { timeout: 20_000 }).toEqual(["patient", "analytics"]);
  const [before, ledger] = [await registered(), await countedIn("billing", entries, [])];
  expect((await admin.send("POST", `/patients/${id}:erase`, { reason: "They asked by letter" })).status).toBe(202);
  await expect.poll(() => stateOf(id), { timeout: 20_000 }).toBe("erased");
  await expect.poll(isForgotten(id), { timeout: 20_000 }).toBe(true);
  const { removed } = await ask("GET", `/patients/${id}/erasure`);
  expect(removed.at(-1)).toMatchObject({ service: "analytics", counts: { events: 2, deadLetters: 0, rollups: expect.any(Number) } });
  expect(removed.at(-1).counts.rollups).toBeGreaterThan(0);
  for (const value of values) expect(await databasesWith(value), value).toEqual([]);

  expect(await registered()).toBe(before);
  expect(await countedIn("billing", entries, [])).toEqual(ledger);
  await expect.poll(async () => (await ask("GET", "/analytics/consistency")).drift, { timeout: 30_000 }).toBe(0);
  for (const service of services) {
    const pool = new Pool({ connectionString: urlOf(service), max: 1 });
    expect(await verifyAudit(pool), service).toMatchObject({ intact: true });
    await pool.end();
  }
});

test("a record that a hold keeps from its erasure is deleted by nobody over FHIR, alone or in a transaction", async () => {
  const { id } = await somebody();
  await ask("PUT", `/patients/${id}/hold`, { reason: "A court asks for it" });
  expect((await ask("POST", `/patients/${id}:erase`, { reason: "They asked", restrict: true })).state).toBe("restricted");
  const transaction = { resourceType: "Bundle", type: "transaction", entry: [{ request: { method: "DELETE", url: `Patient/${id}` } }] };
  const answers = [
    await admin.send("GET", `/fhir/R4/Patient/${id}`),
    await admin.send("DELETE", `/fhir/R4/Patient/${id}`),
    await admin.send("POST", "/fhir/R4", transaction, { "content-type": "application/fhir+json" }),
  ];
  expect(answers.map(({ status }) => status)).toEqual([200, 410, 410]);
  const [, ...refusals] = answers.map(({ body }) => (body as OperationOutcome).issue?.[0]?.details?.text);
  expect(refusals).toEqual(Array(2).fill(expect.stringContaining(`Patient/${id} was erased. Version 3 says when.`)));
});

test("an erasure goes on after billing and patient-service were killed", async () => {
  const { id, accountId, values } = await somebody();
  await ask("PUT", `/patients/${id}/hold`, { reason: "A court asks for it" });
  expect((await ask("POST", `/patients/${id}:erase`, { reason: "They asked", restrict: true })).state).toBe("restricted");
  await platform.services.billing.kill();
  await ask("DELETE", `/patients/${id}/hold`);
  await expect.poll(async () => (await ask("GET", `/patients/${id}/erasure`)).removed.length, { timeout: 20_000 }).toBe(3);
  await platform.services.patient.kill();
  expect(await databasesWith(values[0] ?? "")).toContain("billing");
  await Promise.all([platform.services.billing.restart(), platform.services.patient.restart()]);
  await expect.poll(() => stateOf(id).catch(() => ""), { timeout: 90_000, interval: 1_000 }).toBe("erased");
  for (const value of values) expect(await databasesWith(value), value).toEqual([]);
  const names = await countedIn("billing", "select name, status from accounts where id = $1", [accountId]);
  expect(names).toEqual([{ name: "", status: "CLOSED" }]);
}, 180_000);

test("a restored backup brings nobody back, whether erasures come from the topic or from a file", async () => {
  const file = join(dataDir, "erasures.ndjson");
  for (const source of ["topic", "file"]) {
    const { id, values } = await somebody();
    const [city = ""] = values.slice(4);
    await expect.poll(() => databasesWith(city), { timeout: 20_000 }).toEqual(["patient", "analytics"]);
    // The three are of one moment only if nothing happens meanwhile, such as the opening of an account.
    await expect.poll(async () => (await ask("GET", "/analytics/consistency")).drift, { timeout: 30_000 }).toBe(0);
    const backups = await Promise.all(["patient", "billing", "analytics"].map(backUp));
    await ask("POST", `/patients/${id}:erase`, { reason: "They asked" });
    await expect.poll(() => stateOf(id), { timeout: 20_000 }).toBe("erased");
    await expect.poll(isForgotten(id), { timeout: 20_000 }).toBe(true);
    const { stdout } = await command("export");
    expect(stdout).toContain(id);
    writeFileSync(file, stdout);

    const restored = [platform.services.patient, platform.services.billing, platform.services.analytics];
    await Promise.all(restored.map((service) => service.stop()));
    for (const restore of backups) await restore();
    expect(await databasesWith(values[0] ?? "")).toEqual(["patient", "billing"]);
    await Promise.all(restored.map((service) => service.restart()));
    expect(JSON.parse((await command("apply", ...(source === "file" ? ["--file", file] : []))).stdout).applied).toBeGreaterThan(0);
    await expect.poll(() => stateOf(id).catch(() => ""), { timeout: 60_000, interval: 1_000 }).toBe("erased");
    await expect.poll(isForgotten(id), { timeout: 60_000 }).toBe(true);
    for (const value of values) expect(await databasesWith(value), value).toEqual([]);
    await expect.poll(async () => (await ask("GET", "/analytics/consistency")).drift, { timeout: 30_000 }).toBe(0);
  }
}, 300_000);
