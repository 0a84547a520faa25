/** Emergencies in Postgres: who opened which record, why, and until when. The access rule reads them too. */
import { insertIntoAudit, insertPatientsOf, returningEntry } from "@pm/kit/audit/audit";
import type { PatientDatabase, Viewer } from "../database.ts";
import { visible } from "../patients/access-store.ts";

const openStatement = {
  name: "emergency_open",
  // The reason is text that somebody wrote about a patient, so it stands here, and the trail has its id.
  text: `
    with opened as (
      insert into emergency_accesses (patient_id, user_id, reason, request_id, expires_at)
      select p.id, v.actor, $4, $5, now() + interval '4 hours'
      from (select $2::text as actor, false as sees_all, $3::text[] as principals) v
      join patients asked on asked.id = $1
      join patients survivor on survivor.id = coalesce(asked.merged_into, asked.id) and survivor.deleted_at is null
      join patients p on p.id in (asked.id, survivor.id)
      where not ${visible("p", "v")}
      returning id, patient_id, user_id, request_id, expires_at
    ), audited as (
      ${insertIntoAudit}
      select user_id, 'patient.emergency_opened', patient_id, request_id, jsonb_build_object('emergencyId', id, 'until', expires_at) from opened
    )
    select id from opened`,
};

export type Opening = { patientId: string; viewer: Viewer; reason: string; requestId: string };

/**
 * Opens a record for four hours, with an audit entry; of a merged record, the survivor too. False if the viewer sees it
 * already, or if there is none.
 */
export async function openRecord(db: PatientDatabase, { patientId, viewer, reason, requestId }: Opening): Promise<boolean> {
  const rows = await db.query(openStatement, [patientId, viewer.id, viewer.principals, reason, requestId]);
  return rows.length > 0;
}

export type Emergency = {
  id: string;
  patient_id: string;
  user_id: string;
  reason: string;
  request_id: string;
  opened_at: Date;
  expires_at: Date;
};

const listStatement = {
  name: "emergencies",
  text: `
    with page as materialized (
      select id, patient_id, user_id, reason, request_id, opened_at, expires_at from emergency_accesses
      where ($3::uuid is null or id < $3) order by id desc limit $4::int
    ), audited as (
      ${insertIntoAudit} values ($1, 'audit.emergencies_listed', 'emergencies', $2, '{}') ${returningEntry}
    ), shown as (
      ${insertPatientsOf("audited", "select distinct patient_id as id from (select * from page order by id desc limit $4::int - 1) whole")}
    )
    select * from page`,
};

/** The newest emergencies before an id, and the audit entry that says who read them. */
export function listEmergencies(
  db: PatientDatabase,
  { actor, requestId, before, limit }: { actor: string; requestId: string; before: string | undefined; limit: number },
): Promise<Emergency[]> {
  return db.query(listStatement, [actor, requestId, before ?? null, limit]);
}
