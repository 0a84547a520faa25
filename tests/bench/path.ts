/** The path that every clinic walks: log in, create, read, list, open an account. Through the gateway and directly. */
import { randomUUID, randomUUIDv7 } from "node:crypto";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { createLogger } from "@pm/kit/log";
import { traceparentFrom } from "@pm/kit/metrics";
import { openDatabase } from "@pm/kit/postgres/database";
import { BillingService } from "@pm/proto/billing/v1/billing";
import { Client } from "pg";
import type { PatientDatabase } from "../../services/patient/src/database.ts";
import { registeredEvent } from "../../services/patient/src/patients/events.ts";
import { newRecord } from "../../services/patient/src/patients/record.ts";
import { searchWords } from "../../services/patient/src/patients/search.ts";
import { insertPatients } from "../../services/patient/src/patients/write-store.ts";
import type { Rows } from "./context.ts";
import type { Row } from "./measure.ts";

const run = randomUUID().slice(0, 8);

let people = 0;

function person() {
  const iteration = people++;
  return {
    name: `Bench Person ${iteration}`,
    email: `bench-${run}-${iteration}@example.com`,
    address: "1 Main Street, Springfield",
    dateOfBirth: `${1930 + (iteration % 90)}-0${1 + (iteration % 9)}-1${iteration % 10}`,
  };
}

/** What a create writes, straight into Postgres from here: the floor under every create, with the service's statement and pool. */
function createLimit({ databaseUrl, migrationDatabaseUrl }: { databaseUrl: string; migrationDatabaseUrl: string }): Row {
  const log = createLogger("bench", "silent");
  const settings = { url: databaseUrl };
  const db: PatientDatabase = openDatabase({ settings, poolSize: 10, applicationName: "bench", log });
  return {
    name: "limit: the statement of one create, straight against Postgres",
    async request() {
      const at = new Date();
      const id = randomUUIDv7();
      const record = newRecord(person(), at);
      const event = registeredEvent(id, at, traceparentFrom(undefined), record);
      const rest = { words: searchWords(record), event, idempotency: undefined, billingAt: null };
      const [creation] = await insertPatients(db, [{ id, at, actor: "bench", action: "registered", requestId: id, record, ...rest }]);
      if (creation?.kind !== "created") throw new Error(`the patient was not created: ${creation?.kind}`);
    },
    // Nobody opened accounts for these patients, and billing's reconciliation would do it during the rows that follow.
    async after() {
      const owner = new Client({ connectionString: migrationDatabaseUrl });
      await owner.connect();
      await owner.query("delete from patients where registered_by = 'bench'");
      await owner.end();
      await db.kysely.destroy();
      return [];
    },
  };
}

export const rows: Rows = async ({ platform, http, token }) => {
  const gateway = platform.gatewayUrl;
  const { patient, auth, billing } = platform.services;
  const create = (base: string) => () => http(base, "POST", "/patients", { body: person(), status: 201 });
  const ids: string[] = [];
  const fillIds = async () => {
    if (ids.length > 0) return;
    const page = JSON.parse(await http(gateway, "GET", "/patients?limit=50")) as { items: { id: string }[] };
    ids.push(...page.items.map((item) => item.id));
  };
  const get = (base: string) => (_: number, iteration: number) => http(base, "GET", `/patients/${ids[iteration % ids.length]}`);
  // What autovacuum does within a minute of so many new rows; a row of this bench would be over before.
  const analyze = async () => {
    const client = new Client({ connectionString: platform.databases.patient.migrationDatabaseUrl });
    await client.connect();
    await client.query("analyze");
    await client.end();
  };
  const list = (base: string) => () => http(base, "GET", "/patients?limit=50");
  const login = (base: string) => () => http(base, "POST", "/auth/login", { body: platform.admin, anonymous: true });
  const openAccount = (base: string): Row["request"] => {
    const client = createClient(BillingService, createGrpcTransport({ baseUrl: base }));
    return async () => {
      const { name, email } = person();
      const headers = { authorization: `Bearer ${await token()}` };
      return client.createBillingAccount({ patientId: randomUUID(), name, email, requestId: randomUUID() }, { headers });
    };
  };
  return [
    // Directly first: V8 and the JVM go on compiling for most of a minute, and the limits are for what is warm.
    { name: "create patient, direct", warmUpSeconds: 12, request: create(patient.url) },
    { name: "create patient, gateway", warmUpSeconds: 12, request: create(gateway), limits: { cpuMs: 1.5, perSecond: 1_000 } },
    createLimit(platform.databases.patient),
    { name: "get patient, gateway", prepare: fillIds, request: get(gateway), limits: { cpuMs: 0.7 } },
    { name: "get patient, direct", prepare: fillIds, request: get(patient.url) },
    { name: "list 50 patients, gateway", prepare: analyze, request: list(gateway) },
    { name: "list 50 patients, direct", prepare: analyze, request: list(patient.url) },
    { name: "log in, gateway", concurrency: 4, request: login(gateway) },
    { name: "log in, direct", concurrency: 4, request: login(auth.url) },
    { name: "CreateBillingAccount, gateway", request: openAccount(gateway) },
    { name: "CreateBillingAccount, direct", request: openAccount(billing.url) },
  ];
};
