/** Exports in Postgres: which versions a snapshot has, page by page. */
import { insertAuditEntries, insertIntoAudit, insertPatientsOf, returningEntry } from "@pm/kit/audit/audit";
import { inTransaction } from "@pm/kit/postgres/transaction";
import type { RequestContext } from "@pm/kit/request-context";
import { type RawBuilder, sql } from "kysely";
import type { PatientDatabase, Viewer } from "../database.ts";
import type { Condition } from "../patients/access-store.ts";
import { margin, thisServer } from "../patients/changes-store.ts";
import type { Identifier, PatientRecord } from "../tables.ts";

/** An export as its caller sees it. */
export type Export = {
  id: string;
  team: string | null;
  cutoff: Date;
  since: Date | null;
  /** How many patients were read, of the stream that got furthest. */
  patients: bigint;
  finishedAt: Date | null;
  expiresAt: Date;
};

/** What decides which versions an export has. */
export type Scope = Pick<Export, "id" | "team" | "since"> & { snapshot: string; sinceSnapshot: string | null; changedAfter: Date | null };

/** For so long an export can be read. */
const kept = "24 hours";
/** An export that nobody reads no longer takes one of its caller's places. */
const patience = "1 hour";
/** How many a caller may have that are not read to the end. */
export const maxOpen = 2;

const columns = `id, team, cutoff, since, patients, finished_at as "finishedAt", cutoff + interval '${kept}' as "expiresAt"`;
const mine = `caller = $1 and cancelled_at is null`;

const lockStatement = { name: "exports_lock", text: "select pg_advisory_xact_lock(hashtextextended('exports of ' || $1::text, 0))" };
const openStatement = {
  name: "exports_open",
  text: `select ${columns} from patient_exports where ${mine} and finished_at is null and read_at > now() - interval '${patience}' order by cutoff`,
};

/**
 * The snapshot has every version that was committed before, and no other one. So the cutoff is rounded up. The export
 * before is known by its cutoff and team: what its snapshot does not have is new, whatever the clocks say. If it was of
 * another server, what changed up to a day before is repeated.
 */
const createStatement = {
  name: "exports_create",
  text: `
    insert into patient_exports (id, caller, team, cutoff, snapshot, server, since, since_snapshot, changed_after, read_at)
    select $2, $1, $3::text, at, pg_current_snapshot(), here, $4::timestamptz, case when before.server = here then before.snapshot end,
      case when before.server = here then null when before.server is null then $4::timestamptz else $4::timestamptz - interval '${margin}' end, at
    from (select date_trunc('milliseconds', clock_timestamp()) + interval '1 ms' as at, ${thisServer} as here) now
    left join lateral (
      select server, snapshot from patient_exports where caller = $1 and cutoff = $4::timestamptz and team is not distinct from $3::text
      order by id limit 1
    ) before on true
    returning ${columns}`,
};

type NewExport = { id: string; team: string | undefined; since: string | undefined };

/** Creates an export as of now. Gives those that are open if they are too many already. */
export function createExport(db: PatientDatabase, call: RequestContext, { id, team, since }: NewExport): Promise<Export | Export[]> {
  return inTransaction(db, async (tx) => {
    await tx.query(lockStatement, [call.actorId]);
    const open = await tx.query<Export>(openStatement, [call.actorId]);
    if (open.length >= maxOpen) return open;
    const [created] = await tx.query<Export>(createStatement, [call.actorId, id, team ?? null, since ?? null]);
    if (!created) throw new Error("an export was not created");
    const details = { cutoff: created.cutoff, ...(since !== undefined && { since }), ...(team !== undefined && { team }) };
    await insertAuditEntries(tx, [{ ...call, action: "export.created", subject: id, details }]);
    return created;
  });
}

const readable = `${mine} and id = $2 and cutoff > now() - interval '${kept}'`;
const readStatement = { name: "exports_read", text: `select ${columns} from patient_exports where ${readable}` };
const scopeStatement = {
  name: "exports_scope",
  text: `select id, team, since, snapshot::text, since_snapshot::text as "sinceSnapshot", changed_after as "changedAfter", server = ${thisServer} as "isHere"
    from patient_exports where ${readable}`,
};
const progressStatement = {
  name: "exports_progress",
  text: `update patient_exports set patients = greatest(patients, $3), read_at = now(),
      finished_at = case when $4 then coalesce(finished_at, now()) else finished_at end
    where ${readable} returning id`,
};
const cancelStatement = {
  name: "exports_cancel",
  text: `
    with cancelled as (
      update patient_exports set cancelled_at = now() where ${readable} returning id
    ), audited as (
      ${insertIntoAudit} select $1, 'export.deleted', id, $3, '{}' from cancelled
    )
    select id from cancelled`,
};

