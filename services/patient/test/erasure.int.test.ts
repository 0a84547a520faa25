/** Erasing a patient: what goes, what the law keeps and for whom, and that nobody can undo or bypass it. */
import { createHash, randomUUID } from "node:crypto";
import { create, fromBinary } from "@bufbuild/protobuf";
import { verifyAudit } from "@pm/kit/audit/verify";
import { metrics } from "@pm/kit/metrics";
import { tablesWith } from "@pm/kit/test/tables";
import { ErasureHoldsSchema } from "@pm/proto/billing/v1/internal";
import { PatientEventSchema } from "@pm/proto/patient/v1/events";
import { query } from "@pm/stack/native/postgres";
import { expect, test } from "vitest";
import type { ErasureInAnalytics } from "../src/erasure/analytics-client.ts";
import { applyErasure } from "../src/erasure/applying.ts";
import type { ErasureInBilling } from "../src/erasure/billing-client.ts";
import { noteAnalyticsErased, noteBillingErased } from "../src/erasure/store.ts";
import { patientsOfThisFile, someBody } from "./testing.ts";

let heldInBilling: ReturnType<typeof create<typeof ErasureHoldsSchema>> | undefined;
let isBillingDown = false;
/** What happens while billing is asked what it holds. */
let meanwhile: (() => Promise<unknown>) | undefined;
const erasureInBilling: ErasureInBilling = {
  async holds() {
    const happening = meanwhile;
    meanwhile = undefined;
    await happening?.();
    return heldInBilling;
  },
  async restrict() {
    if (isBillingDown) throw new Error("billing is down");
  },
  async erase() {
    if (isBillingDown) throw new Error("billing is down");
    return heldInBilling ?? { at: new Date(), removed: { accounts: 1 } };
  },
};
let isAppliedByAnalytics = true;
/** The events about which analytics was asked. */
const askedAbout: (string | null)[] = [];
const erasureInAnalytics: ErasureInAnalytics = {
  async erased(_, eventId) {
    askedAbout.push(eventId);
    return isAppliedByAnalytics ? { at: new Date(), removed: { events: 2, rollups: 9 } } : undefined;
  },
};
const { database, service, admin } = await patientsOfThisFile({ erasureInBilling, erasureInAnalytics });
const eraser = service.as("admin", { hasSecondFactor: true });
const { db } = service;

const asOwner = (text: string, values: unknown[] = []) => query(database.migrationDatabaseUrl, (client) => client.query(text, values));

/** A patient whose words nobody else has, and whose record is old enough to go. */
async function registered(fields: Record<string, unknown> = {}, { years = 11 } = {}) {
  const word = `Quillonbrack${randomUUID()
    .slice(0, 8)
    .replace(/\d/g, (digit) => "ghijklmnop"[Number(digit)] ?? "")}`;
  const body = someBody({ name: `${word} Featherstone`, email: `${word}@example.com`, address: `1 ${word} Road`, ...fields });
  const { status, body: patient } = await admin.send("POST", "/patients", body, { "idempotency-key": randomUUID() });
  expect(status).toBe(201);
  const old = "update patient_versions set changed_at = changed_at - make_interval(years => $2) where patient_id = $1";
  await asOwner(old, [patient.id, years]);
  await asOwner("update patient_billing set account_id = coalesce(account_id, gen_random_uuid()), next_attempt_at = null");
  return { id: patient.id as string, word };
}
const erase = (id: string, body: object = {}) => eraser.send("POST", `/patients/${id}:erase`, { reason: "They asked", ...body });

/** The ids of patients whom a search finds. */
const found = async (q: string): Promise<string[]> =>
  (await admin.send("GET", `/patients?q=${q}`)).body.items.map((item: { id: string }) => item.id);

test("whoever lacks the scope or the second factor erases nobody", async () => {
  const { id } = await registered();
  for (const role of ["user", "billing", "analyst"] as const)
    expect((await service.as(role, { hasSecondFactor: true }).send("POST", `/patients/${id}:erase`, { reason: "x" })).status).toBe(403);
  const without = await admin.send("POST", `/patients/${id}:erase`, { reason: "x" });
  expect(without).toMatchObject({ status: 403, body: { detail: expect.stringContaining("/auth/mfa/totp") } });
  expect((await admin.send("GET", `/patients/${id}`)).status).toBe(200);
});

