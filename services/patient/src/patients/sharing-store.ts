import { insertIntoAudit } from "@pm/kit/audit/audit";
import type { PatientDatabase } from "../database.ts";

const readStatement = {
  name: "patient_grants",
  text: `
    with audited as (
      ${insertIntoAudit} values ($2, 'patient.sharing_read', $1::uuid, $3, '{}')
    )
    select registered_by as "registeredBy",
      array(select principal from patient_access where patient_id = p.id order by principal) as principals from patients p where id = $1`,
};

/** A patient's grants, and the audit entry that says who read them. */
export async function readGrants(
  db: PatientDatabase,
  { id, actor, requestId }: { id: string; actor: string; requestId: string },
): Promise<{ registeredBy: string; principals: string[] }> {
  const [row] = await db.query<{ registeredBy: string; principals: string[] }>(readStatement, [id, actor, requestId]);
  return row ?? { registeredBy: "", principals: [] };
}

const replaceStatement = {
  name: "patient_grants_replace",
  text: `
    with removed as (
      delete from patient_access where patient_id = $1 and principal <> all($2::text[]) returning principal
    ), added as (
      insert into patient_access (patient_id, principal, granted_by) select $1, unnest($2::text[]), $3
      on conflict do nothing returning principal
    ), audited as (
      ${insertIntoAudit}
      select $3, 'patient.shared', $1::uuid, $4, jsonb_build_object(
        'added', coalesce((select jsonb_agg(principal) from added), '[]'), 'removed', coalesce((select jsonb_agg(principal) from removed), '[]'))
    )
    select registered_by as "registeredBy" from patients where id = $1`,
};

/** Replaces a patient's grants and writes who changed which. Gives the user who registered the patient. */
export async function replaceGrants(
  db: PatientDatabase,
  change: { id: string; principals: string[]; actor: string; requestId: string },
): Promise<string> {
  const values = [change.id, change.principals, change.actor, change.requestId];
  const [row] = await db.query<{ registeredBy: string }>(replaceStatement, values);
  return row?.registeredBy ?? "";
}
