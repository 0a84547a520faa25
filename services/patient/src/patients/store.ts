/**
 * Statements that read patients. They are named, so that each connection prepares them once, and they take sets: what
 * arrives together shares a round trip, and one patient is a set of one.
 */
import { insertIntoAudit } from "@pm/kit/audit/audit";
import { defineBulkInput } from "@pm/kit/postgres/bulk";
import type { Queries } from "@pm/kit/postgres/transaction";
import type { PatientDatabase, Viewer } from "../database.ts";
import type { Patient, PatientRecord, PatientsTable } from "../tables.ts";
import { type AccessLevel, accessLevel, visible } from "./access-store.ts";
import { withDetails } from "./details-store.ts";

/** A read of one patient. */
export type Reading = { id: string; viewer: Viewer; requestId: string };

export const recordColumns = `p.name, p.first_name, p.last_name, coalesce(p.email, p.shared_email) as email, p.phone_number,
  p.date_of_birth, p.address_text, p.street, p.city, p.state, p.zip_code, p.sex, p.registered_date, p.details`;

export const patientColumns = `p.id, p.version, ${recordColumns}, p.created_at, p.updated_at, p.deleted_at, p.merged_into`;

/** The records that lead to a patient `p`, null if there are none: a merge makes a new version of its survivor. */
export const replacesColumn = `case when p.version > 1
  then array(select id from patients m where m.merged_into = p.id order by id) end as replaces`;

/** The billing account of a patient `p`, null until billing has opened it. */
export const accountColumn = "(select account_id from patient_billing where patient_id = p.id) as account_id";

/**
 * Looks each patient up in the primary key. The laterals have an `offset 0`, because without fresh statistics Postgres
 * reads the whole table rather than look up a hundred ids.
 *
 * The read and its entry in the audit trail are one statement, so no record is read without an entry.
 */
const readStatement = {
  name: "patients_read",
  text: `
    with asked as materialized (
      select * from json_to_recordset($1) as a(n int, id uuid, actor text, sees_all boolean, principals text[], request_id text)
    ), found as materialized (
      select a.n, a.actor, a.request_id, ${patientColumns}, ${replacesColumn}, b.account_id
      from asked a
      cross join lateral (select * from patients where id = a.id offset 0) p
      left join lateral (select account_id from patient_billing where patient_id = p.id offset 0) b on true
      where p.deleted_at is null and ${visible("p", "a")}
    ), audited as (
      ${insertIntoAudit}
      select actor, 'patient.read', id, request_id, jsonb_build_object('version', version) from found
    )
    select * from found`,
};

/** Reads patients, each for its own viewer. Undefined if there is none or the viewer may not see it. */
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

type Unread =
  | "shared_email"
  | "email_key"
  | "registered_by"
  | "words"
  | "changed_xid"
  | "sort_name"
  | "city_key"
  | "words_version"
  | "match_keys"
  | "keys_version"
  | "erased_at";
export type PatientRow = Omit<PatientsTable, Unread> & {
  account_id: string | null;
  /** Only if the statement selects it. */
  replaces?: string[] | null;
};

export type RecordRow = Omit<PatientRow, "id" | "version" | "account_id" | "created_at" | "updated_at" | "deleted_at" | "merged_into">;

export function toRecord(row: RecordRow): PatientRecord {
  const columns: PatientRecord = {
    name: row.name,
    ...(row.first_name !== null && { firstName: row.first_name }),
    ...(row.last_name !== null && { lastName: row.last_name }),
    ...(row.email !== null && { email: row.email }),
    ...(row.phone_number !== null && { phoneNumber: row.phone_number }),
    dateOfBirth: row.date_of_birth,
    ...(row.address_text !== null && {
      address: {
        text: row.address_text,
        ...(row.street !== null && { street: row.street }),
        ...(row.city !== null && { city: row.city }),
        ...(row.state !== null && { state: row.state }),
        ...(row.zip_code !== null && { zipCode: row.zip_code }),
      },
    }),
    ...(row.sex !== null && { sex: row.sex }),
    registeredDate: row.registered_date,
  };
  return row.details ? withDetails(columns, row.details) : columns;
}

export function toPatient(row: PatientRow): Patient {
  return {
    id: row.id,
    version: Number(row.version),
    record: toRecord(row),
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    accountId: row.account_id ?? undefined,
    ...(row.deleted_at && { deletedAt: row.deleted_at }),
    ...(row.merged_into && { mergedInto: row.merged_into }),
    ...(row.replaces?.length && { replaces: row.replaces }),
  };
}

const restrictedStatement = {
  name: "patients_restricted",
  text: `
    with found as materialized (
      select p.id, p.version, p.created_at, p.updated_at, p.deleted_at, b.account_id, v.record
      from patients p left join patient_billing b on b.patient_id = p.id
      cross join lateral (
        select record from patient_versions where patient_id = p.id and record::text <> '{}' order by version desc limit 1
      ) v where p.id = $1 and p.erased_at is not null
    ), audited as (
      ${insertIntoAudit} select $2, 'patient.read', id, $3, jsonb_build_object('version', version, 'restricted', true) from found
    )
    select * from found`,
};

