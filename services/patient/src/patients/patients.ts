/** The rules of patients: who can register, read and change them. */
import { randomUUIDv7 } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import type { AuditTrail } from "@pm/kit/audit/trail";
import { createBatcher } from "@pm/kit/batcher";
import { AppError } from "@pm/kit/errors";
import { matchesIfMatch } from "@pm/kit/http/etag";
import { isUuid } from "@pm/kit/uuid";
import { type BillingAccounts, headStartMs } from "../billing/accounts.ts";
import { type Call, viewerOf } from "../caller.ts";
import type { RecordSettings } from "../config.ts";
import type { PatientDatabase, Viewer } from "../database.ts";
import type { RecordNumbers } from "../record-numbers/record-numbers.ts";
import { type Action, type DuplicateMode, type Patient, type PatientRecord, recordNumberSystem } from "../tables.ts";
import { findFor, notFound } from "./access.ts";
import type { AccessLevel } from "./access-store.ts";
import { changePatient } from "./change-store.ts";
import { type Conflicts, claimsOf } from "./conflicts.ts";
import type { Claim } from "./conflicts-store.ts";
import { deletedEvent, registeredEvent, restoredEvent, updatedEvent } from "./events.ts";
import { type Rules, rulesAt } from "./fields.ts";
import { hasRecordNumber, withRecordNumber } from "./identifiers.ts";
import { diffRecords, emailKeyOf, type FieldChange, newRecord, patchedRecord, replacedRecord } from "./record.ts";
import { searchWords } from "./search.ts";
import { type Found, findSurvivor, type Reading, type Replay, readFirstVersions, readPatients } from "./store.ts";
import { type Creation, findConflict, insertPatients, insertUnlessRefused, type NewPatient, sha256, taken } from "./write-store.ts";

/** How many requests share one statement at most. */
const maxBatch = 64;

/** How many record numbers a create tries, if imports bring those that it got. */
const maxNumbers = 5;

/** A change without a precondition that loses a race is made again over what the winner left, this often in all. */
const maxTries = 5;

export type Patients = ReturnType<typeof createPatients>;

/** A new patient, and who is to learn about whom. */
export type Newcomer = Pick<NewPatient, "record" | "words" | "actor" | "requestId"> & { viewer: Viewer };

/** Looks for patients who may be the same person as somebody new. */
export type Duplicates = {
  /** How many there are of each, with those of the others before it. */
  count(newcomers: Newcomer[]): Promise<number[]>;
  /** Why somebody cannot be registered; undefined if nobody is like them. */
  refusal(newcomer: Newcomer): Promise<AppError | undefined>;
};

/** What a line of an import changes of a patient. `claims` are what the record has after it, and did not have before. */
export type Merge = { changes: FieldChange[]; claims: Claim[] };

type Options = {
  db: PatientDatabase;
  audit: AuditTrail;
  billing: BillingAccounts;
  recordNumbers: RecordNumbers;
  conflicts: Conflicts;
  duplicates: Duplicates;
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

  /** Reads a patient. The id of a merged record leads to its survivor. */
  return async (call: Call, id: string): Promise<Patient> => {
    const viewer = viewerOf(call.caller);
    let sought: string | undefined = id;
    // The survivor that was found may be merged just now.
    for (let tries = 1; sought !== undefined && isUuid(sought) && tries <= maxTries; tries++) {
      const patient = await readings.add({ id: sought, viewer, requestId: call.requestId });
      if (patient) return patient;
      const next = await findSurvivor(db, id, viewer);
      sought = next === sought ? undefined : next;
    }
    throw notFound(id);
  };
}

type Made = Exclude<Creation, { kind: "taken" }>;
type Outcome = Creation | { kind: "refused"; refusal: AppError };
type Registration = NewPatient & { viewer: Viewer; duplicates: DuplicateMode };

type RegistrationOptions = { key: string | undefined; duplicates: DuplicateMode };
/** `possibleDuplicates`: undefined if nobody has looked. */
type Registered = Patient & { possibleDuplicates: number | undefined; repeated: boolean };