test("an erased patient is in no table any more, and everybody gets 404", async () => {
  const { id, word } = await registered({ identifiers: [{ system: "passport", value: `Z${randomUUID()}` }] });
  await admin.send("PUT", `/patients/${id}/access`, { users: [randomUUID()], teams: [] });
  await admin.send("PATCH", `/patients/${id}`, { phoneNumber: "+12175550123" });
  await asOwner("update patient_versions set changed_at = now() - interval '11 years' where patient_id = $1", [id]);
  await asOwner("insert into imports (id, caller, dry_run, prefix_hash) values ($1, 'x', true, '')", [id]);
  await asOwner("insert into import_errors values ($1, 1, $2)", [
    id,
    JSON.stringify([{ path: `${word} Featherstone`, message: "is unknown" }]),
  ]);
  await asOwner("insert into import_emails values ($1, $2)", [
    id,
    createHash("sha256").update(`${word}@example.com`.toLowerCase()).digest(),
  ]);
  expect(await tablesWith(database.migrationDatabaseUrl, word)).toEqual(
    expect.arrayContaining(["patients", "patient_versions", "patient_words", "import_errors"]),
  );

  const { status, body } = await erase(id);
  expect({ status, body }).toMatchObject({ status: 202, body: { patientId: id, state: "erasing", holds: [] } });
  await service.eraseDue();
  const certificate = await eraser.send("GET", `/patients/${id}/erasure`);
  expect(certificate.body).toMatchObject({ state: "erased", reason: "They asked", completedAt: expect.any(String) });
  const counts = certificate.body.removed.map(({ service: name, counts: removed }: { service: string; counts: object }) => [name, removed]);
  expect(counts).toEqual([
    ["patient", { records: 1, grants: 1, searchWords: 1, idempotentAnswers: 1, importErrors: 1, importKeys: 1, unsentEvents: 2 }],
    ["patient", { versions: 2 }],
    ["billing", { accounts: 1 }],
    ["analytics", { events: 2, rollups: 9 }],
  ]);
  expect(await tablesWith(database.migrationDatabaseUrl, word)).toEqual([]);
  for (const path of ["", "/history", "/versions/1", "/access"])
    expect((await eraser.send("GET", `/patients/${id}${path}`)).status, path).toBe(404);
  expect((await eraser.send("POST", `/patients/${id}:restore`)).status).toBe(404);
  expect((await eraser.send("PATCH", `/patients/${id}`, { name: "Back" })).status).toBe(404);
  expect((await eraser.send("GET", "/patients?deleted=true&limit=200")).body.items.map((item: { id: string }) => item.id)).not.toContain(
    id,
  );
  expect(await erase(id)).toMatchObject({ status: 202, body: { id: certificate.body.id, state: "erased" } });
});

test("who follows changes learns of an erasure as of a deletion, without anything about the patient", async () => {
  const { body: before } = await admin.send("GET", "/patients?updatedAfter=0001-01-01T00:00:00Z&deleted=include&limit=200");
  const { id } = await registered();
  await erase(id);
  const { body } = await admin.send("GET", `/patients?updatedAfter=${encodeURIComponent(before.until)}&deleted=include&limit=200`);
  expect(body.items.find((item: { id: string }) => item.id === id)).toMatchObject({ name: "", deletedAt: expect.any(String) });
});

test("words that a living record uses stay, and the search goes on finding others", async () => {
  const { id, word } = await registered();
  const { body: other } = await admin.send("POST", "/patients", someBody({ name: `Zoe ${word}` }));
  await erase(id);
  expect((await db.pool.query("select 1 from patient_words where word = $1", [word.toLowerCase()])).rowCount).toBe(1);
  expect(await found(word)).toContain(other.id);
  expect(await found(word)).not.toContain(id);
});

