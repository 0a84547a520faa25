/** The rules of patients: who can register, read and change them. */
import { randomUUIDv7 } from "node:crypto";
import type { AuditTrail } from "@pm/kit/audit/trail";
import { createBatcher } from "@pm/kit/batcher";
import { AppError } from "@pm/kit/errors";
import { matchesIfMatch } from "@pm/kit/http/etag";
import { isUuid } from "@pm/kit/uuid";
import { type BillingAccounts, headStartMs } from "../billing/accounts.ts";
import { type Call, viewerOf } from "../caller.ts";
import type { RecordSettings } from "../config.ts";
import type { PatientDatabase } from "../database.ts";
import type { Action, Patient, PatientRecord } from "../tables.ts";
import { findFor, notFound } from "./access.ts";
import type { AccessLevel } from "./access-store.ts";
import { deletedEvent, registeredEvent, restoredEvent, updatedEvent } from "./events.ts";
import { type Rules, rulesAt } from "./fields.ts";
import { diffRecords, emailKeyOf, newRecord, patchedRecord, replacedRecord } from "./record.ts";
import { searchWords } from "./search.ts";
import { type Reading, type Replay, readFirstVersions, readPatients } from "./store.ts";
import { type Creation, changePatient, emailTaken, insertPatients, type NewPatient, sha256 } from "./write-store.ts";

/** How many requests share one statement at most. */
const maxBatch = 64;

/** A change without a precondition that loses a race is made again over what the winner left, this often in all. */
const maxTries = 5;

export type Patients = ReturnType<typeof createPatients>;

type Options = {
  db: PatientDatabase;
  audit: AuditTrail;
  billing: BillingAccounts;
  now: () => Date;
  settings: RecordSettings;
  /** Called after each commit that wrote events. */
  committed: () => void;
};

export function createPatients(options: Options) {
  return { create: createRegistration(options), get: createReading(options.db), ...createChanges(options) };
}

function createReading(db: PatientDatabase) {
  const readings = createBatcher<Reading, Patient | undefined>({ maxSize: maxBatch, run: (readings) => readPatients(db, readings) });

  return async (call: Call, id: string): Promise<Patient> => {
    if (!isUuid(id)) throw notFound(id);
    const patient = await readings.add({ id, viewer: viewerOf(call.caller), requestId: call.requestId });
    if (!patient) throw notFound(id);
    return patient;
  };
}

function createRegistration({ db, billing, now, settings, committed }: Options) {
  const creations = createBatcher<NewPatient, Creation>({
    maxSize: maxBatch,
    // The next patients wait until the accounts of these are open. So more of them share a statement and a call to billing.
    linger: billing.settled,
    async run(patients) {
      const results = await insertPatients(db, patients);
      committed();
      return results;
    },
  });
  const replays = createBatcher<Replay, Patient | undefined>({ maxSize: maxBatch, run: (replays) => readFirstVersions(db, replays) });

  /** The answer to a request whose idempotency key was used before. */
  async function replay(call: Call, creation: Creation & { kind: "repeated" }, hash: string | undefined): Promise<Patient> {
    if (creation.hash !== hash)
      throw new AppError("idempotency_key_reused", "Idempotency-Key: was used for another body. Use a new key for a new request.");
    const first = await replays.add({ id: creation.patientId, actor: call.actorId, requestId: call.requestId });
    // The first request under this key was refused for its e-mail. The same request gets the same answer.
    if (!first) throw emailTaken();
    return first;
  }

  /** Registers a patient. The same body under the same idempotency key gets the first answer again. */
  return async (call: Call, body: unknown, key: string | undefined): Promise<Patient & { repeated: boolean }> => {
    const at = now();
    const id = randomUUIDv7();
    const record = newRecord(body, rulesAt(at.getTime(), settings));
    const idempotency = key === undefined ? undefined : { key, hash: sha256(JSON.stringify(body)) };
    const result = await creations.add({
      id,
      at,
      actor: call.actorId,
      action: "registered",
      requestId: call.requestId,
      record,
      emailKey: emailKeyOf(record, settings),
      words: searchWords(record),
      idempotency,
      event: registeredEvent(id, at, call.traceparent, record),
      billingAt: new Date(at.getTime() + headStartMs),
    });
    if (result.kind === "email-taken") throw emailTaken();
    if (result.kind === "repeated") return { ...(await replay(call, result, idempotency?.hash)), repeated: true };
    const accountId = await billing.open({
      patient: { patientId: id, name: record.name, email: record.email },
      token: call.caller.kind === "service" ? undefined : call.caller.token,
      traceparent: call.traceparent,
    });
    return { id, version: 1, record, createdAt: at, updatedAt: at, accountId, repeated: false };
  };
}

