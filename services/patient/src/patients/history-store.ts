import { insertIntoAudit } from "@pm/kit/audit/audit";
import type { PatientDatabase } from "../database.ts";
import type { Action, PatientRecord } from "../tables.ts";

/** A version as it was stored. */
export type Version = { version: number; action: Action; at: Date; by: string; record: PatientRecord };

const versionsStatement = {
  name: "patients_versions",
  text: `
    with audited as (
      ${insertIntoAudit} values ($2, 'patient.history_read', $1::uuid, $3, '{}')
    )
    select version, action, changed_at as at, changed_by as by, record from patient_versions
    where patient_id = $1 and version < coalesce($4, 9223372036854775807) order by version desc limit $5`,
};

/** Versions from the newest back, and the audit entry that says who read them. */
export async function readVersions(
  db: PatientDatabase,
  asked: { id: string; actor: string; requestId: string; before: number | undefined; limit: number },
): Promise<Version[]> {
  const values = [asked.id, asked.actor, asked.requestId, asked.before ?? null, asked.limit];
  const rows = await db.query<Omit<Version, "version"> & { version: bigint }>(versionsStatement, values);
  return rows.map((row) => ({ ...row, version: Number(row.version) }));
}

/** The records that led to a version of a record: those merged into it by then, and those merged into these before. */
export const replacesAtVersion = (id: string, version: string) => `array(
  with recursive led as (
    select m.duplicate_id as id, m.duplicate_version as version from patient_merges m
    where m.survivor_id = ${id} and m.survivor_version <= ${version} and (m.undone_version is null or m.undone_version > ${version})
    union
    select m.duplicate_id, m.duplicate_version from patient_merges m join led on m.survivor_id = led.id
      and m.survivor_version <= led.version and (m.undone_version is null or m.undone_version > led.version)
  )
  select id from led order by id
)`;

const versionStatement = {
  name: "patients_version",
  text: `
    with found as materialized (
      select v.patient_id as id, v.version, v.action, v.changed_at as at, v.changed_by as by, v.record, p.created_at as "createdAt",
        ${replacesAtVersion("v.patient_id", "v.version")} as replaces
      from patient_versions v join patients p on p.id = v.patient_id where v.patient_id = $1 and v.version = $2
    ), audited as (
      ${insertIntoAudit} select $3, 'patient.version_read', id, $4, jsonb_build_object('version', version) from found
    )
    select * from found`,
};

/** One version, and the audit entry that says who read it. */
export async function readVersion(
  db: PatientDatabase,
  asked: { id: string; version: number; actor: string; requestId: string },
): Promise<(Version & { id: string; createdAt: Date; replaces: string[] }) | undefined> {
  type Row = Omit<Version, "version"> & { version: bigint; id: string; createdAt: Date; replaces: string[] };
  const [row] = await db.query<Row>(versionStatement, [asked.id, asked.version, asked.actor, asked.requestId]);
  return row && { ...row, version: Number(row.version) };
}

/** Whether a patient is erased, but for a record that must be kept. */
export async function isRestricted(db: PatientDatabase, id: string): Promise<boolean> {
  const text = `select exists (select from patients p join patient_versions v on v.patient_id = p.id
    where p.id = $1 and p.erased_at is not null and v.record::text <> '{}') as found`;
  const [row] = await db.query<{ found: boolean }>({ name: "patients_is_restricted", text }, [id]);
  return row?.found === true;
}