test("analytics is told by the last event of the patient, and events before it lose their demographics", async () => {
  const { id } = await registered({ address: { city: "Xylophonville", street: "1 Main St" } });
  await erase(id);
  const { rows } = await db.pool.query("select type, payload from outbox where key = $1 and topic = 'patient.v1' order by id", [id]);
  const events = rows.map(({ payload }) => fromBinary(PatientEventSchema, payload));
  expect(rows.map(({ type }) => type)).toEqual(["patient.v1.registered", "patient.v1.erased"]);
  expect(events.map(({ version }) => version)).toEqual([1n, 2n]);
  expect(events[0]?.event).toMatchObject({ case: "registered", value: { registeredDate: expect.any(String) } });
  expect(JSON.stringify(events, (_, value) => (typeof value === "bigint" ? String(value) : value))).not.toContain("Xylophonville");
});

test("everything that stops an erasure is named, and a dry run changes nothing", async () => {
  const { id } = await registered({}, { years: 1 });
  await admin.send("PUT", `/patients/${id}/hold`, { reason: "A court asks for it" });
  heldInBilling = create(ErasureHoldsSchema, {
    outstanding: { currencyCode: "EUR", minorUnits: 5n },
    invoiceCount: 2,
    keepUntilDate: "2034-01-01",
  });
  const refused = await erase(id);
  expect(refused.status).toBe(409);
  const kinds = ["legalHold", "record", "openBalance", "invoices"];
  expect(refused.body.errors.map(({ path }: { path: string }) => path)).toEqual(kinds);
  const { status, body } = await erase(id, { dryRun: true });
  expect(status).toBe(200);
  expect(body.holds.map(({ kind }: { kind: string }) => kind)).toEqual(kinds);
  expect((await admin.send("GET", `/patients/${id}`)).status).toBe(200);
  expect((await eraser.send("GET", `/patients/${id}/erasure`)).status).toBe(404);
  heldInBilling = undefined;
});

test("with restrict, only administrators read what is held, and it goes when the last hold ends", async () => {
  const { id, word } = await registered();
  await admin.send("PUT", `/patients/${id}/hold`, { reason: "A court asks for it" });
  const owner = service.as("user", { id: admin.caller.id });
  expect((await owner.send("GET", `/patients/${id}`)).status).toBe(200);
  expect(await erase(id, { restrict: true })).toMatchObject({ status: 202, body: { state: "restricted", holds: [{ kind: "legalHold" }] } });
  await service.eraseDue();
  expect(await tablesWith(database.migrationDatabaseUrl, word)).toEqual(["patient_versions"]);
  for (const path of ["", "/history", "/versions/1"]) {
    expect((await admin.send("GET", `/patients/${id}${path}`)).status).toBe(200);
    for (const other of [owner, service.as("billing")]) expect((await other.send("GET", `/patients/${id}${path}`)).status).toBe(404);
  }
  expect((await admin.send("GET", `/patients/${id}`)).body.name).toContain(word);
  expect((await admin.send("PATCH", `/patients/${id}`, { name: "x" })).status).toBe(404);
  expect(await found(`${word}&deleted=include`)).not.toContain(id);
  expect((await admin.send("DELETE", `/patients/${id}/hold`)).status).toBe(204);
  await service.eraseDue();
  expect((await eraser.send("GET", `/patients/${id}/erasure`)).body).toMatchObject({ state: "erased", holds: [] });
  expect(await tablesWith(database.migrationDatabaseUrl, word)).toEqual([]);
  expect((await admin.send("GET", `/patients/${id}`)).status).toBe(404);
  expect((await admin.send("PUT", `/patients/${id}/hold`, { reason: "too late" })).status).toBe(409);
});

/** What Prometheus reads of the oldest erasure that waits. */
const waitingSeconds = async () => Number(/^erasures_waiting_seconds (\S+)/m.exec(await metrics.metrics())?.[1]);

