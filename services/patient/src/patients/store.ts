/**
 * The hot path's statements: named, prepared once per connection, each a whole transaction in itself. They take sets, so
 * that what arrives together shares a round trip and a commit, and one item is a set of one.
 */
import { hash } from "node:crypto";
import { AppError } from "@pm/kit/errors";
import { type Column, defineBulkInput, type Rows } from "@pm/kit/postgres/bulk";
import { type Database, violatedConstraint } from "@pm/kit/postgres/database";
import type { Action, Patient, PatientRecord, PatientsTable, Tables } from "../tables.ts";

export type PatientDatabase = Database<Tables>;

/** Whatever runs named statements: the pool, or one transaction. */
export type Runner = Pick<PatientDatabase, "query">;

/** Runs statements in one transaction; runs `work` again where Postgres chose it as the victim of a deadlock. */
export function inTransaction<T>(db: PatientDatabase, work: (tx: Runner) => Promise<T>): Promise<T> {
  return retryDeadlocks(async () => {
    const client = await db.pool.connect();
    let failed: Error | undefined;
    try {
      await client.query("begin");
      const result = await work({ query: async (statement, values) => (await client.query({ ...statement, values })).rows });
      await client.query("commit");
      return result;
    } catch (error) {
      failed = error instanceof Error ? error : new Error("a transaction failed", { cause: error });
      await client.query("rollback").then(
        () => {
          failed = undefined;
        },
        () => undefined,
      );
      throw error;
    } finally {
      // A connection that could not even roll back is not used again.
      client.release(failed);
    }
  });
}

/** Who reads, for the access rule: everything, or what they registered and what is shared with one of their principals. */
export type Viewer = { id: string; seesAll: boolean; principals: string[] };

export function sha256(text: string): string {
  return hash("sha256", text);
}

/** A version of a patient, with everything that is written beside it. */
type NewVersion = {
  id: string;
  at: Date;
  actor: string;
  action: Action;
  requestId: string;
  record: PatientRecord;
  words: SearchWords;
  event: StoredEvent;
};

/** A patient to be created. */
export type NewPatient = NewVersion & {
  idempotency?: { key: string; hash: string } | undefined;
  /** Until when the worker leaves the billing account to whoever created the patient; null keeps it from the worker for good. */
  billingAt: Date | null;
};

/** What a search finds a patient by; `names` are those words that a misspelled one may mean. See search.ts. */
export type SearchWords = { all: string[]; names: string[] };

/** An outbox row of the topic `patient.v1`. */
export type StoredEvent = { eventId: string; type: string; payload: Uint8Array; traceparent: string };

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
  email: ["text", ({ record }) => record.email],
  phone_number: ["text", ({ record }) => record.phoneNumber],
  date_of_birth: ["date", ({ record }) => record.dateOfBirth],
  address_text: ["text", ({ record }) => record.address.text],
  street: ["text", ({ record }) => record.address.street],
  city: ["text", ({ record }) => record.address.city],
  state: ["text", ({ record }) => record.address.state],
  zip_code: ["text", ({ record }) => record.address.zipCode],
  sex: ["text", ({ record }) => record.sex],
  registered_date: ["date", ({ record }) => record.registeredDate],
  // With newlines between them: a word has no control characters.
  words: ["text", ({ words }) => words.all.join("\n")],
  event_id: ["uuid", ({ event }) => event.eventId],
  event_type: ["text", ({ event }) => event.type],
  payload: ["bytea", ({ event }) => event.payload],
  traceparent: ["text", ({ event }) => event.traceparent],
};
const vector = "array_to_tsvector(string_to_array(input.words, E'\\n'))";
/** Of the record's text, which is what `patient_versions` keeps, for the audit trail. */
const digest = "encode(sha256(convert_to(record::text, 'UTF8')), 'hex')";

