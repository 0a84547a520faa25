/**
 * Statements that write patients. Each is a whole transaction: the record, its version, its audit entry, its event.
 * They take sets, so that what arrives together shares a round trip and a commit, and one patient is a set of one.
 */
import { hash } from "node:crypto";
import { insertIntoAudit } from "@pm/kit/audit/audit";
import { insertIntoOutbox, type OutboxEvent } from "@pm/kit/kafka/outbox";
import { type Column, defineBulkInput, type Rows } from "@pm/kit/postgres/bulk";
import { inTransaction, type Queries, retryConflicts } from "@pm/kit/postgres/transaction";
import type { PatientDatabase } from "../database.ts";
import { type Action, firstDay, type IdentifierKey, identifierName, type PatientRecord, type SearchWords } from "../tables.ts";
import { storedDetails } from "./details-store.ts";
import { type Conflict, isIdentifierRace } from "./taken-store.ts";

export function sha256(text: string): string {
  return hash("sha256", text);
}

/** A version of a patient, and everything that is written with it. */
export type NewVersion = {
  id: string;
  at: Date;
  actor: string;
  action: Action;
  requestId: string;
  record: PatientRecord;
  /** What may be there once among living patients; undefined if patients may share addresses, or there is none. */
  emailKey: string | undefined;
  words: SearchWords;
  event: OutboxEvent;
};

/** A patient to be created. */
export type NewPatient = NewVersion & {
  idempotency?: { key: string; hash: string } | undefined;
  /** When the worker opens the billing account if the request that creates the patient has not. Null: never. */
  billingAt: Date | null;
  /** How many patients may be the same person, if somebody has looked. */
  possibleDuplicates?: number | undefined;
};

/** `repeated`: the idempotency key was used before, for `patientId` and a request with this hash. */
export type Creation =
  | { kind: "created"; possibleDuplicates: number | undefined }
  | { kind: "taken"; conflict: Conflict }
  | { kind: "repeated"; patientId: string; hash: string; possibleDuplicates: number | undefined };

/** What is stored as `details`, as JSON. */
export function detailsOf(record: PatientRecord): string | undefined {
  const details = storedDetails(record);
  return Object.keys(details).length > 0 ? JSON.stringify(details) : undefined;
}

export const versionColumns: { [name: string]: Column<NewVersion> } = {
  id: ["uuid", ({ id }) => id],
  at: ["timestamptz", ({ at }) => at],
  actor: ["text", ({ actor }) => actor],
  action: ["text", ({ action }) => action],
  request_id: ["text", ({ requestId }) => requestId],
  record: ["json", ({ record }) => JSON.stringify(record)],
  name: ["text", ({ record }) => record.name],
  first_name: ["text", ({ record }) => record.firstName],
  last_name: ["text", ({ record }) => record.lastName],
  email: ["text", ({ record, emailKey }) => (emailKey === undefined ? undefined : record.email)],
  shared_email: ["text", ({ record, emailKey }) => (emailKey === undefined ? record.email : undefined)],
  email_key: ["text", ({ emailKey }) => emailKey],
  phone_number: ["text", ({ record }) => record.phoneNumber],
  date_of_birth: ["date", ({ record }) => firstDay(record.dateOfBirth)],
  address_text: ["text", ({ record }) => record.address?.text],
  street: ["text", ({ record }) => record.address?.street],
  city: ["text", ({ record }) => record.address?.city],
  state: ["text", ({ record }) => record.address?.state],
  zip_code: ["text", ({ record }) => record.address?.zipCode],
  sex: ["text", ({ record }) => record.sex],
  registered_date: ["date", ({ record }) => record.registeredDate],
  details: ["json", ({ record }) => detailsOf(record)],
  // Separated by newlines, since a word has no control characters.
  words: ["text", ({ words }) => words.all.join("\n")],
  sort_name: ["text", ({ words }) => words.sortName],
  city_key: ["text", ({ words }) => words.cityKey],
  match_keys: ["text", ({ words }) => `{${words.keys.join()}}`],
  event_id: ["uuid", ({ event }) => event.eventId],
  event_type: ["text", ({ event }) => event.type],
  payload: ["bytea", ({ event }) => event.payload],
  traceparent: ["text", ({ event }) => event.traceparent],
};
export const vector = "array_to_tsvector(string_to_array(input.words, E'\\n'))";
/** The salt of a new version: 122 random bits. */
export const newSalt = "uuid_send(gen_random_uuid())";
/** The hash of the salt and the record's text as `patient_versions` keeps both, for the audit trail. */
export const digest = "encode(sha256(salt || convert_to(record::text, 'UTF8')), 'hex')";