/** A patient who is erased, but for a record that must be kept, with an audit entry. For administrators only. */
export async function readRestricted(db: PatientDatabase, { id, actor, requestId }: Replay): Promise<Patient | undefined> {
  type Row = Pick<PatientRow, "id" | "version" | "created_at" | "updated_at" | "deleted_at" | "account_id"> & { record: PatientRecord };
  const [row] = await db.query<Row>(restrictedStatement, [id, actor, requestId]);
  if (!row) return undefined;
  const { version, record, created_at: createdAt, updated_at: updatedAt, account_id } = row;
  const patient = { id: row.id, version: Number(version), record, createdAt, updatedAt, accountId: account_id ?? undefined };
  return { ...patient, ...(row.deleted_at && { deletedAt: row.deleted_at }) };
}

/** A repeated request, which created a patient before. */
export type Replay = { id: string; actor: string; requestId: string };

const replays = defineBulkInput<Replay>({
  id: ["uuid", ({ id }) => id],
  actor: ["text", ({ actor }) => actor],
  request_id: ["text", ({ requestId }) => requestId],
});

const firstVersionsStatement = {
  name: "patients_first_versions",
  text: `
    with found as materialized (
      select v.patient_id, v.record, v.changed_at, b.account_id, replay.actor, replay.request_id
      from ${replays.source("replay")} join patient_versions v on v.patient_id = replay.id and v.version = 1
      left join patient_billing b using (patient_id)
    ), audited as (
      ${insertIntoAudit}
      select actor, 'patient.read', patient_id, request_id, '{"version": 1, "repeated": true}' from found
    )
    select patient_id, record, changed_at, account_id from found`,
};

/** Patients as they were when they were created, with entries in the audit trail. Undefined for unknown ids. */
export async function readFirstVersions(db: PatientDatabase, asked: Replay[]): Promise<(Patient | undefined)[]> {
  type Row = { patient_id: string; record: PatientRecord; changed_at: Date; account_id: string | null };
  const rows = await db.query<Row>(firstVersionsStatement, replays.collect(asked).values());
  const found = new Map(rows.map((row) => [row.patient_id, row]));
  return asked.map(({ id }) => {
    const row = found.get(id);
    if (!row) return undefined;
    const { record, changed_at: at, account_id } = row;
    return { id, version: 1, record, createdAt: at, updatedAt: at, accountId: account_id ?? undefined };
  });
}

/**
 * A patient before a change, and what the viewer may do with it. A deleted patient is as it was when it was deleted.
 */
export type Found = Patient & { owner: string; level: AccessLevel };

const findStatement = {
  name: "patients_find",
  text: `select * from (
      select ${patientColumns}, ${replacesColumn}, b.account_id, p.registered_by as owner, ${accessLevel("p", "a")} as level
      from (select $1::uuid as id, $2::text as actor, $3::boolean as sees_all, $4::text[] as principals) a
      join patients p on p.id = a.id left join patient_billing b on b.patient_id = p.id offset 0
    ) found where level is not null`,
};

type FoundRow = PatientRow & Pick<Found, "owner" | "level">;
const toFound = (row: FoundRow): Found => ({ ...toPatient(row), owner: row.owner, level: row.level });

/** Finds a patient for a change or a question, also a deleted one. What follows is audited, finding it is not. */
export async function findPatient(db: Queries, id: string, viewer: Viewer): Promise<Found | undefined> {
  const [row] = await db.query<FoundRow>(findStatement, [id, viewer.id, viewer.seesAll, viewer.principals]);
  return row && toFound(row);
}

const findAllStatement = {
  name: "patients_find_all",
  text: `select * from (
      select ${patientColumns}, ${replacesColumn}, b.account_id, p.registered_by as owner, ${accessLevel("p", "a")} as level
      from (select $2::text as actor, $3::boolean as sees_all, $4::text[] as principals) a cross join unnest($1::uuid[]) as asked(id)
      cross join lateral (select * from patients where id = asked.id offset 0) p
      left join lateral (select account_id from patient_billing where patient_id = p.id offset 0) b on true offset 0
    ) found where level is not null`,
};

/** Several patients at once, by their ids. */
export async function findPatients(db: Queries, ids: string[], viewer: Viewer): Promise<Map<string, Found>> {
  const rows = ids.length > 0 ? await db.query<FoundRow>(findAllStatement, [ids, viewer.id, viewer.seesAll, viewer.principals]) : [];
  return new Map(rows.map((row) => [row.id, toFound(row)]));
}

const survivorStatement = {
  name: "patients_survivor",
  text: `select p.merged_into as id from patients p, (select $2::text as actor, $3::boolean as sees_all, $4::text[] as principals) a
    where p.id = $1 and p.merged_into is not null and ${visible("p", "a")}`,
};

/** The record that a merged one leads to. Undefined if not merged, or not the viewer's to see; both take as long. */
export async function findSurvivor(db: Queries, id: string, viewer: Viewer): Promise<string | undefined> {
  const [row] = await db.query<{ id: string }>(survivorStatement, [id, viewer.id, viewer.seesAll, viewer.principals]);
  return row?.id;
}