function createRegistration({ db, billing, recordNumbers, conflicts, duplicates, now, settings, committed }: Options) {
  const creations = createBatcher<Registration, Outcome>({
    maxSize: maxBatch,
    // The next patients wait until the accounts of these are open. So more of them share a statement and a call to billing.
    linger: billing.settled,
    async run(registrations) {
      const outcomes = await store(registrations);
      committed();
      return outcomes;
    },
  });

  /** Stores patients together, but one after the other those who are to be refused if somebody is like them. */
  async function store(registrations: Registration[]): Promise<Outcome[]> {
    const watched = registrations.filter((each) => each.duplicates === "warn");
    const counts = watched.length > 0 ? await duplicates.count(watched) : [];
    watched.forEach((each, index) => {
      each.possibleDuplicates = counts[index];
    });
    const together = registrations.filter((each) => each.duplicates !== "refuse");
    const stored = together.length > 0 ? await insertPatients(db, together) : [];
    const outcomes = new Map<Registration, Outcome>(stored.map((creation, index) => [together[index] as Registration, creation]));
    for (const each of registrations)
      if (!outcomes.has(each)) outcomes.set(each, await insertUnlessRefused(db, each, () => duplicates.refusal(each)));
    return registrations.map((each) => outcomes.get(each) as Outcome);
  }

  const replays = createBatcher<Replay, Patient | undefined>({ maxSize: maxBatch, run: (replays) => readFirstVersions(db, replays) });

  /** The answer to a request whose idempotency key was used before. */
  async function replay(call: Call, creation: Creation & { kind: "repeated" }, patient: NewPatient): Promise<Patient> {
    if (creation.hash !== patient.idempotency?.hash)
      throw new AppError("idempotency_key_reused", "Idempotency-Key: was used for another body. Use a new key for a new request.");
    const first = await replays.add({ id: creation.patientId, actor: call.actorId, requestId: call.requestId });
    // The first request under this key was refused for its e-mail or an identifier. The same request gets the same answer.
    if (!first) throw taken(await findConflict(db, patient.id, patient.record));
    return first;
  }

  /**
   * Creates a patient, with a record number if the body has none.
   * @throws AppError already_exists if another patient has the e-mail or an identifier
   */
  async function create(given: Omit<Registration, "words">): Promise<{ patient: NewPatient; creation: Made }> {
    const isNumbered = hasRecordNumber(given.record);
    for (let tries = 1; ; tries++) {
      const record = isNumbered ? given.record : withRecordNumber(given.record, await recordNumbers.next());
      // After the first try, the idempotency key belongs to this patient already.
      const patient = { ...given, record, words: searchWords(record), ...(tries > 1 && { idempotency: undefined }) };
      const creation = await creations.add(patient);
      if (creation.kind === "refused") throw creation.refusal;
      if (creation.kind !== "taken") return { patient, creation };
      const isNumber = creation.conflict !== "email" && creation.conflict.system === recordNumberSystem;
      if (isNumbered || !isNumber || tries === maxNumbers) throw taken(creation.conflict);
      recordNumbers.clear();
    }
  }

  /** Registers a patient. The same body under the same idempotency key gets the first answer again. */
  return async (call: Call, body: unknown, { key, duplicates }: RegistrationOptions): Promise<Registered> => {
    const at = now();
    const id = randomUUIDv7();
    const given = newRecord(body, rulesAt(at.getTime(), settings));
    const { patient, creation } = await conflicts.counted(call, undefined, claimsOf(given, settings), () =>
      create({
        id,
        at,
        actor: call.actorId,
        viewer: viewerOf(call.caller),
        duplicates,
        action: "registered",
        requestId: call.requestId,
        record: given,
        emailKey: emailKeyOf(given, settings),
        idempotency: key === undefined ? undefined : { key, hash: sha256(JSON.stringify(body)) },
        event: registeredEvent(id, at, call.traceparent, given),
        billingAt: new Date(at.getTime() + headStartMs),
      }),
    );
    const { possibleDuplicates } = creation;
    if (creation.kind === "repeated") return { ...(await replay(call, creation, patient)), possibleDuplicates, repeated: true };
    const { record } = patient;
    const accountId = await billing.open({
      patient: { patientId: id, name: record.name, email: record.email },
      token: call.caller.kind === "service" ? undefined : call.caller.token,
      traceparent: call.traceparent,
    });
    return { id, version: 1, record, createdAt: at, updatedAt: at, accountId, possibleDuplicates, repeated: false };
  };
}

/** What a change makes of a patient. */
type Next = { action: Extract<Action, "updated" | "deleted" | "restored">; record: PatientRecord; deleted: boolean };

function createChanges({ db, audit, conflicts, now, settings, committed }: Options) {
  /** Writes the next version of a patient. Undefined if somebody else wrote one in the meantime. */
  async function write(call: Call, found: Found, next: Next, at: Date): Promise<Patient | undefined> {
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
    const change = { ...who, ...content, id, version: found.version, at };
    const claims = claimsOf(record, settings, found.deletedAt ? undefined : found.record);
    if (!(await conflicts.counted(call, id, claims, () => changePatient(db, change)))) return undefined;
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

    /** Patches a patient by a line of an import, which may depend on what is there. A preview changes nothing; it is a read. */
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
     * Brings a deleted patient back, with what a patch changes of the record: somebody else may have got its e-mail or an identifier
     * meanwhile. One that is not deleted stays as it is; a patch that it does not follow already is refused.
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
 * The time of a change is after the one before, whatever the clocks of the replicas say. So analytics, which orders the merges of a
 * record and its own changes by their times, ends with the last one.
 */
export function later(now: Date, ...records: Pick<Patient, "updatedAt">[]): Date {
  return new Date(Math.max(now.getTime(), ...records.map(({ updatedAt }) => updatedAt.getTime() + 1)));
}

export function lostRace(version: number, what = "If-Match: this patient"): AppError {
  const message = `${what} has changed; it is now at version ${version}. Read it again, and repeat your change on what it is now.`;
  return new AppError("aborted", message, { metadata: { version: String(version) } });
}
