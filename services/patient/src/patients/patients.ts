/** The rules: who may do what to which patient, and what follows from it. */
import { randomUUIDv7 } from "node:crypto";
import type { Caller } from "@pm/kit/auth/verifier";
import { createBatcher } from "@pm/kit/batcher";
import { AppError } from "@pm/kit/errors";
import { type BillingAccounts, headStartMs } from "../billing/accounts.ts";
import { isUuid } from "../ids.ts";
import type { Action, Patient, PatientRecord } from "../tables.ts";
import { deletedEvent, registeredEvent, restoredEvent, updatedEvent } from "./events.ts";
import { diffRecords, newRecord, patchedRecord, replacedRecord } from "./record.ts";
import { searchWords } from "./search.ts";
import {
  type Creation,
  changePatient,
  emailTaken,
  type Found,
  findPatient,
  insertPatients,
  type NewPatient,
  type PatientDatabase,
  type Reading,
  readFirstVersions,
  readPatients,
  sha256,
  type Viewer,
} from "./store.ts";

/** Who calls and within which request. */
export type Call = { caller: Caller; requestId: string; traceparent: string };

export type Patients = ReturnType<typeof createPatients>;

export function notFound(): AppError {
  return new AppError("not_found", "There is no patient with this id.");
}

/** The access rule's side of a caller: `patient:all` lifts it, otherwise it goes by registration, the user and their teams. */
export function viewerOf(caller: Caller): Viewer {
  const principals = [`user:${caller.id}`, ...caller.teams.map((team) => `team:${team}`)];
  return { id: caller.id, seesAll: caller.scopes.has("patient:all"), principals };
}

/** What a change makes of a patient. */
type Next = { action: Extract<Action, "updated" | "deleted" | "restored">; record: PatientRecord; deleted: boolean };

const changeTries = 5;

/** Whether an `If-Match` header (RFC 9110, 13.1.1) names a version. */
export function matches(ifMatch: string, version: number): boolean {
  return ifMatch.split(",").some((tag) => tag.trim() === "*" || tag.trim() === `"${version}"`);
}

function lostRace(version: number): AppError {
  const message = `If-Match: this patient has changed; it is now at version ${version}. Read it again, and repeat your change on what it is now.`;
  return new AppError("aborted", message, { metadata: { version: String(version) } });
}

export function createPatients(options: { db: PatientDatabase; billing: BillingAccounts; now: () => Date; committed: () => void }) {
  const { db, billing, now, committed } = options;

  const creations = createBatcher<NewPatient, Creation>({
    maxSize: 64,
    // The next patients leave when the accounts of these are open, and so share a statement and a call with more of their kind.
    linger: billing.settled,
    async run(patients) {
      const results = await insertPatients(db, patients);
      committed();
      return results;
    },
  });
  const readings = createBatcher<Reading, Patient | undefined>({
    maxSize: 64,
    run: (asked) => readPatients(db, asked),
  });

  const replays = createBatcher<string, Patient | undefined>({ maxSize: 64, run: (ids) => readFirstVersions(db, ids) });

  async function get(call: Call, id: string): Promise<Patient> {
    if (!isUuid(id)) throw notFound();
    const patient = await readings.add({ id, viewer: viewerOf(call.caller), requestId: call.requestId });
    if (!patient) throw notFound();
    return patient;
  }

  /**
   * Makes the next version of a patient by `decide`, which gives undefined where there is nothing to change. Without a
   * precondition a lost race is run again over what the winner left; with one, it is the caller's to decide.
   */
  async function change(
    call: Call,
    id: string,
    ifMatch: string | undefined,
    decide: (found: Found, at: Date) => Next | undefined,
  ): Promise<Patient> {
    if (!isUuid(id)) throw notFound();
    for (let tries = 1; tries <= changeTries; tries++) {
      const found = await findPatient(db, id, viewerOf(call.caller));
      if (!found) throw notFound();
      if (ifMatch !== undefined && !matches(ifMatch, found.version)) throw lostRace(found.version);
      const at = now();
      const next = decide(found, at);
      if (!next) return found;
      const { action, record, deleted } = next;
      const version = found.version + 1;
      const fields = diffRecords(found.record, record).map((difference) => difference.field);
      const event = {
        updated: () => updatedEvent(id, version, at, call.traceparent, record, fields),
        deleted: () => deletedEvent(id, version, at, call.traceparent),
        restored: () => restoredEvent(id, version, at, call.traceparent, record),
      }[action]();
      const words = searchWords(record);
      const who = { actor: call.caller.id, requestId: call.requestId };
      if (await changePatient(db, { ...who, id: found.id, version: found.version, at, action, record, deleted, words, fields, event })) {
        committed();
        return { ...found, version, record, updatedAt: at };
      }
    }
    throw new AppError("aborted", "Others change this patient all the time. Try again.", { retryAfterSeconds: 1 });
  }

  /** A change of the record's text; a deleted patient has none that could be changed. */
  const edit = (call: Call, id: string, ifMatch: string | undefined, make: (current: PatientRecord, at: Date) => PatientRecord) =>
    change(call, id, ifMatch, (found, at) => {
      if (found.deleted) throw notFound();
      const record = make(found.record, at);
      return diffRecords(found.record, record).length === 0 ? undefined : { action: "updated", record, deleted: false };
    });

  return {
    get,

    replace: (call: Call, id: string, body: unknown, ifMatch?: string) =>
      edit(call, id, ifMatch, (current, at) => replacedRecord(body, current, at)),

    patch: (call: Call, id: string, body: unknown, ifMatch?: string) =>
      edit(call, id, ifMatch, (current, at) => patchedRecord(body, current, at)),

    async remove(call: Call, id: string, ifMatch?: string): Promise<void> {
      await change(call, id, ifMatch, ({ deleted, record }) => {
        if (deleted) throw notFound();
        return { action: "deleted", record, deleted: true };
      });
    },

    /** Brings a deleted patient back; one that is not deleted stays as it is. */
    restore: (call: Call, id: string, ifMatch?: string) =>
      change(call, id, ifMatch, ({ deleted, record }) => (deleted ? { action: "restored", record, deleted: false } : undefined)),

    /** Registers a patient. With an idempotency key, the same body under the same key gives the first answer again. */
    async create(call: Call, body: unknown, key: string | undefined): Promise<Patient & { repeated: boolean }> {
      const at = now();
      const id = randomUUIDv7();
      const record = newRecord(body, at);
      const idempotency = key === undefined ? undefined : { key, hash: sha256(JSON.stringify(body)) };
      const result = await creations.add({
        id,
        at,
        actor: call.caller.id,
        action: "registered",
        requestId: call.requestId,
        record,
        words: searchWords(record),
        idempotency,
        event: registeredEvent(id, at, call.traceparent, record),
        billingAt: new Date(at.getTime() + headStartMs),
      });
      if (result.kind === "email-taken") throw emailTaken();
      if (result.kind === "repeated") {
        if (result.hash !== idempotency?.hash)
          throw new AppError("idempotency_key_reused", "Idempotency-Key: was used for another body. Use a new key for a new request.");
        const first = await replays.add(result.patientId);
        // The first request under this key was refused for its e-mail; the same request gets the same answer.
        if (!first) throw emailTaken();
        return { ...first, repeated: true };
      }
      const accountId = await billing.open({
        patient: { patientId: id, name: record.name, email: record.email },
        token: call.caller.kind === "user" ? call.caller.token : undefined,
        traceparent: call.traceparent,
      });
      return { id, version: 1, record, createdAt: at, updatedAt: at, accountId, repeated: false };
    },
  };
}
