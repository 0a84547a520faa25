/** Owners and grants in Postgres. */
import { insertIntoAudit } from "@pm/kit/audit/audit";
import { inTransaction, type Queries } from "@pm/kit/postgres/transaction";
import type { PatientDatabase, Viewer } from "../database.ts";
import { accessLevel } from "./access-store.ts";

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
export async function readSharing(db: Queries, { id, actor, requestId }: Who & { id: string }): Promise<Owners & { grants: Grant[] }> {
  const [row] = await db.query<Owners & { grants: Grant[] }>(readStatement, [id, actor, requestId]);
  return row ?? { registeredBy: "", owner: "", grants: [] };
}

/**
 * Everything follows from `before`, which waits for somebody who changes the owner just now: then it is what they
 * leave, and is empty if the caller may no longer share the patient.
 */
const replaceStatement = {
  name: "patient_sharing_replace",
  text: `
    with before as materialized (
      select p.id, registered_by as owner, coalesce($6::text, registered_by) as next_owner, ${registrar} as registrar
      from patients p, (select $4::text as actor, $7::boolean as sees_all, $8::text[] as principals) v
      where p.id = $1 and p.deleted_at is null and ${accessLevel("p", "v")} = 'manage' for update of p
    ), removed as (
      delete from patient_access where patient_id in (select id from before) and principal <> all($2::text[]) returning principal
    ), added as (
      insert into patient_access (patient_id, principal, can_write, granted_by)
      select id, principal, can_write, $4 from before, unnest($2::text[], $3::boolean[]) as wanted(principal, can_write)
      on conflict (patient_id, principal) do update set can_write = excluded.can_write, granted_by = excluded.granted_by, granted_at = now()
      where patient_access.can_write <> excluded.can_write
      returning principal, can_write
    ), owned as (
      update patients p set registered_by = next_owner from before where p.id = before.id and owner <> next_owner
    ), audited as (
      ${insertIntoAudit}
      select $4, 'patient.shared', id, $5, jsonb_build_object(
        'added', coalesce((select jsonb_agg(principal order by principal) from added where can_write), '[]'),
        'addedReaders', coalesce((select jsonb_agg(principal order by principal) from added where not can_write), '[]'),
        'removed', coalesce((select jsonb_agg(principal order by principal) from removed), '[]'))
      from before
      union all
      select $4, 'patient.owner_changed', id, $5, jsonb_build_object('from', owner, 'to', next_owner) from before where owner <> next_owner
    )
    select registrar as "registeredBy", next_owner as owner from before`,
};

/**
 * Replaces a patient's grants, and its owner if one is given, and writes who changed which. Undefined if the viewer may
 * not share the patient, or it is deleted.
 */
export async function replaceSharing(
  db: PatientDatabase,
  { id, owner, grants, viewer, requestId }: { id: string; owner: string | undefined; grants: Grant[]; viewer: Viewer; requestId: string },
): Promise<Owners | undefined> {
  const principals = grants.map(({ principal }) => principal);
  const levels = grants.map(({ canWrite }) => canWrite);
  const values = [id, principals, levels, viewer.id, requestId, owner, viewer.seesAll, viewer.principals];
  return inTransaction(db, async (tx) => {
    const [row] = await tx.query<Owners>(replaceStatement, values);
    if (row) await followSurvivors(tx, [id]);
    return row;
  });
}

/** A statement of its own, because the one before may have waited for a merge, and did not see what it merged. */
const followStatement = {
  name: "patient_sharing_follow",
  text: `
    with records as materialized (
      select m.id, s.id as survivor, s.registered_by as owner from patients m join patients s on s.id = m.merged_into
      where m.merged_into = any($1::uuid[])
    ), owned as (
      update patients p set registered_by = owner from records r where p.id = r.id and registered_by <> owner
    ), removed as (
      delete from patient_access a using records r
      where a.patient_id = r.id and not exists (select from patient_access where patient_id = survivor and principal = a.principal)
    )
    insert into patient_access (patient_id, principal, can_write, granted_by, granted_at)
    select r.id, principal, can_write, granted_by, granted_at from records r join patient_access on patient_id = survivor
    order by r.id, principal
    on conflict (patient_id, principal) do update
      set can_write = excluded.can_write, granted_by = excluded.granted_by, granted_at = excluded.granted_at
    where patient_access.can_write <> excluded.can_write`,
};

/**
 * Gives all records that were merged into these the owner and the grants of their survivor. So one access rule is right
 * for all, and nobody sees a merged record who may not see its survivor. The caller has locked the survivors.
 */
export async function followSurvivors(tx: Queries, ids: string[]): Promise<void> {
  await tx.query(followStatement, [ids]);
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
    select n as transferred, (select count(*)::int from patients where registered_by = $1) - n as remaining,
      array(select id from moved) as ids from counted`,
};

/** Makes a user the owner of up to `limit` records of another, deleted ones too, with an audit entry for each. */
export async function transferPatients(
  db: PatientDatabase,
  { from, to, limit, actor, requestId }: Who & { from: string; to: string; limit: number },
): Promise<{ transferred: number; remaining: number }> {
  const values = [from, to, limit, actor, requestId];
  type Row = { transferred: number; remaining: number; ids: string[] };
  return inTransaction(db, async (tx) => {
    const [row] = await tx.query<Row>(transferStatement, values);
    const { transferred = 0, remaining = 0, ids = [] } = row ?? {};
    await followSurvivors(tx, ids);
    return { transferred, remaining };
  });
}