const newPatients = defineBulkInput<NewPatient>({
  ...versionColumns,
  key: ["text", ({ idempotency }) => idempotency?.key],
  request_hash: ["bytea", ({ idempotency }) => idempotency && Buffer.from(idempotency.hash, "hex")],
  billing_at: ["timestamptz", ({ billingAt }) => billingAt],
});
const newNames = defineBulkInput<{ id: string; word: string }>({ id: ["uuid", ({ id }) => id], word: ["text", ({ word }) => word] });

/** Patients that wait to be created, as the statement takes them. */
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
 * Keys before e-mails, each in order: two batches that want the same ones wait for each other instead of deadlocking.
 * A patient whose key was used, or whose e-mail is taken, is left out and named, and the others are created.
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
      insert into patients (id, version, name, first_name, last_name, email, phone_number, date_of_birth, address_text, street, city,
        state, zip_code, sex, registered_date, registered_by, created_at, updated_at, words)
      select id, 1, name, first_name, last_name, email, phone_number, date_of_birth, address_text, street, city,
        state, zip_code, sex, registered_date, actor, at, at, ${vector}
      from input where key is null or id in (select patient_id from keyed) order by lower(email)
      on conflict (lower(email)) where deleted_at is null do nothing returning id
    ), fresh as materialized (
      select * from input where id in (select id from created)
    ), named as (
      insert into patient_words
      select distinct word from ${newNames.source("names", newPatients.count + 1)} where id in (select id from created) order by word
      on conflict do nothing
    ), versions as (
      insert into patient_versions (patient_id, version, action, changed_at, changed_by, record)
      select id, 1, action, at, actor, record from fresh
    ), billing as (
      insert into patient_billing (patient_id, next_attempt_at) select id, billing_at from fresh
    ), audited as (
      insert into audit_entries (actor, action, subject, request_id, details)
      select actor, 'patient.' || action, id, request_id, jsonb_build_object('version', 1, 'sha256', ${digest}) from fresh
    ), told as (
      insert into outbox (event_id, topic, key, type, payload, traceparent)
      select event_id, 'patient.v1', id, event_type, payload, traceparent from fresh
    )
    select id from input where id not in (select id from created)`,
};

const keysStatement = {
  name: "idempotency_keys_find",
  text: `select k.caller, k.key, k.patient_id, encode(k.request_hash, 'hex') as hash from idempotency_keys k
    join json_to_recordset($1) as asked(caller text, key text) on k.caller = asked.caller and k.key = asked.key`,
};

const deadlockTries = 3;

/** Creates patients in one transaction of its own; gives one answer for each, in order. */
export function insertPatients(db: PatientDatabase, patients: NewPatient[]): Promise<Creation[]> {
  const collected = collectPatients(patients);
  return retryDeadlocks(async () => {
    const leftOut = await insertCollected(db, collected);
    const asked = patients.flatMap(({ id, actor, idempotency }) =>
      idempotency && leftOut.has(id) ? [{ caller: actor, key: idempotency.key }] : [],
    );
    const found = asked.length > 0 ? await db.query<FoundKey>(keysStatement, [JSON.stringify(asked)]) : [];
    return patients.map(({ id, actor, idempotency }): Creation => {
      if (!leftOut.has(id)) return { kind: "created" };
      const used = idempotency && found.find((row) => row.caller === actor && row.key === idempotency.key);
      // A key that this very request took, and whose patient was not created, remembers that the e-mail was taken.
      return used && used.patient_id !== id ? { kind: "repeated", patientId: used.patient_id, hash: used.hash } : { kind: "email-taken" };
    });
  });
}

/** Creates patients; gives the ids of those that were left out. */
export async function insertCollected(db: Runner, patients: CollectedPatients): Promise<Set<string>> {
  const rows = patients.length === 0 ? [] : await db.query<{ id: string }>(createStatement, patients.values());
  return new Set(rows.map((row) => row.id));
}

type FoundKey = { caller: string; key: string; patient_id: string; hash: string };

async function retryDeadlocks<T>(run: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await run();
    } catch (error) {
      const isDeadlock = error instanceof Error && "code" in error && error.code === "40P01";
      if (!isDeadlock || tries === deadlockTries) throw error;
    }
  }
}

/** A read of one patient. */
export type Reading = { id: string; viewer: Viewer; requestId: string };

const visible = (table: string, viewer: string) =>
  `(${viewer}.sees_all or ${table}.registered_by = ${viewer}.actor or exists
    (select 1 from patient_access g where g.patient_id = ${table}.id and g.principal = any(${viewer}.principals)))`;

export const patientColumns = `p.id, p.version, p.name, p.first_name, p.last_name, p.email, p.phone_number, p.date_of_birth, p.address_text, p.street,
  p.city, p.state, p.zip_code, p.sex, p.registered_date, p.created_at, p.updated_at`;

/**
 * Each patient by its own look into the primary key (the laterals are fenced by `offset 0`): where statistics are a minute
 * old, or none, Postgres would rather read the whole table once than look up a hundred ids that it expects.
 *
 * Reads and the entries in the audit trail that say so are one statement: nobody gets a record whose reading is not on record.
 */
const readStatement = {
  name: "patients_read",
  text: `
    with asked as materialized (
      select * from json_to_recordset($1) as a(n int, id uuid, actor text, sees_all boolean, principals text[], request_id text)
    ), found as materialized (
      select a.n, a.actor, a.request_id, ${patientColumns}, b.account_id
      from asked a
      cross join lateral (select * from patients where id = a.id offset 0) p
      left join lateral (select account_id from patient_billing where patient_id = p.id offset 0) b on true
      where p.deleted_at is null and ${visible("p", "a")}
    ), audited as (
      insert into audit_entries (actor, action, subject, request_id, details)
      select actor, 'patient.read', id, request_id, jsonb_build_object('version', version) from found
    )
    select * from found`,
};

/** Reads patients, each for its own viewer; undefined where there is none or the viewer may not see it. */
export async function readPatients(db: PatientDatabase, readings: Reading[]): Promise<(Patient | undefined)[]> {
  const input = readings.map(({ id, viewer, requestId }, n) => ({
    n,
    id,
    actor: viewer.id,
    sees_all: viewer.seesAll,
    principals: viewer.principals,
    request_id: requestId,
  }));
  const rows = await db.query<PatientRow & { n: number }>(readStatement, [JSON.stringify(input)]);
  const found = new Map(rows.map((row) => [row.n, toPatient(row)]));
  return readings.map((_, n) => found.get(n));
}

export type PatientRow = Omit<PatientsTable, "registered_by" | "deleted_at" | "words"> & { account_id: string | null };

export function toPatient(row: PatientRow): Patient {
  return {
    id: row.id,
    version: Number(row.version),
    record: {
      name: row.name,
      ...(row.first_name !== null && { firstName: row.first_name }),
      ...(row.last_name !== null && { lastName: row.last_name }),
      email: row.email,
      ...(row.phone_number !== null && { phoneNumber: row.phone_number }),
      dateOfBirth: row.date_of_birth,
      address: {
        text: row.address_text,
        ...(row.street !== null && { street: row.street }),
        ...(row.city !== null && { city: row.city }),
        ...(row.state !== null && { state: row.state }),
        ...(row.zip_code !== null && { zipCode: row.zip_code }),
      },
      ...(row.sex !== null && { sex: row.sex }),
      registeredDate: row.registered_date,
    },
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    accountId: row.account_id ?? undefined,
  };
}

const firstVersionsStatement = {
  name: "patients_first_versions",
  text: `select v.patient_id, v.record, v.changed_at, b.account_id from patient_versions v left join patient_billing b using (patient_id)
    where v.patient_id = any($1) and v.version = 1`,
};

/** Patients as they were when they were created, for answers that are given again; undefined for ids that never were. */
export async function readFirstVersions(db: PatientDatabase, ids: string[]): Promise<(Patient | undefined)[]> {
  type Row = { patient_id: string; record: PatientRecord; changed_at: Date; account_id: string | null };
  const rows = await db.query<Row>(firstVersionsStatement, [ids]);
  const found = new Map(rows.map((row) => [row.patient_id, row]));
  return ids.map((id) => {
    const row = found.get(id);
    if (!row) return undefined;
    const { record, changed_at: at, account_id } = row;
    return { id, version: 1, record, createdAt: at, updatedAt: at, accountId: account_id ?? undefined };
  });
}

/** A patient before a change: as it is, or as it was when it was deleted. */
export type Found = Patient & { deleted: boolean };

const findStatement = {
  name: "patients_find",
  text: `select ${patientColumns}, b.account_id, p.deleted_at is not null as deleted
    from (select $1::uuid as id, $2::text as actor, $3::boolean as sees_all, $4::text[] as principals) a
    join patients p on p.id = a.id left join patient_billing b on b.patient_id = p.id where ${visible("p", "a")}`,
};

/** Finds a patient that is to be changed or asked about, deleted ones included; what is done with it is audited, not this. */
export async function findPatient(db: PatientDatabase, id: string, viewer: Viewer): Promise<Found | undefined> {
  const values = [id, viewer.id, viewer.seesAll, viewer.principals];
  const [row] = await db.query<PatientRow & { deleted: boolean }>(findStatement, values);
  return row && { ...toPatient(row), deleted: row.deleted };
}

/** The next version of a patient. */
export type Change = NewVersion & {
  /** The version that is changed; the new one is the next number. */
  version: number;
  deleted: boolean;
  /** The names of what changed. */
  fields: string[];
};

const changes = defineBulkInput<Change>({
  ...versionColumns,
  version: ["bigint", ({ version }) => BigInt(version)],
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
        email = input.email, phone_number = input.phone_number, date_of_birth = input.date_of_birth, address_text = input.address_text,
        street = input.street, city = input.city, state = input.state, zip_code = input.zip_code, sex = input.sex,
        registered_date = input.registered_date, updated_at = input.at, deleted_at = case when input.deleted then input.at end, words = ${vector}
      from input where p.id = input.id and p.version = input.version
      returning p.id, p.version
    ), named as (
      insert into patient_words select distinct word from unnest($${changes.count + 1}::text[]) as word order by word
      on conflict do nothing
    ), versions as (
      insert into patient_versions (patient_id, version, action, changed_at, changed_by, record)
      select c.id, c.version, action, at, actor, record from input join changed c using (id)
    ), audited as (
      insert into audit_entries (actor, action, subject, request_id, details)
      select actor, 'patient.' || action, c.id, request_id, jsonb_build_object('version', c.version, 'sha256', ${digest}, 'fields', fields::jsonb)
      from input join changed c using (id)
    ), told as (
      insert into outbox (event_id, topic, key, type, payload, traceparent)
      select event_id, 'patient.v1', c.id, event_type, payload, traceparent from input join changed c using (id)
    )
    select id from changed`,
};

/**
 * Makes the next version of a patient. False where somebody else made it in the meantime.
 * @throws AppError already_exists where another patient has the e-mail.
 */
export async function changePatient(db: PatientDatabase, change: Change): Promise<boolean> {
  try {
    return (await db.query(changeStatement, [...changes.collect([change]).values(), change.words.names])).length === 1;
  } catch (error) {
    if (violatedConstraint(error) === "patients_email") throw emailTaken();
    throw error;
  }
}

export function emailTaken(): AppError {
  const message = "belongs to another patient; look that one up, or use another address";
  return new AppError("already_exists", `email: ${message}.`, { reason: "EMAIL_TAKEN", errors: [{ path: "email", message }] });
}
