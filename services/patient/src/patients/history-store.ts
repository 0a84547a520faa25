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

/** Whether a patient is erased, but for a record that must be kept. */
export async function isRestricted(db: PatientDatabase, id: string): Promise<boolean> {
  const text = `select exists (select from patients p join patient_versions v on v.patient_id = p.id
    where p.id = $1 and p.erased_at is not null and v.record::text <> '{}') as found`;
  const [row] = await db.query<{ found: boolean }>({ name: "patients_is_restricted", text }, [id]);
  return row?.found === true;
}
