/** The seed writes what the service would write. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { type TestDatabase, testDatabase } from "@pm/stack/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type PatientApp, startPatientApp } from "../../services/patient/test/testing.ts";
import { personAt } from "./people.ts";

let database: TestDatabase;
let service: PatientApp;

const seed = (...options: string[]) =>
  promisify(execFile)(process.execPath, [join(import.meta.dirname, "seed.ts"), ...options], {
    env: { PATH: process.env.PATH, MIGRATION_DATABASE_URL: database.migrationDatabaseUrl },
  });

beforeAll(async () => {
  database = await testDatabase("patient");
  service = await startPatientApp(database.databaseUrl);
});
afterAll(async () => {
  await service?.close();
  await database?.drop();
});

test("person 17 of a thousand is the same in every run", () => {
  expect(personAt(17, 1_000)).toEqual(personAt(17, 1_000));
  expect(new Set(Array.from({ length: 1_000 }, (_, index) => personAt(index, 1_000).id)).size).toBe(1_000);
});

test("seeded patients have their version, audit entry, event and place in billing's queue, and more can be added", async () => {
  await seed("--patients", "1500");
  await seed("--patients", "500", "--records-only");
  const { rows } = await service.db.pool.query(`select
    (select count(*)::int from patients) as patients,
    (select count(*)::int from outbox) as events,
    (select count(*)::int from patient_billing where next_attempt_at is not null) as due,
    (select count(*)::int from patient_versions v join audit_entries a on a.subject = v.patient_id::text
      where a.details->>'sha256' = encode(sha256(convert_to(v.record::text, 'UTF8')), 'hex')) as proven`);
  expect(rows).toEqual([{ patients: 2_000, events: 1_500, due: 1_500, proven: 2_000 }]);
});

test("seeded patients are read and found like others", async () => {
  const { id, record } = personAt(42, 1_500);
  const admin = service.as("admin");
  expect((await admin.send("GET", `/patients/${id}`)).body).toMatchObject({ ...record, billing: { status: "pending" } });
  const found = await admin.send("GET", `/patients?q=${encodeURIComponent(record.email)}`);
  expect(found.body.items.map((item: { id: string }) => item.id)).toEqual([id]);
});