test("what was begun is completed when billing answers again, and says meanwhile for whom it waits", async () => {
  const { id, word } = await registered();
  isBillingDown = true;
  await erase(id);
  const waiting = async () => (await eraser.send("GET", `/patients/${id}/erasure`)).body;
  for (let attempts = 1; attempts <= 3; attempts++) {
    await service.eraseDue();
    expect(await waiting()).toMatchObject({ state: "erasing", waiting: { attempts, for: [{ service: "billing", reason: "failed" }] } });
    await asOwner("update erasures set next_attempt_at = now() where patient_id = $1", [id]);
  }
  expect(JSON.stringify(await waiting())).not.toContain(word);
  await asOwner("update erasures set waiting_since = waiting_since - interval '2 hours' where patient_id = $1", [id]);
  expect(await waitingSeconds()).toBeGreaterThan(7_199);
  isBillingDown = false;
  await erase(id);
  await service.eraseDue();
  expect(await waiting()).toMatchObject({ state: "erased" });
  expect(await waiting()).not.toHaveProperty("waiting");
  expect(await waitingSeconds()).toBe(0);
});

test("while the database does not say for how long erasures wait, no time is shown", async () => {
  await asOwner("revoke select on erasures from patient");
  expect(await waitingSeconds()).toBeNaN();
  await asOwner("grant select on erasures to patient");
  expect(await waitingSeconds()).toBe(0);
});

test("an erasure that a hold stops waits for nobody, and one of which no worker takes care does", async () => {
  const { id } = await registered();
  await admin.send("PUT", `/patients/${id}/hold`, { reason: "A court asks for it" });
  await erase(id, { restrict: true });
  await service.eraseDue();
  const { body } = await eraser.send("GET", `/patients/${id}/erasure`);
  expect(body).toMatchObject({ state: "restricted" });
  expect(body).not.toHaveProperty("waiting");
  expect(await waitingSeconds()).toBe(0);
  await asOwner("update erasures set next_attempt_at = now() - interval '2 hours' where patient_id = $1", [id]);
  expect(await waitingSeconds()).toBeGreaterThan(7_199);
  await service.eraseDue();
  expect(await waitingSeconds()).toBe(0);
});

test("an erasure is complete when analytics has applied its event, also one that the release before has ended", async () => {
  const { id } = await registered();
  isAppliedByAnalytics = false;
  await erase(id);
  await service.eraseDue();
  const certificate = async () => (await eraser.send("GET", `/patients/${id}/erasure`)).body;
  const waiting = { attempts: 1, for: [{ service: "analytics", reason: "has not applied the event yet" }] };
  expect(await certificate()).toMatchObject({ state: "erasing", waiting, removed: [{}, {}, { service: "billing" }] });
  await asOwner("update erasures set next_attempt_at = null where patient_id = $1", [id]);
  isAppliedByAnalytics = true;
  await service.eraseDue();
  expect((await certificate()).removed.at(-1)).toMatchObject({ service: "analytics", counts: { events: 2, rollups: 9 } });
  expect(await certificate()).toMatchObject({ state: "erased" });
});

test("an erasure that is done again after a restore waits for its own event, and not for an earlier one", async () => {
  const { id } = await registered();
  await erase(id);
  await service.eraseDue();
  const [row] = (await db.pool.query("select * from erasures where patient_id = $1", [id])).rows;
  isAppliedByAnalytics = false;
  await applyErasure(db, row, 10);
  // A worker that asked about the event before has its answer only now.
  await noteAnalyticsErased(db, row, new Date(), {});
  await noteBillingErased(db, row, new Date(), {});
  await service.eraseDue();
  expect((await eraser.send("GET", `/patients/${id}/erasure`)).body).toMatchObject({ id: row.id, state: "erasing" });
  isAppliedByAnalytics = true;
  await asOwner("update erasures set next_attempt_at = now() where patient_id = $1", [id]);
  await service.eraseDue();
  expect((await eraser.send("GET", `/patients/${id}/erasure`)).body).toMatchObject({ id: row.id, state: "erased" });
  const sent = "select event_id from outbox where key = $1 and type = 'patient.v1.erased' order by id";
  const events = (await db.pool.query(sent, [id])).rows.map(({ event_id }) => event_id);
  expect(events).toHaveLength(2);
  expect(askedAbout.filter((eventId) => events.includes(eventId))).toEqual([events[0], events[1], events[1]]);
});