/** Undefined if the caller has none with this id, or it is outdated. */
export async function readExport(db: PatientDatabase, caller: string, id: string): Promise<Export | undefined> {
  return (await db.query<Export>(readStatement, [caller, id]))[0];
}

export async function readScope(db: PatientDatabase, caller: string, id: string): Promise<(Scope & { isHere: boolean }) | undefined> {
  return (await db.query<Scope & { isHere: boolean }>(scopeStatement, [caller, id]))[0];
}

/** Notes how far an export is. False if it was deleted meanwhile. */
export async function noteProgress(
  db: PatientDatabase,
  { caller, id, patients, isFinished }: { caller: string; id: string; patients: number; isFinished: boolean },
): Promise<boolean> {
  return (await db.query(progressStatement, [caller, id, patients, isFinished])).length === 1;
}

/** Its row stays, because its cutoff may be the `since` of the next one. */
export async function cancelExport(db: PatientDatabase, call: RequestContext, id: string): Promise<boolean> {
  return (await db.query(cancelStatement, [call.actorId, id, call.requestId])).length === 1;
}

export type ExportedRow = {
  id: string;
  version: bigint;
  created_at: Date;
  /** When it was written, merged, or on its own again. */
  updated_at: Date;
  record: PatientRecord;
  /** Those that the platform gave after the version was written. */
  identifiers: Identifier[] | null;
  /** The record that this one was merged into at the cutoff. */
  merged_into: string | null;
  /** The records that were merged into this one at the cutoff. */
  replaces: string[];
};
export type DeletedRow = { id: string; version: bigint; deleted_at: Date };

type Page = { scope: Scope; viewer: Viewer; access: Condition; after: string | undefined; limit: number; call: RequestContext };

/** Whether a snapshot has what a transaction wrote. Versions without a noted transaction have 0, which all have. */
const isIn = (xid: RawBuilder<unknown>, snapshot: string) => sql`pg_visible_in_snapshot(${xid}, ${snapshot}::pg_snapshot)`;

/** Whether the export before had it not. */
function isNew({ sinceSnapshot, changedAfter }: Scope, xid: RawBuilder<unknown>, at: RawBuilder<unknown>): Condition {
  if (sinceSnapshot !== null) return sql`not ${isIn(xid, sinceSnapshot)}`;
  return changedAfter === null ? sql`true` : sql`${at} > ${changedAfter}`;
}

/** A share has the time at which its transaction began. None takes longer. */
const longestShare = 60_000;

/**
 * Whether a patient was shared since, so that the export before could not have them: with the team of the export or,
 * without one, with the viewer or their teams. Postgres looks up whom it means once for a page.
 */
function isSharedSince({ team, since, changedAfter }: Scope, { seesAll, principals }: Viewer): Condition {
  if (since === null || (team === null && seesAll)) return sql`false`;
  return sql`p.id = any(array(select patient_id from patient_access
    where principal = any(${team === null ? principals : [`team:${team}`]})
      and granted_at > ${changedAfter ?? new Date(since.getTime() - longestShare)}))`;
}

/** Whether something of a patient may be new, by an index: nobody has it whose latest change is not new. */
function mayBeNew({ sinceSnapshot, changedAfter }: Scope): Condition {
  if (sinceSnapshot !== null) return sql`p.changed_xid >= pg_snapshot_xmin(${sinceSnapshot}::pg_snapshot)`;
  return changedAfter === null ? sql`true` : sql`p.updated_at > ${changedAfter}`;
}