const newPatients = defineBulkInput<NewPatient>({
  ...versionColumns,
  key: ["text", ({ idempotency }) => idempotency?.key],
  request_hash: ["bytea", ({ idempotency }) => idempotency && Buffer.from(idempotency.hash, "hex")],
  billing_at: ["timestamptz", ({ billingAt }) => billingAt],
  possible_duplicates: ["integer", ({ possibleDuplicates }) => possibleDuplicates],
});
/** `isRepeated`: a patient of the same batch has the identifier already. */
const newIdentifiers = defineBulkInput<IdentifierKey & { id: string; isRepeated: boolean }>({
  id: ["uuid", ({ id }) => id],
  is_repeated: ["boolean", ({ isRepeated }) => isRepeated],
  system: ["text", ({ system }) => system],
  value: ["text", ({ value }) => value],
});
const newNames = defineBulkInput<{ id: string; word: string }>({ id: ["uuid", ({ id }) => id], word: ["text", ({ word }) => word] });

/** Patients that wait to be created, in the form that the statement takes. */
export type CollectedPatients = Rows<NewPatient>;

export function collectPatients(patients: NewPatient[] = []): CollectedPatients {
  const rows = newPatients.collect();
  const names = newNames.collect();
  const identifiers = newIdentifiers.collect();
  const keys = new Set<string>();
  const collected: CollectedPatients = {
    get length() {
      return rows.length;
    },
    add(patient) {
      const { id, record } = patient;
      for (const { system, value } of record.identifiers ?? []) {
        const key = identifierName({ system, value });
        identifiers.add({ id, isRepeated: keys.has(key), system, value });
        keys.add(key);
      }
      rows.add(patient);
      for (const word of patient.words.names) names.add({ id, word });
    },
    values: () => [...rows.values(), ...names.values(), ...identifiers.values()],
    clear() {
      rows.clear();
      names.clear();
      identifiers.clear();
      keys.clear();
    },
  };
  for (const patient of patients) collected.add(patient);
  return collected;
}

/**
 * Writes keys before e-mails before identifiers, each in order, so that two batches with the same ones wait for each
 * other instead of deadlocking. Gives the ids of patients that are not created, because their key was used or their
 * e-mail or an identifier is taken. Two indexes know whether an e-mail is: that of keys, and `patients_email`, which is
 * all that the version before looks at. If an identifier is taken at the same moment, the statement fails as a whole,
 * and sees it when it runs again.
 */
const createStatement = {
  name: "patients_create",
  text: `
    with input as materialized (
      select * from ${newPatients.source("input")} where id <> all($${newPatients.count + newNames.count + newIdentifiers.count + 1}::uuid[])
    ), keyed as (
      insert into idempotency_keys (caller, key, request_hash, patient_id, possible_duplicates)
      select actor, key, request_hash, id, possible_duplicates from input where key is not null order by actor, key
      on conflict do nothing returning patient_id
    ), identifiers as materialized (
      select * from ${newIdentifiers.source("identifiers", newPatients.count + newNames.count + 1)}
      where id <> all($${newPatients.count + newNames.count + newIdentifiers.count + 1}::uuid[])
    ), taken as materialized (
      select id, min(system) as system from identifiers i where is_repeated
      or (select k.patient_id from patient_identifiers k where k.system = i.system and k.value = i.value) is not null group by id
    ), created as (
      insert into patients (id, version, name, first_name, last_name, email, shared_email, email_key, phone_number, date_of_birth,
        address_text, street, city, state, zip_code, sex, registered_date, details, registered_by, created_at, updated_at,
        words, sort_name, city_key, words_version, match_keys, keys_version)
      select id, 1, name, first_name, last_name, email, shared_email, email_key, phone_number, date_of_birth,
        address_text, street, city, state, zip_code, sex, registered_date, details::jsonb, actor, at, at,
        ${vector}, sort_name, city_key, 1, match_keys::int[], 1
      from input where (key is null or id in (select patient_id from keyed)) and id not in (select id from taken) order by email_key
      on conflict do nothing returning id
    ), fresh as materialized (
      select *, ${newSalt} as salt from input where id in (select id from created)
    ), held as (
      insert into patient_identifiers (system, value, patient_id)
      select system, value, id from identifiers where id in (select id from created) order by system, value
    ), search_words as (
      insert into patient_words
      select distinct word from ${newNames.source("names", newPatients.count + 1)} where id in (select id from created) order by word
      on conflict do nothing
    ), versions as (
      insert into patient_versions (patient_id, version, action, changed_at, changed_by, record, salt)
      select id, 1, action, at, actor, record, salt from fresh
    ), billing as (
      insert into patient_billing (patient_id, next_attempt_at, traceparent)
      select id, billing_at, case when traceparent like '%-01' then traceparent end from fresh
    ), audited as (
      ${insertIntoAudit}
      select actor, 'patient.' || action, id, request_id, jsonb_build_object('version', 1, 'sha256', ${digest}) from fresh
    ), outbox_rows as (
      ${insertIntoOutbox}
      select event_id, 'patient.v1', id, event_type, payload, traceparent from fresh
    )
    select id, system from input left join taken using (id) where id not in (select id from created)`,
};

