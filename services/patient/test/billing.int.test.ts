/**
 * Every patient ends with exactly one account, whatever billing does meanwhile. Billing itself is played by a function;
 * tests/e2e has the real one.
 */

import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { testLifecycle } from "@pm/kit/test/lifecycle";
import { type TestDatabase, testDatabase } from "@pm/stack/testing";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import type { AskBilling } from "../src/billing/accounts.ts";
import { type PatientApp, someBody, startPatientApp } from "./testing.ts";

let database: TestDatabase;
let service: PatientApp;
/** What billing does now, what it was asked, and the one account that it gives to each patient. */
let behave: () => Promise<void>;
let calls: Parameters<AskBilling>[];
const accounts = new Map<string, string>();

const up = async () => undefined;
const down = async () => Promise.reject(new ConnectError("down", Code.Unavailable));
/** Takes connections and answers nothing until the deadline, as a stopped process does. */
const frozen = (timeoutMs: number) =>
  new Promise<never>((_, reject) => setTimeout(() => reject(new ConnectError("late", Code.DeadlineExceeded)), timeoutMs));

const ask: AskBilling = async (patients, options) => {
  calls.push([patients, options]);
  await (behave === up ? up() : behave());
  for (const { patientId } of patients) if (!accounts.has(patientId)) accounts.set(patientId, randomUUID());
  return patients.map(({ patientId }) => accounts.get(patientId) ?? "");
};

beforeAll(async () => {
  database = await testDatabase("patient");
});
afterAll(async () => database?.drop());
beforeEach(async () => {
  behave = up;
  calls = [];
  service = await startPatientApp(database.databaseUrl, { ask, poolSize: 3 });
});
afterEach(async () => service.close());

const create = async (who = service.as("admin")) => (await who.send("POST", "/patients", someBody())).body;
const read = async (id: string) => (await service.as("admin").send("GET", `/patients/${id}`)).body.billing;
/** As if the time that a new patient is left to its creator had passed. */
const makeDue = () => service.db.pool.query("update patient_billing set next_attempt_at = now() where account_id is null");

test("patients that are created together share a call, in the name of whoever created all of them", async () => {
  const [one, other] = [service.as("user"), service.as("user")];
  await Promise.all(Array.from({ length: 20 }, () => create(one)));
  expect(calls.length).toBeLessThan(10);
  expect(calls.flatMap(([patients]) => patients)).toHaveLength(20);
  expect(new Set(calls.map(([, options]) => options.token))).toEqual(new Set([one.caller.token]));
  calls = [];
  await Promise.all([one, other, one, other].map((who) => create(who)));
  for (const [patients, { token }] of calls) if (patients.length === 4) expect(token).toBeUndefined();
});

test("billing down: the patient is created and pending, and active by itself when billing is back", async () => {
  behave = down;
  const patient = await create();
  expect(patient.billing).toEqual({ status: "pending" });
  await makeDue();
  const lifecycle = testLifecycle();
  service.billing.startWorker(lifecycle);
  await expect.poll(() => calls.length, { timeout: 20_000 }).toBeGreaterThan(2);
  expect(await read(patient.id)).toEqual({ status: "pending" });
  behave = up;
  await expect.poll(() => read(patient.id), { timeout: 20_000, interval: 100 }).toMatchObject({ status: "active" });
  expect(await read(patient.id)).toEqual({ status: "active", accountId: accounts.get(patient.id) });
  await lifecycle.shutdown("test");
});

test("billing frozen: creates stay fast and hold no database connection", async () => {
  behave = () => frozen(1_000);
  const started = performance.now();
  const patients = await Promise.all(Array.from({ length: 30 }, () => create()));
  expect(performance.now() - started).toBeLessThan(2_500);
  expect(patients.every((patient) => patient.billing.status === "pending")).toBe(true);
  expect(service.db.pool.idleCount).toBe(service.db.pool.totalCount);
  const slow: number[] = [];
  for (let count = 0; count < 10; count++) {
    const before = performance.now();
    await create();
    slow.push(performance.now() - before);
  }
  // At most the first ones of each call wait; everybody else sees that it hangs.
  expect(slow.filter((milliseconds) => milliseconds > 250).length).toBeLessThan(5);
});

test("an account that billing opened although its answer was lost is found by asking again, and not opened twice", async () => {
  behave = down;
  const patient = await create();
  accounts.set(patient.id, randomUUID());
  behave = up;
  await makeDue();
  const lifecycle = testLifecycle();
  service.billing.startWorker(lifecycle);
  await expect
    .poll(() => read(patient.id), { timeout: 20_000, interval: 100 })
    .toEqual({ status: "active", accountId: accounts.get(patient.id) });
  await lifecycle.shutdown("test");
});

test("one patient that billing refuses holds up no others", async () => {
  behave = down;
  const patients = [await create(), await create(), await create()];
  behave = async () => {
    if (calls.at(-1)?.[0].some(({ patientId }) => patientId === patients[1].id)) throw new ConnectError("no", Code.InvalidArgument);
  };
  await makeDue();
  const lifecycle = testLifecycle();
  service.billing.startWorker(lifecycle);
  for (const index of [0, 2])
    await expect.poll(() => read(patients[index].id), { timeout: 20_000, interval: 100 }).toMatchObject({ status: "active" });
  expect(await read(patients[1].id)).toEqual({ status: "pending" });
  const { rows } = await service.db.pool.query(
    "select attempts, next_attempt_at > now() + interval '10 s' as later from patient_billing where patient_id = $1",
    [patients[1].id],
  );
  expect(rows).toEqual([{ attempts: 1, later: true }]);
  await lifecycle.shutdown("test");
});

test("two workers at once take different patients", async () => {
  behave = down;
  const patients = await Promise.all(Array.from({ length: 20 }, () => create()));
  behave = up;
  calls = [];
  await makeDue();
  const lifetimes = [testLifecycle(), testLifecycle()];
  for (const lifecycle of lifetimes) service.billing.startWorker(lifecycle);
  for (const { id } of patients) await expect.poll(() => read(id), { timeout: 20_000, interval: 100 }).toMatchObject({ status: "active" });
  const asked = calls.flatMap(([batch]) => batch.map(({ patientId }) => patientId));
  expect(asked.filter((id) => patients.some((patient) => patient.id === id))).toHaveLength(patients.length);
  for (const lifecycle of lifetimes) await lifecycle.shutdown("test");
});

test("while an import runs, the worker leaves its time to it", async () => {
  behave = down;
  const before = await create();
  await makeDue();
  behave = up;
  const lifecycle = testLifecycle();
  service.billing.startWorker(lifecycle, () => true);
  await expect.poll(() => read(before.id), { timeout: 5_000, interval: 50 }).toMatchObject({ status: "active" });
  behave = down;
  const next = await create();
  await makeDue();
  behave = up;
  // A worker that is not held back would have found it in between.
  await delay(2_000);
  expect(await read(next.id)).toEqual({ status: "pending" });
  await lifecycle.shutdown("test");
});
