/** Statements that merge records and undo it. They run in one transaction, which has locked both records. */
import type { Queries } from "@pm/kit/postgres/transaction";
import type { PatientRecord, StoredGrant } from "../tables.ts";

const lockStatement = { name: "merging_lock", text: "select from patients where id = any($1::uuid[]) order by id for update" };

/**
 * Locks records until the transaction ends, in the order of their ids, so that merges do not deadlock. Whoever holds
 * the lock of a record also decides where the records lead that were merged into it.
 */
export async function lockRecords(tx: Queries, ids: string[]): Promise<void> {
  await tx.query(lockStatement, [ids]);
}

/**
 * By the clock, because a sequence goes back with a restore, and billing would take what follows for late messages.
 * Each is higher than the one before, whatever the clock says. For an hour after its migration, the sequence is ahead,
 * for the version before has it: only a restore within that hour may give a number twice, and billing would ignore what
 * has it until the link changes again.
 */
const revisionAfter = (last: string) =>
  `greatest(${last} + 1, nextval('patient_link_revisions'), (extract(epoch from clock_timestamp()) * 1000000)::bigint)`;

const leadStatement = {
  name: "merging_lead",
  text: `
    with led as (
      update patients set merged_into = $2, deleted_at = coalesce(deleted_at, $3), updated_at = $3,
        changed_xid = pg_current_xact_id()
      where id in (select id from patients where id = $1 or merged_into = $1 order by id for update) returning id
    ), linked as (
      insert into patient_links (patient_id, survivor_id, revision, next_attempt_at)
      select id, $2, ${revisionAfter("0")}, now() from (select id from led order by id) led
      on conflict (patient_id) do update set survivor_id = excluded.survivor_id, revision = ${revisionAfter("patient_links.revision")},
        attempts = 0, next_attempt_at = excluded.next_attempt_at
    )
    select id from led`,
};

/**
 * Lets a living record, and all that lead to it, lead to another one. The version stays: nobody has changed the record.
 */
export async function leadTo(
  tx: Queries,
  { duplicateId, survivorId, at }: { duplicateId: string; survivorId: string; at: Date },
): Promise<void> {
  await tx.query(leadStatement, [duplicateId, survivorId, at]);
}

const releaseStatement = {
  name: "merging_release",
  text: `
    with recursive own as (
      select $1::uuid as id union all
      select m.duplicate_id from patient_merges m join own on m.survivor_id = own.id where m.undone_version is null
    ), released as (
      update patients p set merged_into = nullif($1::uuid, p.id), updated_at = $3,
        registered_by = case when p.id = $1 then $2 else p.registered_by end, deleted_at = case when p.id <> $1 then p.deleted_at end, changed_xid = pg_current_xact_id()
      where id in (select id from patients where id in (select id from own) order by id for update) returning id
    ), linked as (
      update patient_links l set survivor_id = nullif($1::uuid, patient_id), revision = ${revisionAfter("l.revision")},
        attempts = 0, next_attempt_at = now()
      from released r where r.id = patient_id
    )
    select id from released`,
};

/**
 * Makes a merged record live again, with its owner. What was merged into it leads to it again. Gives the ids of all.
 */
export async function release(
  tx: Queries,
  { duplicateId, owner, at }: { duplicateId: string; owner: string; at: Date },
): Promise<string[]> {
  return (await tx.query<{ id: string }>(releaseStatement, [duplicateId, owner, at])).map(({ id }) => id);
}

const grantsStatement = {
  name: "merging_grants",
  text: `select to_jsonb(a) - 'patient_id' as row from patient_access a where patient_id = $1 order by principal`,
};

export async function readGrants(tx: Queries, id: string): Promise<StoredGrant[]> {
  return (await tx.query<{ row: StoredGrant }>(grantsStatement, [id])).map(({ row }) => row);
}

const setGrantsStatement = {
  name: "merging_set_grants",
  text: `
    with removed as (
      delete from patient_access where patient_id = $1 and principal <> all($2::text[])
    )
    insert into patient_access (patient_id, principal, can_write, granted_by, granted_at)
    select $1, principal, can_write, granted_by, granted_at
    from unnest($2::text[], $3::boolean[], $4::text[], $5::timestamptz[]) as wanted(principal, can_write, granted_by, granted_at)
    order by principal
    on conflict (patient_id, principal) do update
      set can_write = excluded.can_write, granted_by = excluded.granted_by, granted_at = excluded.granted_at
    where patient_access.can_write <> excluded.can_write`,
};

