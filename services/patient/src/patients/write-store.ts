/**
 * Statements that write patients. Each is a whole transaction: the record, its version, its audit entry, its event. They take
 * sets, so that what arrives together shares a round trip and a commit, and one patient is a set of one.
 */
import { hash } from "node:crypto";
import { insertIntoAudit } from "@pm/kit/audit/audit";
import { AppError } from "@pm/kit/errors";
import { insertIntoOutbox, type OutboxEvent } from "@pm/kit/kafka/outbox";
import { type Column, defineBulkInput, type Rows } from "@pm/kit/postgres/bulk";
import { violatedConstraint } from "@pm/kit/postgres/database";
import { type Queries, retryConflicts } from "@pm/kit/postgres/transaction";
import type { PatientDatabase } from "../database.ts";
import { type Action, firstDay, type PatientRecord, type SearchWords } from "../tables.ts";

export function sha256(text: string): string {
  return hash("sha256", text);
}

/** A version of a patient, and everything that is written with it. */
type NewVersion = {
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
};

/** `repeated`: the idempotency key was used before, for `patientId` and a request with this hash. */
export type Creation = { kind: "created" } | { kind: "email-taken" } | { kind: "repeated"; patientId: string; hash: string };

const versionColumns: { [name: string]: Column<NewVersion> } = {
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
  event_id: ["uuid", ({ event }) => event.eventId],
  event_type: ["text", ({ event }) => event.type],
  payload: ["bytea", ({ event }) => event.payload],
  traceparent: ["text", ({ event }) => event.traceparent],
};

/** What has no columns, as JSON. Most records have none of it. */
function detailsOf({ dateOfBirth, dateOfBirthEstimated, deceased }: PatientRecord): string | undefined {
  const isPartial = dateOfBirth.length < 10;
  if (!isPartial && dateOfBirthEstimated === undefined && deceased === undefined) return undefined;
  return JSON.stringify({ ...(isPartial && { dateOfBirth }), dateOfBirthEstimated, deceased });
}

const vector = "array_to_tsvector(string_to_array(input.words, E'\\n'))";
/** The hash of the record's text as `patient_versions` keeps it, for the audit trail. */
const digest = "encode(sha256(convert_to(record::text, 'UTF8')), 'hex')";

const newPatients = defineBulkInput<NewPatient>({
  ...versionColumns,
  key: ["text", ({ idempotency }) => idempotency?.key],
  request_hash: ["bytea", ({ idempotency }) => idempotency && Buffer.from(idempotency.hash, "hex")],
  billing_at: ["timestamptz", ({ billingAt }) => billingAt],
});
const newNames = defineBulkInput<{ id: string; word: string }>({ id: ["uuid", ({ id }) => id], word: ["text", ({ word }) => word] });

/** Patients that wait to be created, in the form that the statement takes. */
export type CollectedPatients = Rows<NewPatient>;

export function collectPatients(patients: NewPatient[] = []): CollectedPatients {
  const rows = newPatients.collect();
  const names = newNames.collect();
  const collected: CollectedPatients = {
    get length() {
      return rows.length;
    },
    add(patient) {
      rows.add(patient);
      for (const word of patient.words.names) names.add({ id: patient.id, word });
    },
    values: () => [...rows.values(), ...names.values()],
    clear() {
      rows.clear();
      names.clear();
    },
  };
  for (const patient of patients) collected.add(patient);
  return collected;
}

/**
 * Writes keys before e-mails, each in order, so that two batches with the same ones wait for each other instead of deadlocking.
 * Gives the ids of patients that are not created, because their key was used or their e-mail is taken. Two indexes know whether
 * it is: that of keys, and `patients_email`, which is all that the version before looks at.
 */
const createStatement = {
  name: "patients_create",
  text: `
    with input as materialized (
      select * from ${newPatients.source("input")}
    ), keyed as (
      insert into idempotency_keys (caller, key, request_hash, patient_id)
      select actor, key, request_hash, id from input where key is not null order by actor, key
      on conflict do nothing returning patient_id
    ), created as (
      insert into patients (id, version, name, first_name, last_name, email, shared_email, email_key, phone_number, date_of_birth,
        address_text, street, city, state, zip_code, sex, registered_date, details, registered_by, created_at, updated_at, words)
      select id, 1, name, first_name, last_name, email, shared_email, email_key, phone_number, date_of_birth,
        address_text, street, city, state, zip_code, sex, registered_date, details, actor, at, at, ${vector}
      from input where key is null or id in (select patient_id from keyed) order by email_key
      on conflict do nothing returning id
    ), fresh as materialized (
      select * from input where id in (select id from created)
    ), search_words as (
      insert into patient_words
      select distinct word from ${newNames.source("names", newPatients.count + 1)} where id in (select id from created) order by word
      on conflict do nothing
    ), versions as (
      insert into patient_versions (patient_id, version, action, changed_at, changed_by, record)
      select id, 1, action, at, actor, record from fresh
    ), billing as (
      insert into patient_billing (patient_id, next_attempt_at) select id, billing_at from fresh
    ), audited as (
      ${insertIntoAudit}
      select actor, 'patient.' || action, id, request_id, jsonb_build_object('version', 1, 'sha256', ${digest}) from fresh
    ), outbox_rows as (
      ${insertIntoOutbox}
      select event_id, 'patient.v1', id, event_type, payload, traceparent from fresh
    )
    select id from input where id not in (select id from created)`,
};