/** What a change makes of a patient. */
type Next = { action: Extract<Action, "updated" | "deleted" | "restored">; record: PatientRecord; deleted: boolean };

function createChanges({ db, audit, now, settings, committed }: Options) {
  /** Writes the next version of a patient. Undefined if somebody else wrote one in the meantime. */
  async function write(call: Call, found: Patient, next: Next, at: Date): Promise<Patient | undefined> {
    const { id } = found;
    const { action, record } = next;
    const version = found.version + 1;
    const fields = diffRecords(found.record, record).map((difference) => difference.field);
    const event = {
      updated: () => updatedEvent(id, version, at, call.traceparent, record, fields),
      deleted: () => deletedEvent(id, version, at, call.traceparent),
      restored: () => restoredEvent(id, version, at, call.traceparent, record),
    }[action]();
    const who = { actor: call.actorId, requestId: call.requestId };
    const emails = { emailKey: emailKeyOf(record, settings), keepsEmail: found.record.email === record.email };
    const change = { ...who, ...next, ...emails, id, version: found.version, at, words: searchWords(record), fields, event };
    if (!(await changePatient(db, change))) return undefined;
    committed();
    return { ...found, version, record, updatedAt: at, deletedAt: next.deleted ? at : undefined };
  }

  /** A patient that stays as it is. The answer has the record, so it is a read of it. */
  async function unchanged(call: Call, found: Patient): Promise<Patient> {
    const { actorId, requestId } = call;
    await audit.record({ actorId, action: "patient.read", subject: found.id, requestId, details: { version: found.version } });
    return found;
  }

  /**
   * Makes the next version by `decide`, which gives undefined if nothing is to change. With `ifMatch`, a lost race is an error.
   * @param needed what a caller must be allowed to do
   */
  async function change(
    call: Call,
    id: string,
    needed: AccessLevel,
    ifMatch: string | undefined,
    decide: (found: Patient, at: Date) => Next | undefined,
  ): Promise<Patient> {
    for (let tries = 1; tries <= maxTries; tries++) {
      const found = await findFor(db, call, id, needed);
      if (ifMatch !== undefined && !matchesIfMatch(ifMatch, `"${found.version}"`)) throw lostRace(found.version);
      const at = now();
      const next = decide(found, at);
      const patient = await (next ? write(call, found, next, at) : unchanged(call, found));
      if (patient) return patient;
    }
    throw new AppError("aborted", "Others change this patient all the time. Try again.", { retryAfterSeconds: 1 });
  }

  /** Changes the record. That of a deleted patient cannot be changed. */
  const edit = (call: Call, id: string, ifMatch: string | undefined, make: (current: PatientRecord, rules: Rules) => PatientRecord) =>
    change(call, id, "write", ifMatch, (found, at) => {
      if (found.deletedAt) throw notFound(id);
      const record = make(found.record, rulesAt(at.getTime(), settings));
      return diffRecords(found.record, record).length === 0 ? undefined : { action: "updated", record, deleted: false };
    });

  return {
    replace: (call: Call, id: string, body: unknown, ifMatch?: string) =>
      edit(call, id, ifMatch, (current, rules) => replacedRecord(body, current, rules)),

    patch: (call: Call, id: string, body: unknown, ifMatch?: string) =>
      edit(call, id, ifMatch, (current, rules) => patchedRecord(body, current, rules)),

    async remove(call: Call, id: string, ifMatch?: string): Promise<void> {
      await change(call, id, "manage", ifMatch, ({ deletedAt, record }) => {
        if (deletedAt) throw notFound(id);
        return { action: "deleted", record, deleted: true };
      });
    },

    /** Brings a deleted patient back. One that is not deleted stays as it is. */
    restore: (call: Call, id: string, ifMatch?: string) =>
      change(call, id, "write", ifMatch, ({ deletedAt, record }) =>
        deletedAt ? { action: "restored", record, deleted: false } : undefined,
      ),
  };
}

function lostRace(version: number): AppError {
  const message = `If-Match: this patient has changed; it is now at version ${version}. Read it again, and repeat your change on what it is now.`;
  return new AppError("aborted", message, { metadata: { version: String(version) } });
}