test("32 erasures of one patient at once are one", async () => {
  const { id, word } = await registered();
  const answers = await Promise.all(Array.from({ length: 32 }, () => erase(id)));
  expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 202));
  expect(new Set(answers.map(({ body }) => body.id)).size).toBe(1);
  expect((await db.pool.query("select 1 from outbox where key = $1 and type = 'patient.v1.erased'", [id])).rowCount).toBe(1);
  await service.eraseDue();
  expect(await tablesWith(database.migrationDatabaseUrl, word)).toEqual([]);
});

test("of an erasure and a change that meet, one wins: what was just written has to be kept", async () => {
  const patients: Awaited<ReturnType<typeof registered>>[] = [];
  for (let n = 0; n < 32; n++) patients.push(await registered());
  const winners = await Promise.all(
    patients.map(async ({ id, word }) => {
      const [erased, changed] = await Promise.all([erase(id), admin.send("PATCH", `/patients/${id}`, { name: `${word} Changed` })]);
      return [erased.status === 202 && "erasure", changed.status === 200 && "change"].filter(Boolean);
    }),
  );
  for (const winner of winners) expect(winner).toHaveLength(1);
});

test("with a survivor the records go that were merged into it, and a merged one cannot go alone", async () => {
  const [survivor, duplicate] = [await registered(), await registered()];
  const { body: version } = await admin.send("GET", `/patients/${duplicate.id}`);
  const { body: own, headers } = await admin.send("GET", `/patients/${survivor.id}`);
  const merged = await admin.send(
    "POST",
    `/patients/${survivor.id}:merge`,
    { duplicateId: duplicate.id, duplicateVersion: version.version },
    { "if-match": headers.get("etag") ?? `"${own.version}"` },
  );
  expect(merged.status, merged.text).toBe(200);
  await asOwner("update patient_versions set changed_at = now() - interval '11 years'");
  expect(await erase(duplicate.id)).toMatchObject({ status: 409, body: { detail: expect.stringContaining(survivor.id) } });
  expect((await erase(survivor.id)).status).toBe(202);
  await service.eraseDue();
  for (const { id, word } of [survivor, duplicate]) {
    expect((await eraser.send("GET", `/patients/${id}/erasure`)).body.state).toBe("erased");
    expect((await admin.send("GET", `/patients/${id}`)).status).toBe(404);
    expect(await tablesWith(database.migrationDatabaseUrl, word)).toEqual([]);
  }
});

test("a record that is merged, or not merged any more, while the erasure is decided is not erased", async () => {
  const [survivor, duplicate, other] = [await registered(), await registered(), await registered()];
  const merge = async (into: string, id: string) => {
    const [{ body, headers }, { body: that }] = [await admin.send("GET", `/patients/${into}`), await admin.send("GET", `/patients/${id}`)];
    const request = { duplicateId: id, duplicateVersion: that.version };
    const { status, text } = await admin.send("POST", `/patients/${body.id}:merge`, request, { "if-match": headers.get("etag") ?? "" });
    expect(status, text).toBe(200);
    await asOwner("update patient_versions set changed_at = now() - interval '11 years'");
  };
  await merge(survivor.id, duplicate.id);
  meanwhile = () => admin.send("POST", `/patients/${survivor.id}:unmerge`, { duplicateId: duplicate.id });
  const first = await erase(survivor.id);
  expect(first.status, first.text).toBe(503);
  await asOwner("update patient_versions set changed_at = now() - interval '11 years'");
  meanwhile = () => merge(other.id, survivor.id);
  expect((await erase(survivor.id)).status).toBe(503);
  for (const { id } of [other, duplicate]) expect((await admin.send("GET", `/patients/${id}`)).status).toBe(200);
});

test("a reason that says who the patient is, is refused: it stays", async () => {
  const { id, word } = await registered();
  for (const reason of [`${word} asked`, `mail from ${word.toUpperCase()}@example.com`])
    expect(await erase(id, { reason })).toMatchObject({ status: 400, body: { errors: [{ path: "reason" }] } });
});