/** Gives a record exactly these grants. Those that it has already stay as they are. */
export async function setGrants(tx: Queries, id: string, grants: StoredGrant[]): Promise<void> {
  const column = <Column extends keyof StoredGrant>(name: Column) => grants.map((grant) => grant[name]);
  await tx.query(setGrantsStatement, [id, column("principal"), column("can_write"), column("granted_by"), column("granted_at")]);
}

type NewMerge = {
  survivorId: string;
  survivorVersion: number;
  survivorGrants: StoredGrant[];
  duplicateId: string;
  duplicateVersion: number;
  duplicateOwner: string;
  duplicateGrants: StoredGrant[];
  actor: string;
  at: Date;
};

const insertStatement = {
  name: "merging_insert",
  text: `insert into patient_merges (survivor_id, survivor_version, survivor_grants, duplicate_id, duplicate_version, duplicate_owner,
    duplicate_grants, merged_by, merged_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
};

export async function insertMerge(tx: Queries, merge: NewMerge): Promise<void> {
  await tx.query(insertStatement, [
    merge.survivorId,
    merge.survivorVersion,
    JSON.stringify(merge.survivorGrants),
    merge.duplicateId,
    merge.duplicateVersion,
    merge.duplicateOwner,
    JSON.stringify(merge.duplicateGrants),
    merge.actor,
    merge.at,
  ]);
}

const undoneStatement = {
  name: "merging_undone",
  text: `update patient_merges set undone_version = $2, undone_by = $3, undone_at = $4 where duplicate_id = $1 and undone_version is null`,
};

export async function noteUndone(tx: Queries, undone: { duplicateId: string; version: number; actor: string; at: Date }): Promise<void> {
  await tx.query(undoneStatement, [undone.duplicateId, undone.version, undone.actor, undone.at]);
}

/** A merge into a survivor, with the records of that moment. */
export type StoredMerge = {
  duplicateId: string;
  version: number;
  undoneVersion: number | undefined;
  before: PatientRecord;
  after: PatientRecord;
  survivorGrants: StoredGrant[];
  duplicate: PatientRecord;
  duplicateOwner: string;
  duplicateGrants: StoredGrant[];
};

const mergesStatement = {
  name: "merging_merges",
  text: `
    select m.duplicate_id as "duplicateId", m.survivor_version as version, m.undone_version as "undoneVersion",
      before.record as before, after.record as after, m.survivor_grants as "survivorGrants",
      duplicate.record as duplicate, m.duplicate_owner as "duplicateOwner", m.duplicate_grants as "duplicateGrants"
    from patient_merges m
    join patient_versions before on before.patient_id = m.survivor_id and before.version = m.survivor_version - 1
    join patient_versions after on after.patient_id = m.survivor_id and after.version = m.survivor_version
    join patient_versions duplicate on duplicate.patient_id = m.duplicate_id and duplicate.version = m.duplicate_version
    where m.survivor_id = $1 order by m.survivor_version`,
};

/** All merges into a survivor, also those that were undone, in their order. */
export async function readMerges(tx: Queries, survivorId: string): Promise<StoredMerge[]> {
  type Row = Omit<StoredMerge, "version" | "undoneVersion"> & { version: bigint; undoneVersion: bigint | null };
  const rows = await tx.query<Row>(mergesStatement, [survivorId]);
  return rows.map(({ version, undoneVersion, ...row }) => ({
    ...row,
    version: Number(version),
    undoneVersion: undoneVersion === null ? undefined : Number(undoneVersion),
  }));
}

const duplicateIdsStatement = { name: "merging_replaced", text: "select id from patients where merged_into = $1 order by id" };

/** The records that lead to one now. */
export async function readDuplicateIds(tx: Queries, survivorId: string): Promise<string[]> {
  return (await tx.query<{ id: string }>(duplicateIdsStatement, [survivorId])).map(({ id }) => id);
}

const parentStatement = {
  name: "merging_parent",
  text: `select survivor_id as id from patient_merges where duplicate_id = $1 and undone_version is null`,
};

/** The record that a merged one was merged into. That one may have been merged since. */
export async function findParent(tx: Queries, duplicateId: string): Promise<string | undefined> {
  return (await tx.query<{ id: string }>(parentStatement, [duplicateId]))[0]?.id;
}
