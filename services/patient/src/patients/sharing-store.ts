/** Owners and grants in Postgres. */
import { insertIntoAudit } from "@pm/kit/audit/audit";
import type { PatientDatabase } from "../database.ts";

/** `user:<id>` or `team:<id>`, and whether they may change the patient, or only see it. */
export type Grant = { principal: string; canWrite: boolean };

type Owners = { registeredBy: string; owner: string };
type Who = { actor: string; requestId: string };

/** The column `registered_by` has the owner. The first version says who registered the patient. */
const registrar = "coalesce((select changed_by from patient_versions where patient_id = p.id and version = 1), p.registered_by)";

const readStatement = {
  name: "patient_sharing",
  text: `
    with audited as (
      ${insertIntoAudit} values ($2, 'patient.sharing_read', $1::uuid, $3, '{}')
    )
    select ${registrar} as "registeredBy", registered_by as owner, coalesce((
      select jsonb_agg(jsonb_build_object('principal', principal, 'canWrite', can_write) order by principal)
      from patient_access where patient_id = p.id), '[]') as grants
    from patients p where id = $1`,
};

/** Whose a patient is, its grants, and the audit entry that says who read them. */
export async function readSharing(
  db: PatientDatabase,
  { id, actor, requestId }: Who & { id: string },
): Promise<Owners & { grants: Grant[] }> {
  const [row] = await db.query<Owners & { grants: Grant[] }>(readStatement, [id, actor, requestId]);
  return row ?? { registeredBy: "", owner: "", grants: [] };
}

const replaceStatement = {
  name: "patient_sharing_replace",
  text: `
    with before as materialized (
      select id, registered_by as owner, ${registrar} as registrar from patients p where id = $1
    ), removed as (
      delete from patient_access where patient_id = $1 and principal <> all($2::text[]) returning principal
    ), added as (
      insert into patient_access (patient_id, principal, can_write, granted_by)
      select $1, principal, can_write, $4 from unnest($2::text[], $3::boolean[]) as wanted(principal, can_write)
      on conflict (patient_id, principal) do update set can_write = excluded.can_write, granted_by = excluded.granted_by, granted_at = now()
      where patient_access.can_write <> excluded.can_write
      returning principal, can_write
    ), owned as (
      update patients p set registered_by = $6 from before where p.id = before.id and before.owner <> $6
    ), audited as (
      ${insertIntoAudit}
      select $4, 'patient.shared', $1::uuid, $5, jsonb_build_object(
        'added', coalesce((select jsonb_agg(principal order by principal) from added where can_write), '[]'),
        'addedReaders', coalesce((select jsonb_agg(principal order by principal) from added where not can_write), '[]'),
        'removed', coalesce((select jsonb_agg(principal order by principal) from removed), '[]'))
      union all
      select $4, 'patient.owner_changed', id, $5, jsonb_build_object('from', owner, 'to', $6) from before where owner <> $6
    )
    select registrar as "registeredBy", $6 as owner from before`,
};

/** Replaces a patient's grants and its owner, and writes who changed which. */
export async function replaceSharing(
  db: PatientDatabase,
  { id, owner, grants, actor, requestId }: Who & { id: string; owner: string; grants: Grant[] },
): Promise<Owners> {
  const principals = grants.map(({ principal }) => principal);
  const levels = grants.map(({ canWrite }) => canWrite);
  const [row] = await db.query<Owners>(replaceStatement, [id, principals, levels, actor, requestId, owner]);
  return row ?? { registeredBy: "", owner };
}

const transferStatement = {
  name: "patients_transfer",
  text: `
    with moved as (
      update patients set registered_by = $2
      where id in (select id from patients where registered_by = $1 order by id limit $3 for update) returning id
    ), audited as (
      ${insertIntoAudit} select $4, 'patient.owner_changed', id, $5, jsonb_build_object('from', $1::text, 'to', $2::text) from moved
    ), counted as (
      select count(*)::int as n from moved
    )
    select n as transferred, (select count(*)::int from patients where registered_by = $1) - n as remaining from counted`,
};

/** Makes one user the owner of up to `limit` records of another one, deleted ones included, with an audit entry for each. */
export async function transferPatients(
  db: PatientDatabase,
  { from, to, limit, actor, requestId }: Who & { from: string; to: string; limit: number },
): Promise<{ transferred: number; remaining: number }> {
  const values = [from, to, limit, actor, requestId];
  const [row] = await db.query<{ transferred: number; remaining: number }>(transferStatement, values);
  return row ?? { transferred: 0, remaining: 0 };
}