/** `patients p`, each with version `v` at the cutoff, and `m`: the record's latest merge into another, or its end. */
function atCutoff({ scope, access, after }: Page, shared: Condition): RawBuilder<unknown> {
  const { snapshot, team } = scope;
  const ofTeam = team === null ? sql`true` : sql`p.id in (select patient_id from patient_access where principal = ${`team:${team}`})`;
  return sql`patients p
    cross join lateral (
      select version, action, changed_at, changed_xid, record from patient_versions v
      where v.patient_id = p.id and ${isIn(sql`v.changed_xid`, snapshot)} order by version desc limit 1
    ) v
    left join lateral (
      select case when u.version is null then m.survivor_id end as merged_into, coalesce(u.changed_xid, a.changed_xid) as changed_xid,
        case when u.version is null then m.merged_at else m.undone_at end as at
      from patient_merges m
      join patient_versions a on a.patient_id = m.survivor_id and a.version = m.survivor_version and ${isIn(sql`a.changed_xid`, snapshot)}
      left join patient_versions u on u.patient_id = m.survivor_id and u.version = m.undone_version and ${isIn(sql`u.changed_xid`, snapshot)}
      where m.duplicate_id = p.id order by m.id desc limit 1
    ) m on true
    where ${after === undefined ? sql`true` : sql`p.id > ${after}`} and ${access} and ${ofTeam} and (${mayBeNew(scope)} or ${shared})`;
}

/**
 * Of the merges into a patient `p`, those that held at the cutoff: each duplicate has `merged_into` in the export too.
 */
const replacesAtCutoff = ({ snapshot }: Scope) => sql`array(
  select m.duplicate_id from patient_merges m
  join patient_versions a on a.patient_id = m.survivor_id and a.version = m.survivor_version and ${isIn(sql`a.changed_xid`, snapshot)}
  left join patient_versions u on u.patient_id = m.survivor_id and u.version = m.undone_version and ${isIn(sql`u.changed_xid`, snapshot)}
  where m.survivor_id = p.id and u.version is null order by m.duplicate_id)`;

/** A page with one row more, and an audit entry of whom it showed. */
function audited({ scope, limit, call }: Page, rows: RawBuilder<unknown>): RawBuilder<unknown> {
  return sql`
    with page as materialized (${rows}), audited as (
      ${sql.raw(insertIntoAudit)}
      select ${call.actorId}, 'patient.exported', 'patients', ${call.requestId}, jsonb_build_object('export', ${scope.id}::text,
        'ids', coalesce((select jsonb_agg(id) from (select id from page limit ${limit}) shown), '[]'))
      ${sql.raw(returningEntry)}
    ), shown as (
      ${sql.raw(insertPatientsOf("audited", `select id from page limit ${limit}`))}
    )
    select * from page`;
}

/**
 * Patients as they were at the cutoff, in the order of their ids. What a caller may see is decided now: who lost access
 * since, or was erased, is left out.
 */
export async function readPatientsPage(db: PatientDatabase, page: Page): Promise<ExportedRow[]> {
  const { scope, viewer, limit } = page;
  const shared = isSharedSince(scope, viewer);
  const rows = sql`
    select p.id, v.version, p.created_at, greatest(v.changed_at, m.at) as updated_at, v.record, m.merged_into,
      case when v.version = p.version then p.details->'identifiers' end as identifiers,
      ${replacesAtCutoff(scope)} as replaces
    from ${atCutoff(page, shared)} and p.erased_at is null and v.action <> 'deleted' and v.record::text <> '{}'
      and (${shared} or ${isNew(scope, sql`v.changed_xid`, sql`v.changed_at`)} or (m.at is not null and ${isNew(scope, sql`m.changed_xid`, sql`m.at`)}))
    order by p.id limit ${limit + 1}`;
  return (await audited(page, rows).$castTo<ExportedRow>().execute(db.kysely)).rows;
}

/** Patients who were deleted or erased at the cutoff. Somebody who is not deleted now was changed since. */
export async function readDeletionsPage(db: PatientDatabase, page: Page): Promise<DeletedRow[]> {
  const { scope, limit } = page;
  const rows = sql`
    select p.id, v.version, v.changed_at as deleted_at
    from ${atCutoff(page, sql`false`)} and v.action in ('deleted', 'erased')
      and (p.deleted_at is not null or not ${isIn(sql`p.changed_xid`, scope.snapshot)})
      and ${isNew(scope, sql`v.changed_xid`, sql`v.changed_at`)}
    order by p.id limit ${limit + 1}`;
  return (await audited(page, rows).$castTo<DeletedRow>().execute(db.kysely)).rows;
}
