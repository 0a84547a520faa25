/** The main path from outside: five services behind a real Envoy, with real Postgres and Kafka. */
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { type IncomingMessage, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { BillingService } from "@pm/proto/billing/v1/billing";
import { type Platform, startPlatform } from "@pm/stack/platform";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Client, clientOf, logIn, type PatientAnswer, person } from "./client.ts";

let platform: Platform;
let admin: Client;
let nobody: Client;
const dataDir = mkdtempSync(join(tmpdir(), "pm-e2e-"));

beforeAll(async () => {
  platform = await startPlatform({ dataDir, durable: false });
  admin = await logIn(platform);
  nobody = clientOf(platform.gatewayUrl);
});
afterAll(async () => {
  await platform?.stop();
  rmSync(dataDir, { recursive: true, force: true });
});

/** Queries a service's database as the superuser. */
async function rows(database: string, query: string, values: unknown[] = []): Promise<Record<string, unknown>[]> {
  const url = new URL(platform.postgres.url);
  url.pathname = `/${database}`;
  const client = new pg.Client({ connectionString: url.href });
  await client.connect();
  try {
    return (await client.query(query, values)).rows;
  } finally {
    await client.end();
  }
}

async function registrations(): Promise<number> {
  const answer = await admin.get("/analytics/patients?interval=day");
  expect(answer.status, answer.text).toBe(200);
  const { series } = answer.body as { series: { registered: number }[] };
  return series.reduce((sum, day) => sum + day.registered, 0);
}

async function create(client = admin): Promise<PatientAnswer> {
  const answer = await client.send("POST", "/patients", person());
  expect(answer.status, answer.text).toBe(201);
  return answer.body as PatientAnswer;
}

async function untilActive(id: string, timeout = 30_000): Promise<PatientAnswer> {
  let patient: PatientAnswer | undefined;
  await expect
    .poll(
      async () => {
        patient = (await admin.get(`/patients/${id}`)).body as PatientAnswer;
        return patient.billing.status;
      },
      { timeout, interval: 200 },
    )
    .toBe("active");
  return patient as PatientAnswer;
}

/** Expects exactly one account for each patient. */
async function expectOneAccountEach(ids: string[]): Promise<void> {
  const accounts = await rows("billing", "select patient_id::text from accounts where patient_id = any($1::uuid[])", [ids]);
  expect(accounts.map((account) => account.patient_id).sort()).toEqual([...ids].sort());
}

describe("the path", () => {
  test("a patient gets a billing account in billing's database, and analytics counts the registration", async () => {
    const before = await registrations();
    const body = person();
    const answer = await admin.send("POST", "/patients", body);
    expect(answer.status, answer.text).toBe(201);
    const patient = answer.body as PatientAnswer;
    expect(answer.headers.get("location")).toBe(`/patients/${patient.id}`);
    expect(patient).toMatchObject({ name: body.name, email: body.email, dateOfBirth: body.dateOfBirth, address: { text: body.address } });
    const active = await untilActive(patient.id);
    expect(
      await rows("billing", "select id::text as account_id, patient_id::text from accounts where patient_id = $1", [patient.id]),
    ).toEqual([{ account_id: active.billing.accountId, patient_id: patient.id }]);
    await expect.poll(registrations, { timeout: 15_000 }).toBe(before + 1);
  });

  test("S4's body works, and the answer has both forms", async () => {
    const email = person().email;
    const answer = await admin.send("POST", "/api/patients", {
      firstName: "José",
      lastName: "O'Brien",
      dateOfBirth: "1990-02-28",
      address: { street: "1 Main St", city: "Springfield", state: "IL", zipCode: "62701" },
      phoneNumber: "+12175550123",
      email,
    });
    expect(answer.status, answer.text).toBe(201);
    expect(answer.body).toMatchObject({
      name: "José O'Brien",
      firstName: "José",
      lastName: "O'Brien",
      phoneNumber: "+12175550123",
      address: { street: "1 Main St", city: "Springfield", state: "IL", zipCode: "62701", text: expect.stringContaining("Springfield") },
    });
    expect((await admin.get("/api/patients")).status).toBe(200);
  });

  test("gRPC, Connect JSON and gRPC-Web reach billing through the gateway with a token, and nothing does without", async () => {
    const patient = await untilActive((await create()).id);
    const client = createClient(BillingService, createGrpcTransport({ baseUrl: platform.gatewayUrl }));
    const headers = { authorization: `Bearer ${admin.token}` };
    const { account } = await client.getBillingAccount({ key: { case: "patientId", value: patient.id } }, { headers });
    expect(account).toMatchObject({ accountId: patient.billing.accountId, patientId: patient.id });
    await expect(client.getBillingAccount({ key: { case: "patientId", value: patient.id } })).rejects.toThrow(/unauthenticated/);
    const json = await admin.send("POST", "/billing.v1.BillingService/GetBillingAccount", { patientId: patient.id });
    expect(json.status, json.text).toBe(200);
    expect(json.body).toMatchObject({ account: { accountId: patient.billing.accountId, status: "BILLING_ACCOUNT_STATUS_ACTIVE" } });
    expect((await nobody.send("POST", "/billing.v1.BillingService/GetBillingAccount", { patientId: patient.id })).status).toBe(401);
  });
});