test("neither reasons nor values of the patient are in the audit trail, and the chain holds", async () => {
  const { id, word } = await registered();
  await admin.send("PUT", `/patients/${id}/hold`, { reason: "Zanzibar proceedings" });
  await admin.send("DELETE", `/patients/${id}/hold`);
  await erase(id, { reason: "Letter of the guardian from Quito" });
  const { rows } = await db.pool.query("select action, details::text from audit_entries where subject = $1 order by id", [id]);
  expect(rows.map(({ action }) => action)).toEqual([
    "patient.registered",
    "patient.hold_placed",
    "patient.hold_ended",
    "patient.erased",
    "patient.erasure_read",
  ]);
  for (const text of [word, "Zanzibar", "Quito"]) expect(JSON.stringify(rows)).not.toContain(text);
  expect(await verifyAudit(db.pool)).toMatchObject({ intact: true });
});

test("an erasure removes the answers of batches that name the patient, and all that a dry run noted of them", async () => {
  const [gone, stays] = [await registered(), await registered()];
  const keyOf = async ({ id }: { id: string }, key: string) => {
    const operations = [{ method: "patch", id, body: { sex: "other" } }];
    expect((await admin.send("POST", "/patients:batch", { operations }, { "idempotency-key": key })).status).toBe(200);
    const importId = randomUUID();
    await asOwner("insert into imports (id, caller, dry_run, prefix_hash) values ($1, 'x', true, '')", [importId]);
    const hash = createHash("sha256").update(`new-${id}@example.com`).digest();
    await asOwner("insert into import_emails (import_id, email_hash, patient_id) values ($1, $2, $3)", [importId, hash, id]);
  };
  const [goneKey, staysKey] = [randomUUID(), randomUUID()];
  await keyOf(gone, goneKey);
  await keyOf(stays, staysKey);
  expect((await erase(gone.id, { restrict: true })).status).toBe(202);
  const { rows: keys } = await asOwner("select key from idempotency_keys where key = any($1)", [[goneKey, staysKey]]);
  expect(keys).toEqual([{ key: staysKey }]);
  const { rows: noted } = await asOwner("select patient_id from import_emails where patient_id = any($1)", [[gone.id, stays.id]]);
  expect(noted).toEqual([{ patient_id: stays.id }]);
});

test("a version's digest is salted, and the salt goes with the version", async () => {
  const { id } = await registered();
  const digests = async () =>
    (
      await db.pool.query(
        `select encode(sha256(salt || convert_to(record::text, 'UTF8')), 'hex') = details->>'sha256' as holds,
          encode(sha256(convert_to(record::text, 'UTF8')), 'hex') = details->>'sha256' as unsalted
        from patient_versions v join audit_entries a on a.subject = v.patient_id::text and (a.details->>'version')::bigint = v.version
        where v.patient_id = $1 and a.details ? 'sha256'`,
        [id],
      )
    ).rows;
  await admin.send("PATCH", `/patients/${id}`, { name: "Somebody Else" });
  expect(await digests()).toEqual([
    { holds: true, unsalted: false },
    { holds: true, unsalted: false },
  ]);
  await asOwner("update patient_versions set changed_at = now() - interval '11 years' where patient_id = $1", [id]);
  await erase(id);
  expect((await db.pool.query("select 1 from patient_versions where patient_id = $1 and salt is not null", [id])).rowCount).toBe(0);
});

test("the service may erase by the function alone: it can neither change versions nor the trail, nor use its parts", async () => {
  const { id } = await registered();
  const denied = [
    "update patient_versions set record = '{}'",
    "delete from patient_versions",
    "update audit_entries set details = '{}'",
    "delete from audit_entries",
    "delete from patient_words",
    "delete from erasures",
    "update erasures set record_erased_at = now()",
    `select erase_patient_row('${id}', '{}')`,
    `select erase_patient_traces('${id}')`,
  ];
  for (const text of denied) await expect(db.pool.query(text), text).rejects.toMatchObject({ code: "42501" });
  await expect(db.pool.query("select erase_patient($1, $2)", [id, randomUUID()])).rejects.toThrow("no such erasure");
  // A table of the caller's own does not stand in for one of the service's.
  await db.pool.query("create temporary table erasures (like public.erasures)").catch(() => undefined);
  await expect(db.pool.query("select erase_patient($1, $2)", [id, randomUUID()])).rejects.toThrow("no such erasure");
});
