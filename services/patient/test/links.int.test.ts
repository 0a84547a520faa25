/**
 * Billing learns whose accounts belong together, whatever it does meanwhile. Billing itself is played by a function;
 * tests/e2e has the real one.
 */

import { randomUUID } from "node:crypto";
import { AppError, toConnectError } from "@pm/kit/errors";
import { createLogger } from "@pm/kit/log";
import { testLifecycle } from "@pm/kit/test/lifecycle";
import { afterEach, beforeEach, expect, test } from "vitest";
import { startLinking } from "../src/billing/links.ts";
import { type Link, resendLinks } from "../src/billing/links-store.ts";
import { patientsOfThisFile, someBody } from "./testing.ts";

let isDown = false;
let isErased = false;
/** Patients whose accounts billing refuses to open. */
let isOpening = true;
const { service, admin } = await patientsOfThisFile({
  ask: async (patients) => {
    if (!isOpening) throw new Error("billing does not open accounts");
    return patients.map(() => randomUUID());
  },
});

let sent: Link[];
/** What billing has after all that it was sent: as billing does, by the highest revision. */
const links = () => new Map([...sent].sort((a, b) => Number(a.revision - b.revision)).map((link) => [link.patientId, link.survivorId]));
let lifecycles: ReturnType<typeof testLifecycle>[];

beforeEach(() => {
  sent = [];
  // Two of them, as two replicas.
  lifecycles = [testLifecycle(), testLifecycle()];
  const send = async (link: Link) => {
    if (isDown) throw new Error("billing is down");
    sent.push(link);
    if (isErased) throw toConnectError(new AppError("failed_precondition", "Erased.", { reason: "ACCOUNT_ERASED" }));
  };
  for (const lifecycle of lifecycles) startLinking({ db: service.db, send, log: createLogger("patient", "silent"), lifecycle });
});
afterEach(async () => {
  for (const lifecycle of lifecycles) await lifecycle.shutdown("test");
});

const create = async (): Promise<string> => (await admin.send("POST", "/patients", someBody())).body.id;
async function merge(survivor: string, duplicate: string): Promise<void> {
  const { version } = (await admin.send("GET", `/patients/${duplicate}`)).body;
  const body = { duplicateId: duplicate, duplicateVersion: version };
  expect((await admin.send("POST", `/patients/${survivor}:merge`, body, { "if-match": "*" })).status).toBe(200);
}
const unmerge = async (survivor: string, duplicate: string) =>
  expect((await admin.send("POST", `/patients/${survivor}:unmerge`, { duplicateId: duplicate })).status).toBe(200);
const waiting = async () =>
  (await service.db.pool.query("select count(*)::int as n from patient_links where next_attempt_at is not null")).rows[0].n;

test("a chain is sent as one step for each account, and its end gives each account back", async () => {
  const [a, b, c] = [await create(), await create(), await create()];
  await merge(b, c);
  await merge(a, b);
  await expect.poll(links, { timeout: 10_000 }).toEqual(new Map([[b, a], [c, a]])); // biome-ignore format: a table
  await unmerge(a, b);
  await expect.poll(links, { timeout: 10_000 }).toEqual(new Map([[b, null], [c, b]])); // biome-ignore format: a table
  await expect.poll(waiting, { timeout: 10_000 }).toBe(0);
});

test("after a restore of billing every link is sent again, with the revision that it has", async () => {
  const [a, b] = [await create(), await create()];
  await merge(a, b);
  await expect.poll(waiting, { timeout: 10_000 }).toBe(0);
  const before = sent.filter(({ patientId }) => patientId === b);
  sent = [];
  expect(await resendLinks(service.db)).toBeGreaterThan(0);
  await expect.poll(waiting, { timeout: 10_000 }).toBe(0);
  expect(sent.filter(({ patientId }) => patientId === b)).toEqual(before);
});

test("what is linked after a restore of patient-service has a higher revision than what was linked before it", async () => {
  const [a, b] = [await create(), await create()];
  await merge(a, b);
  await expect.poll(links, { timeout: 10_000 }).toEqual(new Map([[b, a]]));
  // As a backup has it that was made long before.
  await service.db.pool.query("update patient_links set revision = 1 where patient_id = $1", [b]);
  await unmerge(a, b);
  await merge(a, b);
  await expect.poll(() => sent.length, { timeout: 10_000 }).toBe(2);
  const [before, after] = sent.map(({ revision }) => revision) as [bigint, bigint];
  expect(after).toBeGreaterThan(before);
  expect(after).toBeGreaterThan(BigInt(Date.now() - 60_000) * 1_000n);
});

test("a link to an erased account is not sent again", async () => {
  const [a, b] = [await create(), await create()];
  isErased = true;
  await merge(a, b);
  await expect.poll(() => sent.length, { timeout: 10_000 }).toBe(1);
  await expect.poll(waiting, { timeout: 10_000 }).toBe(0);
  isErased = false;
});

test("while billing is down, only the latest state waits, and it is sent when billing is back", async () => {
  const [a, b] = [await create(), await create()];
  isDown = true;
  await merge(a, b);
  const attempts = async () => (await service.db.pool.query("select max(attempts) as n from patient_links")).rows[0].n;
  await expect.poll(attempts, { timeout: 10_000 }).toBeGreaterThan(0);
  await unmerge(a, b);
  await merge(a, b);
  isDown = false;
  await expect.poll(links, { timeout: 10_000 }).toEqual(new Map([[b, a]]));
  await expect.poll(waiting, { timeout: 10_000 }).toBe(0);
  expect(sent).toHaveLength(1);
});

test("a link waits until both accounts are open", async () => {
  isOpening = false;
  const [a, b] = [await create(), await create()];
  await merge(a, b);
  isOpening = true;
  await new Promise((resolve) => setTimeout(resolve, 2_500));
  expect(sent).toEqual([]);
  await service.db.pool.query(
    "update patient_billing set account_id = gen_random_uuid(), next_attempt_at = null where patient_id = any($1)",
    [[a, b]],
  );
  await expect.poll(links, { timeout: 10_000 }).toEqual(new Map([[b, a]]));
});