describe("bad input", () => {
  test.each([
    ["a body that is not JSON", "POST", "/patients", "{", 400],
    ["an empty body", "POST", "/patients", {}, 400],
    ["wrong types", "POST", "/patients", { name: 1, email: [], address: 7, dateOfBirth: {} }, 400],
    ["a birth date in the future", "POST", "/patients", { ...person(), dateOfBirth: "2999-01-01" }, 400],
    ["a birth date that is none", "POST", "/patients", { ...person(), dateOfBirth: "1990-02-30" }, 400],
    ["an e-mail that is none", "POST", "/patients", { ...person(), email: "nobody" }, 400],
    ["an address of 5,000 letters", "POST", "/patients", { ...person(), address: "x".repeat(5_000) }, 400],
    ["a login without a password", "POST", "/auth/login", { email: "a@example.com" }, 400],
    ["a limit that is no number", "GET", "/patients?limit=many", undefined, 400],
    ["a cursor that was not given out", "GET", "/patients?cursor=abc", undefined, 400],
    ["a date that is none", "GET", "/analytics/patients?from=yesterday", undefined, 400],
    ["an unknown time zone", "GET", "/analytics/patients?timeZone=Mars%2FBase", undefined, 400],
    ["an unknown patient", "GET", `/patients/${randomUUID()}`, undefined, 404],
    ["an id that is none", "GET", "/patients/42", undefined, 404],
    ["an unknown path", "GET", "/nothing/here", undefined, 404],
    ["another media type", "POST", "/patients", "name=x", 415],
  ])("%s: a problem that says so", async (_, method, path, body, status) => {
    const headers: Record<string, string> = status === 415 ? { "content-type": "text/plain" } : {};
    const answer = await admin.send(method, path, body, headers);
    expect(answer.status, answer.text).toBe(status);
    expect(answer.headers.get("content-type")).toMatch(/^application\/problem\+json/);
    const problem = answer.body as { status: number; errors?: { path: string; message: string }[] };
    expect(problem.status).toBe(status);
    if (status === 400) expect(problem.errors?.length).toBeGreaterThan(0);
  });

  test("every wrong field is named at once", async () => {
    const answer = await admin.send("POST", "/patients", { name: "", email: "x", address: "", dateOfBirth: "soon" });
    const paths = (answer.body as { errors: { path: string }[] }).errors.map((error) => error.path);
    expect(new Set(paths)).toEqual(new Set(["name", "email", "address", "dateOfBirth"]));
  });

  test("an e-mail in use is 409, in any case of its letters", async () => {
    const body = person();
    expect((await admin.send("POST", "/patients", body)).status).toBe(201);
    expect((await admin.send("POST", "/patients", { ...body, email: body.email.toUpperCase() })).status).toBe(409);
  });

  test("a body over 1 MiB is 413, and the connection that brought it is closed", async () => {
    // Use a separate connection: the gateway closes it before it has read all. A pooled one could get the next request.
    const body = JSON.stringify({ ...person(), name: "x".repeat(1_100_000) });
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      const headers = { authorization: `Bearer ${admin.token}`, "content-type": "application/json", "content-length": body.length };
      const upload = request(`${platform.gatewayUrl}/patients`, { method: "POST", agent: false, headers }, (response) => {
        response.resume();
        resolve(response);
      });
      upload.on("error", reject);
      upload.end(body);
    });
    expect(answer.statusCode).toBe(413);
    expect(answer.headers["content-type"]).toMatch(/^application\/problem\+json/);
    expect(answer.headers.connection).toBe("close");
  });

  test("bad requests to billing name the field, with ErrorInfo", async () => {
    const answer = await admin.send("POST", "/billing.v1.BillingService/CreateBillingAccount", {
      patientId: "42",
      name: "x",
      email: "x@example.com",
    });
    expect(answer.status).toBe(400);
    expect(answer.text).toMatch(/patient_id/);
  });
});