const keysStatement = {
  name: "idempotency_keys_find",
  text: `select k.caller, k.key, k.patient_id, encode(k.request_hash, 'hex') as hash, k.possible_duplicates from idempotency_keys k
    join json_to_recordset($1) as asked(caller text, key text) on k.caller = asked.caller and k.key = asked.key`,
};

/** Creates patients in one transaction. Gives one answer for each, in order. */
export function insertPatients(db: Queries, patients: NewPatient[]): Promise<Creation[]> {
  const collected = collectPatients(patients);
  return retryConflicts(() => insertOnce(db, patients, collected), { isConflict: isIdentifierRace });
}

async function insertOnce(db: Queries, patients: NewPatient[], collected: CollectedPatients): Promise<Creation[]> {
  const leftOut = await insertCollected(db, collected);
  const used = await findUsedKeys(
    db,
    patients.filter(({ id }) => leftOut.has(id)),
  );
  return patients.map(({ id, possibleDuplicates }): Creation => {
    const conflict = leftOut.get(id);
    // If this request took the key and its patient was not created, the e-mail or an identifier was taken.
    return conflict ? (used.get(id) ?? { kind: "taken", conflict }) : { kind: "created", possibleDuplicates };
  });
}

/** Those whose idempotency key was used before, for another patient. */
async function findUsedKeys(db: Queries, patients: NewPatient[]): Promise<Map<string, Creation & { kind: "repeated" }>> {
  const asked = patients.flatMap(({ actor, idempotency }) => (idempotency ? [{ caller: actor, key: idempotency.key }] : []));
  const found = asked.length > 0 ? await db.query<FoundKey>(keysStatement, [JSON.stringify(asked)]) : [];
  const used = new Map<string, Creation & { kind: "repeated" }>();
  for (const { id, actor, idempotency } of patients) {
    const row = found.find(({ caller, key }) => caller === actor && key === idempotency?.key);
    if (!row || row.patient_id === id) continue;
    const possibleDuplicates = row.possible_duplicates ?? undefined;
    used.set(id, { kind: "repeated", patientId: row.patient_id, hash: row.hash, possibleDuplicates });
  }
  return used;
}

const lockStatement = {
  name: "patients_lock_newcomers",
  text: "select pg_advisory_xact_lock(hashtextextended('newcomers', 0))",
};

/**
 * Runs a transaction that creates patients unless somebody is like them. Nobody else creates any this way meanwhile, on
 * any replica. So of requests and imports that arrive together with one person, one creates the patient and the others
 * meet them. A request that does not refuse duplicates does not wait here. Look for duplicates before, and here only
 * among those who were stored meanwhile: to look among all for a thousand lines takes seconds.
 */
export function insertInTurn<Result>(db: PatientDatabase, work: (tx: Queries) => Promise<Result>): Promise<Result> {
  const locked = (tx: Queries) => tx.query(lockStatement, []).then(() => work(tx));
  return inTransaction(db, locked, { isConflict: isIdentifierRace, turn: "newcomers" });
}

/** Creates a patient unless `refusal` says why not. */
export function insertUnlessRefused<Refusal>(
  db: PatientDatabase,
  patient: NewPatient,
  refusal: (tx: Queries) => Promise<Refusal | undefined>,
): Promise<Creation | { kind: "refused"; refusal: Refusal }> {
  const collected = collectPatients([patient]);
  return insertInTurn(db, async (tx) => {
    const repeated = (await findUsedKeys(tx, [patient])).get(patient.id);
    if (repeated) return repeated;
    const found = await refusal(tx);
    if (found !== undefined) return { kind: "refused" as const, refusal: found };
    const [creation] = await insertOnce(tx, [patient], collected);
    if (!creation) throw new Error("a patient got no answer");
    return creation;
  });
}

/** Creates patients but those in `except`. Gives the ids of others that were not created, with what was taken. */
export async function insertCollected(db: Queries, patients: CollectedPatients, except: string[] = []): Promise<Map<string, Conflict>> {
  type Row = { id: string; system: string | null };
  const rows = patients.length === 0 ? [] : await db.query<Row>(createStatement, [...patients.values(), except]);
  return new Map(rows.map(({ id, system }) => [id, system === null ? "email" : { system }]));
}

type FoundKey = { caller: string; key: string; patient_id: string; hash: string; possible_duplicates: number | null };
