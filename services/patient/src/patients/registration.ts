/** Registers patients: those whose requests arrive together, in one statement. */
import { randomUUIDv7 } from "node:crypto";
import { createBatcher } from "@pm/kit/batcher";
import { AppError } from "@pm/kit/errors";
import type { Queries } from "@pm/kit/postgres/transaction";
import { type BillingAccounts, headStartMs } from "../billing/accounts.ts";
import { type Call, viewerOf } from "../caller.ts";
import type { RecordSettings } from "../config.ts";
import type { PatientDatabase, Viewer } from "../database.ts";
import type { RecordNumbers } from "../record-numbers/record-numbers.ts";
import { type DuplicateMode, type Patient, recordNumberSystem } from "../tables.ts";
import { type Conflicts, claimsOf } from "./conflicts.ts";
import { registeredEvent } from "./events.ts";
import { rulesAt } from "./fields.ts";
import { hasRecordNumber, withRecordNumber } from "./identifiers.ts";
import { emailKeyOf, newRecord } from "./record.ts";
import { searchWords } from "./search.ts";
import { type Replay, readFirstVersions } from "./store.ts";
import { findConflict, findHolder, taken } from "./taken-store.ts";
import { type Creation, insertPatients, insertUnlessRefused, type NewPatient, sha256 } from "./write-store.ts";

/** How many requests share one statement at most. */
const maxBatch = 64;

/**
 * After a batch, the next patients wait this long at most for its callers, who first get accounts and answers and then
 * send their next requests. So all share the next statement and the next call to billing.
 */
const gatherMs = 20;

/** How many record numbers a create tries, if imports bring those that it got. */
const maxNumbers = 5;

/** A new patient, and who is to learn about whom. */
export type Newcomer = Pick<NewPatient, "record" | "words" | "actor" | "requestId"> & { viewer: Viewer };

/** Where to look: among those born on the same day with names that sound alike, or among all who share a key. */
export type Look = "closely" | "everywhere";

/** Looks for patients who may be the same person as somebody new. */
export type Duplicates = {
  /** How many there are of each, with those of the others before it. */
  count(newcomers: Newcomer[], look: Look): Promise<number[]>;
  /**
   * Looks everywhere, before the lock of `insertInTurn`, since that takes long. Under the lock, `tx` has whom others
   * stored meanwhile.
   */
  search(newcomers: Newcomer[]): Promise<{
    counts(tx: Queries): Promise<number[]>;
    /** Why one of them cannot be registered; undefined if nobody is like them. */
    refusal(tx: Queries, newcomer: Newcomer): Promise<AppError | undefined>;
  }>;
};

export type RegistrationOptions = {
  db: PatientDatabase;
  billing: BillingAccounts;
  recordNumbers: RecordNumbers;
  conflicts: Conflicts;
  duplicates: Duplicates;
  now: () => Date;
  settings: RecordSettings;
  /** Called after each commit that wrote events. */
  committed: () => void;
};

type Made = Exclude<Creation, { kind: "taken" }>;
/** `refused` also has the fault by which one could not be stored: the others of its batch are. */
type Outcome = Creation | { kind: "refused"; refusal: unknown };
type Registration = NewPatient & { viewer: Viewer; duplicates: DuplicateMode };

type RegistrationChoices = { key: string | undefined; duplicates: DuplicateMode };
/** `possibleDuplicates`: undefined if nobody has looked. */
type Registered = Patient & { possibleDuplicates: number | undefined; repeated: boolean };

type Store = (options: Pick<RegistrationOptions, "db" | "duplicates">, registrations: Registration[]) => Promise<Outcome[]>;

/** Stores patients together, and counts who is like those whose callers want to be warned. */
const storeTogether: Store = async ({ db, duplicates }, registrations) => {
  const watched = registrations.filter((each) => each.duplicates === "warn");
  const counts = watched.length > 0 ? await duplicates.count(watched, "closely") : [];
  watched.forEach((each, index) => {
    each.possibleDuplicates = counts[index];
  });
  return insertPatients(db, registrations);
};

/** Stores patients one after the other, each unless somebody is like them. */
const storeUnlessAlike: Store = async ({ db, duplicates }, registrations) => {
  const found = await duplicates.search(registrations);
  const outcomes: Outcome[] = [];
  for (const each of registrations) {
    const outcome = insertUnlessRefused(db, each, (tx) => found.refusal(tx, each));
    outcomes.push(await outcome.catch((refusal: unknown) => ({ kind: "refused" as const, refusal })));
  }
  return outcomes;
};

export function createRegistration(options: RegistrationOptions) {
  const { db, billing, recordNumbers, conflicts, now, settings, committed } = options;
  const by = (store: Store) => async (registrations: Registration[]) => {
    const outcomes = await store(options, registrations);
    committed();
    return outcomes;
  };
  const creations = createBatcher<Registration, Outcome>({ name: "patient_creates", maxSize: maxBatch, gatherMs, run: by(storeTogether) });
  // Those who refuse duplicates wait for imports that do, and nobody else waits for them.
  const refusals = createBatcher<Registration, Outcome>({ name: "patient_refusals", maxSize: maxBatch, run: by(storeUnlessAlike) });

  const replays = createBatcher<Replay, Patient | undefined>({
    name: "patient_replays",
    maxSize: maxBatch,
    run: (replays) => readFirstVersions(db, replays),
  });

  /** The answer to a request whose idempotency key was used before. */
  async function replay(call: Call, creation: Creation & { kind: "repeated" }, patient: NewPatient): Promise<Patient> {
    if (creation.hash !== patient.idempotency?.hash)
      throw new AppError("idempotency_key_reused", "Idempotency-Key: was used for another body. Use a new key for a new request.");
    const first = await replays.add({ id: creation.patientId, actor: call.actorId, requestId: call.requestId });
    // The first request under this key was refused for its e-mail or an identifier. Repeated, it gets the same answer.
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
      const creation = await (patient.duplicates === "refuse" ? refusals : creations).add(patient);
      if (creation.kind === "refused") throw creation.refusal;
      if (creation.kind !== "taken") return { patient, creation };
      const isNumber = creation.conflict !== "email" && creation.conflict.system === recordNumberSystem;
      if (isNumbered || !isNumber || tries === maxNumbers)
        throw taken(creation.conflict, await findHolder(db, given.id, record, creation.conflict, given.viewer));
      recordNumbers.clear();
    }
  }

  /** Registers a patient. The same body under the same idempotency key gets the first answer again. */
  return async (call: Call, body: unknown, { key, duplicates }: RegistrationChoices): Promise<Registered> => {
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