const keysStatement = {
  name: "idempotency_keys_find",
  text: `select k.caller, k.key, k.patient_id, encode(k.request_hash, 'hex') as hash from idempotency_keys k
    join json_to_recordset($1) as asked(caller text, key text) on k.caller = asked.caller and k.key = asked.key`,
};

/** Creates patients in one transaction. Gives one answer for each, in order. */
export function insertPatients(db: PatientDatabase, patients: NewPatient[]): Promise<Creation[]> {
  const collected = collectPatients(patients);
  return retryConflicts(async () => {
    const leftOut = await insertCollected(db, collected);
    const asked = patients.flatMap(({ id, actor, idempotency }) =>
      idempotency && leftOut.has(id) ? [{ caller: actor, key: idempotency.key }] : [],
    );
    const found = asked.length > 0 ? await db.query<FoundKey>(keysStatement, [JSON.stringify(asked)]) : [];
    return patients.map(({ id, actor, idempotency }): Creation => {
      if (!leftOut.has(id)) return { kind: "created" };
      const used = idempotency && found.find((row) => row.caller === actor && row.key === idempotency.key);
      // If this request took the key and its patient was not created, the e-mail was taken.
      return used && used.patient_id !== id ? { kind: "repeated", patientId: used.patient_id, hash: used.hash } : { kind: "email-taken" };
    });
  });
}

/** Creates patients. Gives the ids of those that were not created. */
export async function insertCollected(db: Queries, patients: CollectedPatients): Promise<Set<string>> {
  const rows = patients.length === 0 ? [] : await db.query<{ id: string }>(createStatement, patients.values());
  return new Set(rows.map((row) => row.id));
}

type FoundKey = { caller: string; key: string; patient_id: string; hash: string };

/** The next version of a patient. */
export type Change = NewVersion & {
  /** The version that is changed; the new one is the next number. */
  version: number;
  /** Whether the e-mail stays. Then its key does: what was found twice when keys were computed has none, and is still changed. */
  keepsEmail: boolean;
  deleted: boolean;
  /** The names of what changed. */
  fields: string[];
};

const changes = defineBulkInput<Change>({
  ...versionColumns,
  version: ["bigint", ({ version }) => BigInt(version)],
  keeps_email: ["boolean", ({ keepsEmail }) => keepsEmail],
  deleted: ["boolean", ({ deleted }) => deleted],
  fields: ["text", ({ fields }) => JSON.stringify(fields)],
});

const changeStatement = {
  name: "patients_change",
  text: `
    with input as materialized (
      select * from ${changes.source("input")}
    ), changed as (
      update patients p set version = p.version + 1, name = input.name, first_name = input.first_name, last_name = input.last_name,
        email = input.email, shared_email = input.shared_email,
        email_key = case when input.keeps_email and input.email_key is not null then p.email_key else input.email_key end,
        phone_number = input.phone_number, date_of_birth = input.date_of_birth, address_text = input.address_text,
        street = input.street, city = input.city, state = input.state, zip_code = input.zip_code, sex = input.sex,
        registered_date = input.registered_date, details = input.details, updated_at = input.at, deleted_at = case when input.deleted then input.at end, words = ${vector}
      from input where p.id = input.id and p.version = input.version
      returning p.id, p.version
    ), search_words as (
      insert into patient_words select distinct word from unnest($${changes.count + 1}::text[]) as word order by word
      on conflict do nothing
    ), versions as (
      insert into patient_versions (patient_id, version, action, changed_at, changed_by, record)
      select c.id, c.version, action, at, actor, record from input join changed c using (id)
    ), audited as (
      ${insertIntoAudit}
      select actor, 'patient.' || action, c.id, request_id, jsonb_build_object('version', c.version, 'sha256', ${digest}, 'fields', fields::jsonb)
      from input join changed c using (id)
    ), outbox_rows as (
      ${insertIntoOutbox}
      select event_id, 'patient.v1', c.id, event_type, payload, traceparent from input join changed c using (id)
    )
    select id from changed`,
};

/**
 * Makes the next version of a patient. False where somebody else made it in the meantime.
 * @throws AppError already_exists if another patient has the e-mail.
 */
export async function changePatient(db: PatientDatabase, change: Change): Promise<boolean> {
  try {
    return (await db.query(changeStatement, [...changes.collect([change]).values(), change.words.names])).length === 1;
  } catch (error) {
    if (["patients_email", "patients_email_key"].includes(violatedConstraint(error) ?? "")) throw emailTaken();
    throw error;
  }
}

export function emailTaken(): AppError {
  const message = "belongs to another patient; look that one up, or use another address";
  return new AppError("already_exists", `email: ${message}.`, { reason: "EMAIL_TAKEN", errors: [{ path: "email", message }] });
}
