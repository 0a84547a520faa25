/** Patients without e-mail through the running platform, first with the billing of the version before. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { query } from "@pm/stack/native/postgres";
import { type Platform, startPlatform } from "@pm/stack/platform";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Client, logIn, type PatientAnswer, person } from "./client.ts";

const dataDir = mkdtempSync(join(tmpdir(), "pm-absent-email-"));
const isBefore = join(dataDir, "billing-of-before");
let platform: Platform;
let admin: Client;

beforeAll(async () => {
  writeFileSync(isBefore, "");
  const preload = `--import=${new URL("./billing-before.ts", import.meta.url)}`;
  const env = { patient: { EMAIL_REQUIRED: "false", EMAIL_UNIQUE: "false" }, billing: { NODE_OPTIONS: preload, BILLING_BEFORE: isBefore } };
  platform = await startPlatform({ dataDir, durable: false, env });
  admin = await logIn(platform);
});
afterAll(async () => {
  await platform?.stop();
  rmSync(dataDir, { recursive: true, force: true });
});

const accountOf = async ({ id }: PatientAnswer) => ((await admin.get(`/patients/${id}`)).body as PatientAnswer).billing;

test("with the billing before, a patient without e-mail waits for an account, and everybody else of their batch has one", async () => {
  const bodies = Array.from({ length: 20 }, (_, index) => {
    const { email, ...rest } = person();
    return index % 4 === 0 ? rest : { ...rest, email };
  });
  const answers = await Promise.all(bodies.map((body) => admin.send("POST", "/patients", body)));
  expect(answers.map(({ status }) => status)).toEqual(bodies.map(() => 201));
  const patients = answers.map(({ body }) => body as PatientAnswer);
  const [withEmail, without] = [patients.filter(({ email }) => email), patients.filter(({ email }) => !email)];
  for (const patient of withEmail) await expect.poll(() => accountOf(patient), { timeout: 20_000 }).toMatchObject({ status: "active" });
  // The worker asks for them too, finds them refused, and puts each off alone.
  const lines = [...bodies.slice(0, 8)].map((body) => `${JSON.stringify({ ...body, name: "Imported" })}\n`).join("");
  await admin.send("POST", "/patients:import", lines, { "content-type": "application/x-ndjson" });
  const waiting = `select count(*)::int as n from patient_billing where account_id is null`;
  const count = async (text: string) =>
    (await query(platform.databases.patient.migrationDatabaseUrl, (client) => client.query(text))).rows[0].n;
  await expect.poll(() => count(`${waiting} and attempts > 0`), { timeout: 40_000, interval: 500 }).toBe(without.length + 2);
  expect(await count(waiting)).toBe(without.length + 2);
  for (const patient of without) expect(await accountOf(patient)).toEqual({ status: "pending" });
});

test("with the new billing, they get their accounts by themselves, which have no e-mail", { timeout: 120_000 }, async () => {
  rmSync(isBefore);
  await platform.services.billing.restart();
  await query(platform.databases.patient.migrationDatabaseUrl, (client) =>
    client.query("update patient_billing set next_attempt_at = now() where account_id is null"),
  );
  const { email: _, ...body } = person();
  const created = (await admin.send("POST", "/patients", body)).body as PatientAnswer;
  await expect.poll(() => accountOf(created), { timeout: 40_000 }).toMatchObject({ status: "active" });
  const { items } = (await admin.get("/patients?limit=200")).body as { items: PatientAnswer[] };
  for (const patient of items) await expect.poll(() => accountOf(patient), { timeout: 40_000 }).toMatchObject({ status: "active" });
  const account = await admin.send("POST", "/billing.v1.BillingService/GetBillingAccount", { patientId: created.id });
  expect(account).toMatchObject({ status: 200, body: { account: { name: created.name } } });
  expect((account.body as { account: object }).account).not.toHaveProperty("email");
});
