/** Whose account may be opened: billing asks a real patient-service, until that one is down. */
import { randomUUID } from "node:crypto";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { BillingService } from "@pm/proto/billing/v1/billing";
import { BadRequestSchema, ErrorInfoSchema } from "@pm/proto/google/rpc/error_details";
import { query } from "@pm/stack/native/postgres";
import { freePort } from "@pm/stack/programs/ports";
import { type Service, startService } from "@pm/stack/services";
import { type TestDatabase, testDatabase } from "@pm/stack/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { environmentFor, type Issuer, startBilling, startIssuer } from "./testing.ts";

let databases: Record<"billing" | "patient", TestDatabase>;
let issuer: Issuer;
let billing: Service;
let patients: Service;
let client: ReturnType<typeof createClient<typeof BillingService>>;

beforeAll(async () => {
  databases = { billing: await testDatabase("billing"), patient: await testDatabase("patient") };
  issuer = await startIssuer();
  const port = await freePort();
  billing = await startBilling({ databaseUrl: databases.billing.databaseUrl, issuer, patientUrl: `http://127.0.0.1:${port}` });
  // Only disclosures ask analytics.
  const urls = { BILLING_URL: billing.url, ANALYTICS_URL: billing.url };
  const env = { ...environmentFor(issuer), DATABASE_URL: databases.patient.databaseUrl, ...urls };
  patients = await startService({ name: "patient", port, env });
  client = createClient(BillingService, createGrpcTransport({ baseUrl: billing.url }));
});
afterAll(async () => {
  await Promise.all([billing?.stop(), patients?.stop()]);
  await issuer?.close();
  for (const database of Object.values(databases ?? {})) await database.drop();
});

async function register(authorization: string): Promise<string> {
  const answer = await fetch(`${patients.url}/patients`, {
    method: "POST",
    headers: { authorization, "content-type": "application/json" },
    body: JSON.stringify({ name: "Ada", email: `${randomUUID()}@example.com`, dateOfBirth: "1980-01-01", address: "Somewhere" }),
  });
  return ((await answer.json()) as { id: string }).id;
}
const accountOf = (patientId: string) => ({ patientId, name: "Ada", email: "ada@example.com" });
const open = (patientIds: string[], authorization: string, headers: Record<string, string> = {}) =>
  client.batchCreateBillingAccounts({ requests: patientIds.map(accountOf) }, { headers: { authorization, ...headers } });
async function refusal(call: Promise<unknown>) {
  const error = await call.then(() => expect.unreachable("it was not refused"), ConnectError.from);
  const fields = error.findDetails(BadRequestSchema)[0]?.fieldViolations.map(({ field }) => field);
  return { code: error.code, reason: error.findDetails(ErrorInfoSchema)[0]?.reason, fields };
}
const countOf = (patientIds: string[]) =>
  query(databases.billing.databaseUrl, async (connection) => {
    const { rows } = await connection.query("select count(*)::int as n from accounts where patient_id = any($1::uuid[])", [patientIds]);
    return rows[0].n;
  });

test("a person opens an account for a patient whom they may see, and for nobody else", async () => {
  const [admin, clerk] = [await issuer.person("admin"), await issuer.person("billing")];
  const ward = await issuer.person("user", { scope: "patient:read patient:write billing:write" });
  const [theirs, others] = [await register(ward), await register(admin)];
  for (const who of [admin, clerk]) expect((await open([theirs, others], who)).accounts).toHaveLength(2);
  expect((await client.createBillingAccount(accountOf(theirs), { headers: { authorization: ward } })).status).toBe("ACTIVE");

  const unknown = randomUUID();
  const notFound = { code: Code.NotFound, reason: "PATIENT_NOT_FOUND" };
  for (const who of [admin, clerk]) {
    const one = client.createBillingAccount(accountOf(unknown), { headers: { authorization: who } });
    expect(await refusal(one)).toEqual({ ...notFound, fields: ["patient_id"] });
  }
  expect(await refusal(open([theirs, others], ward))).toEqual({ ...notFound, fields: ["requests[1].patient_id"] });
  const many = Array.from({ length: 120 }, () => randomUUID());
  expect(await refusal(open([theirs, ...many], clerk))).toMatchObject({ ...notFound, fields: { length: 21 } });
  const blind = await issuer.person("billing", { scope: "billing:write" });
  expect(await refusal(open([others], blind))).toMatchObject(notFound);
  expect(await countOf([unknown, ...many])).toBe(0);

  const deleted = await register(admin);
  await fetch(`${patients.url}/patients/${deleted}`, { method: "DELETE", headers: { authorization: admin } });
  expect(await refusal(open([deleted], admin))).toMatchObject(notFound);
});

test("while patient-service is down, a person opens no account, and patient-service's own calls are not asked back", async () => {
  const [admin, service] = [await issuer.person("admin"), await issuer.service("patient")];
  const known = await register(admin);
  await patients.stop();
  const down = { code: Code.Unavailable, reason: "PATIENT_SERVICE_UNAVAILABLE" };
  expect(await refusal(open([known], admin))).toMatchObject(down);
  expect(await refusal(open([randomUUID()], admin))).toMatchObject(down);
  expect((await open([randomUUID()], service)).accounts).toHaveLength(1);
  expect((await open([randomUUID()], service, { "x-on-behalf-of": admin })).accounts).toHaveLength(1);
});
