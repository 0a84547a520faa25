/** The rules of patients: who can read and change them. */
import { isDeepStrictEqual } from "node:util";
import type { AuditTrail } from "@pm/kit/audit/trail";
import { createBatcher } from "@pm/kit/batcher";
import { AppError } from "@pm/kit/errors";
import { matchesIfMatch } from "@pm/kit/http/etag";
import { retryConflicts } from "@pm/kit/postgres/transaction";
import { isUuid } from "@pm/kit/uuid";
import { type Call, viewerOf } from "../caller.ts";
import type { RecordSettings } from "../config.ts";
import type { PatientDatabase } from "../database.ts";
import type { Action, Patient, PatientRecord } from "../tables.ts";
import { findFor, notFound } from "./access.ts";
import type { AccessLevel } from "./access-store.ts";
import { type Change, changePatient } from "./change-store.ts";
import { claimsOf } from "./conflicts.ts";
import type { Claim } from "./conflicts-store.ts";
import { deletedEvent, restoredEvent, updatedEvent } from "./events.ts";
import { type Rules, rulesAt } from "./fields.ts";
import { diffRecords, emailKeyOf, type FieldChange, patchedRecord, replacedRecord } from "./record.ts";
import { createRegistration, type RegistrationOptions } from "./registration.ts";
import { searchWords } from "./search.ts";
import { type Found, findSurvivor, type Reading, readPatients, readRestricted } from "./store.ts";

/** How many reads share one statement at most. */
const maxBatch = 64;

/** After a batch of reads, the next ones wait this long at most for its callers to come back. People do not feel it. */
const gatherMs = 2;

/** A change without a precondition that loses a race is made again over what the winner left, this often in all. */
const maxTries = 5;

export type Patients = ReturnType<typeof createPatients>;

/**
 * What a line of an import changes of a patient. `claims` are what the record has after it, and did not have before.
 */
export type Merge = { changes: FieldChange[]; claims: Claim[] };

type Options = RegistrationOptions & { audit: AuditTrail };

export function createPatients(options: Options) {
  return { create: createRegistration(options), get: createReading(options.db), ...createChanges(options) };
}

function createReading(db: PatientDatabase) {
  const readings = createBatcher<Reading, Patient | undefined>({
    name: "patient_reads",
    ...{ maxSize: maxBatch, gatherMs },
    run: (readings) => readPatients(db, readings),
  });

  /** Reads a patient. The id of a merged record leads to its survivor. */
  return async (call: Call, id: string): Promise<Patient> => {
    const { actorId: actor, caller, requestId } = call;
    const viewer = viewerOf(caller);
    let sought: string | undefined = id;
    // The survivor that was found may be merged just now.
    for (let tries = 1; sought !== undefined && isUuid(sought) && tries <= maxTries; tries++) {
      const patient = await readings.add({ id: sought, viewer, requestId });
      if (patient) return patient;
      const next = await findSurvivor(db, id, viewer);
      sought = next === sought ? undefined : next;
    }
    const restricted = caller.scopes.has("patient:erase") && isUuid(id) ? await readRestricted(db, { id, actor, requestId }) : undefined;
    if (!restricted) throw notFound(id);
    return restricted;
  };
}

/** What a change makes of a patient. */
export type Next = { action: Extract<Action, "updated" | "deleted" | "restored">; record: PatientRecord; deleted: boolean };

/** The next version of a patient, with what is written beside it. */
export function changeOf(call: Call, found: Found, next: Next, at: Date, settings: RecordSettings): Change {
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
  const content = { ...next, ...emails, before: found.record, words: searchWords(record), fields, event };
  return { ...who, ...content, id, version: found.version, at };
}

/** A patient after a change. */
export const changed = (found: Found, next: Next, at: Date): Patient => {
  return { ...found, version: found.version + 1, record: next.record, updatedAt: at, deletedAt: next.deleted ? at : undefined };
};

