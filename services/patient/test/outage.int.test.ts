/** Postgres goes away in the middle of everything: 503 at once, and everything works again by itself. */
import { type Postgres, startPostgres } from "@pm/stack/native/postgres";
import { migrate } from "@pm/stack/services";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type PatientApp, someBody, startPatientApp } from "./testing.ts";

let postgres: Postgres;
let service: PatientApp;

beforeAll(async () => {
  // A server of its own: the one that the other tests share must not be killed.
  postgres = await startPostgres({ durable: false });
  const urls = await postgres.createDatabase("patient");
  await migrate({ name: "patient", env: { MIGRATION_DATABASE_URL: urls.migrationDatabaseUrl } });
  service = await startPatientApp(urls.databaseUrl);
});
afterAll(async () => {
  await service?.close();
  await postgres?.stop();
});

test("a lost Postgres is 503 with Retry-After for every operation, and forgotten when it is back", async () => {
  const admin = service.as("admin");
  const { body } = await admin.send("POST", "/patients", someBody());
  const path = `/patients/${body.id}`;
  await postgres.kill();
  for (const [method, target, sent] of [
    ["GET", path, undefined],
    ["GET", "/patients", undefined],
    ["POST", "/patients", someBody()],
    ["PATCH", path, { name: "x" }],
    ["DELETE", path, undefined],
    ["GET", `${path}/history`, undefined],
    ["PUT", `${path}/access`, { users: [], teams: [] }],
  ] as const) {
    const started = performance.now();
    const answer = await admin.send(method, target, sent);
    expect([method, target, answer.status, answer.headers.get("retry-after")]).toEqual([method, target, 503, "1"]);
    expect(performance.now() - started).toBeLessThan(4_000);
  }
  await postgres.start();
  await expect.poll(async () => (await admin.send("GET", path)).status, { timeout: 20_000 }).toBe(200);
  expect((await admin.send("POST", "/patients", someBody())).status).toBe(201);
  expect((await admin.send("GET", "/patients")).body.items).toHaveLength(2);
});