describe("faults", () => {
  test("billing down: the patient is created, pending, and becomes active when billing is back", async () => {
    await platform.services.billing.kill("SIGKILL");
    let patient: PatientAnswer;
    try {
      patient = await create();
      expect(patient.billing).toEqual({ status: "pending" });
    } finally {
      await platform.services.billing.restart();
    }
    await untilActive(patient.id);
    await expectOneAccountEach([patient.id]);
  });

  test("billing frozen: creates stay fast, reads do not notice, and every patient gets one account afterwards", async () => {
    await platform.services.billing.kill("SIGSTOP");
    const ids: string[] = [];
    const slowest = { create: 0, read: 0 };
    try {
      const createSome = async (): Promise<void> => {
        for (let n = 0; n < 10; n++) {
          const started = performance.now();
          ids.push((await create()).id);
          slowest.create = Math.max(slowest.create, performance.now() - started);
        }
      };
      const readSome = async (): Promise<void> => {
        for (let n = 0; n < 40; n++) {
          const started = performance.now();
          expect((await admin.get("/patients?limit=5")).status).toBe(200);
          slowest.read = Math.max(slowest.read, performance.now() - started);
        }
      };
      await Promise.all([...Array.from({ length: 16 }, createSome), readSome()]);
    } finally {
      await platform.services.billing.kill("SIGCONT");
    }
    process.stdout.write(`billing frozen: slowest create ${slowest.create.toFixed(0)} ms, slowest list ${slowest.read.toFixed(0)} ms\n`);
    expect(slowest.create).toBeLessThan(3_000);
    expect(slowest.read).toBeLessThan(2_000);
    for (const id of ids) await untilActive(id, 60_000);
    await expectOneAccountEach(ids);
  });

  test("Kafka down: patients are created, and analytics catches up", async () => {
    const before = await registrations();
    await platform.kafka.kill();
    const ids = (await Promise.all(Array.from({ length: 5 }, () => create()))).map((patient) => patient.id);
    await platform.kafka.start();
    await expect.poll(registrations, { timeout: 90_000, interval: 500 }).toBe(before + ids.length);
  });

  test("patient-service killed in the middle of 200 creates: what was answered is stored, billed once and counted once", {
    timeout: 180_000,
  }, async () => {
    const before = await registrations();
    const total = async () => Number((await rows("patient", "select count(*)::int as n from patients"))[0]?.n);
    const storedBefore = await total();
    const answered: string[] = [];
    const createMany = async (): Promise<void> => {
      for (let n = 0; n < 12; n++) {
        const answer = await admin.send("POST", "/patients", person()).catch(() => undefined);
        if (answer?.status === 201) answered.push((answer.body as PatientAnswer).id);
      }
    };
    const creating = Promise.all(Array.from({ length: 16 }, createMany));
    await expect.poll(() => answered.length, { timeout: 20_000, interval: 5 }).toBeGreaterThan(20);
    await platform.services.patient.kill("SIGKILL");
    await creating;
    await platform.services.patient.restart();
    // Envoy routes to the service again after its next health check.
    await expect.poll(async () => (await admin.get("/patients?limit=1")).status, { timeout: 20_000 }).toBe(200);
    const stored = (await total()) - storedBefore;
    expect(stored).toBeGreaterThanOrEqual(answered.length);
    await expect.poll(registrations, { timeout: 60_000, interval: 500 }).toBe(before + stored);
    await expect
      .poll(async () => (await rows("patient", "select count(*)::int as n from patient_billing where account_id is null"))[0]?.n, {
        timeout: 60_000,
        interval: 500,
      })
      .toBe(0);
    await expectOneAccountEach(answered);
    process.stdout.write(`killed: ${answered.length} answered, ${stored} stored, counted and billed once\n`);
  });
});