function createChanges({ db, audit, conflicts, now, settings, committed }: Options) {
  /** Writes the next version of a patient. Undefined if somebody else wrote one in the meantime. */
  async function write(call: Call, found: Found, next: Next, at: Date): Promise<Patient | undefined> {
    const change = changeOf(call, found, next, at, settings);
    const claims = claimsOf(next.record, settings, found.deletedAt ? undefined : found.record);
    // A transfer of many records, or a merge, may lock rows in another order than the statement does.
    if (!(await conflicts.counted(call, found.id, claims, () => retryConflicts(() => changePatient(db, change))))) return undefined;
    committed();
    return changed(found, next, at);
  }

  /** A patient that stays as it is. The answer has the record, so it is a read of it. */
  async function unchanged(call: Call, found: Patient): Promise<Patient> {
    const { actorId, requestId } = call;
    await audit.record({ actorId, action: "patient.read", subject: found.id, requestId, details: { version: found.version } });
    return found;
  }

  /**
   * Makes the next version by `decide`; undefined changes nothing. With `ifMatch`, a lost race is an error.
   * @param needed what a caller must be allowed to do
   */
  async function change(
    call: Call,
    id: string,
    needed: AccessLevel,
    ifMatch: string | undefined,
    decide: (found: Found, at: Date) => Next | undefined,
  ): Promise<Patient> {
    for (let tries = 1; tries <= maxTries; tries++) {
      const found = await findFor(db, call, id, needed);
      if (ifMatch !== undefined && !matchesIfMatch(ifMatch, `"${found.version}"`)) throw lostRace(found.version);
      const at = later(now(), found);
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

    /** Patches a patient by a line of an import, which may depend on what is there. A preview is a read. */
    async merge(call: Call, id: string, bodyFor: (current: PatientRecord) => unknown, isPreview: boolean): Promise<Merge> {
      let merged: Merge = { changes: [], claims: [] };
      await edit(call, id, undefined, (current, rules) => {
        const record = patchedRecord(bodyFor(current), current, rules);
        merged = { changes: diffRecords(current, record), claims: claimsOf(record, settings, current) };
        return isPreview ? current : record;
      });
      return merged;
    },

    async remove(call: Call, id: string, ifMatch?: string): Promise<void> {
      await change(call, id, "manage", ifMatch, ({ deletedAt, record }) => {
        if (deletedAt) throw notFound(id);
        return { action: "deleted", record, deleted: true };
      });
    },

    /**
     * Brings a deleted patient back, with what a patch changes of the record: somebody else may have got its e-mail or
     * an identifier meanwhile. One that is not deleted stays; a patch that it does not follow already is refused.
     */
    restore: (call: Call, id: string, body: unknown, ifMatch?: string) =>
      change(call, id, "write", ifMatch, (found, at) => {
        // A record that settings of today would refuse comes back as it was.
        const record = isDeepStrictEqual(body, {}) ? found.record : patchedRecord(body, found.record, rulesAt(at.getTime(), settings));
        if (found.deletedAt) return { action: "restored", record, deleted: false };
        if (diffRecords(found.record, record).length === 0) return undefined;
        throw new AppError("failed_precondition", "This patient is not deleted. Change the record by a PATCH.");
      }),
  };
}

/**
 * The time of a change is after the one before, whatever the clocks of the replicas say. So analytics, which orders the
 * merges of a record and its own changes by their times, ends with the last one.
 */
export function later(now: Date, ...records: Pick<Patient, "updatedAt">[]): Date {
  return new Date(Math.max(now.getTime(), ...records.map(({ updatedAt }) => updatedAt.getTime() + 1)));
}

export function lostRace(version: number, what = "If-Match: this patient"): AppError {
  const message = `${what} has changed; it is now at version ${version}. Read it again, and repeat your change on what it is now.`;
  return new AppError("aborted", message, { metadata: { version: String(version) } });
}
