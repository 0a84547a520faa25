/** Reads the audit trail, the newest entries first. */
import { type QueryExecutorProvider, type RawBuilder, sql } from "kysely";
import { idsOfBlock } from "../audit/migrations.ts";

/** A database with the tables of the trail, and whatever else. */
export type TrailDatabase = { readonly kysely: QueryExecutorProvider };

export type TrailFilter = {
  id?: string | undefined;
  actor?: string | undefined;
  /** One of these words. */
  actions?: string[] | undefined;
  requestId?: string | undefined;
  /** From this moment on. */
  from?: Date | undefined;
  /** Before this moment. */
  to?: Date | undefined;
  /** Only what showed or changed data: no refusals, and no reads of the trail. */
  disclosures?: boolean | undefined;
};

/** Whose entries: those about one of the subjects, and those of lists that showed one of the person's records. */
export type TrailOf = { patientIds: string[]; subjects: string[] };

export type TrailPage = {
  filter: TrailFilter;
  of: TrailOf | undefined;
  /** The last id of the page before. */
  before: string | undefined;
  limit: number;
};

/** An entry, with the block that seals it; null for about a second after it was written. `at` has microseconds. */
export type TrailEntry = {
  id: bigint;
  at: string;
  actor: string;
  action: string;
  subject: string;
  request_id: string;
  details: Record<string, unknown>;
  block_number: bigint | null;
  block_hash: Buffer | null;
};

function conditionOf({ id, actor, actions, requestId, from, to, disclosures }: TrailFilter): RawBuilder<unknown> {
  const conditions = [sql`true`];
  if (id !== undefined) conditions.push(sql`e.id = ${id}`);
  if (actor !== undefined) conditions.push(sql`e.actor = ${actor}`);
  if (actions) conditions.push(sql`e.action = any(${actions})`);
  if (requestId !== undefined) conditions.push(sql`e.request_id = ${requestId}`);
  if (from) conditions.push(sql`e.occurred_at >= ${from}`);
  if (to) conditions.push(sql`e.occurred_at < ${to}`);
  if (disclosures) conditions.push(sql`e.action <> 'access.refused' and e.action not like 'audit.%'`);
  return sql.join(conditions, sql` and `);
}

/** Each branch walks its index backwards until it has a page, so a page costs the same wherever it is. */
function pageOf({ filter, of, before, limit }: TrailPage): RawBuilder<unknown> {
  const condition = conditionOf(filter);
  const older = sql`${before ?? "9223372036854775807"}::bigint`;
  const matching = sql`e.id < ${older} and ${condition}`;
  if (!of) return sql`(select e.id from audit_entries e where ${matching} order by e.id desc limit ${limit})`;
  const branches = of.subjects.map(
    (subject) => sql`(select e.id from audit_entries e where e.subject = ${subject} and ${matching} order by e.id desc limit ${limit})`,
  );
  const shown = of.patientIds.map(
    (id) => sql`(select e.id from audit_patients p join audit_entries e on e.id = p.entry_id and e.occurred_at = p.occurred_at
    where p.patient_id = ${id} and p.entry_id < ${older} and ${condition} order by p.entry_id desc limit ${limit})`,
  );
  return sql.join([...branches, ...shown], sql` union `);
}

export async function readTrail(db: TrailDatabase, page: TrailPage): Promise<TrailEntry[]> {
  const { rows } = await sql<TrailEntry>`
    with page as materialized (${pageOf(page)})
    select e.id, to_char(e.occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at,
      e.actor, e.action, e.subject, e.request_id, e.details, b.number as block_number, b.hash as block_hash
    from (select id from page order by id desc limit ${page.limit}) p
    cross join lateral (select * from audit_entries where id = p.id offset 0) e
    left join lateral (
      select number, hash from audit_blocks where ${sql.raw(idsOfBlock)} @> e.id and e.id = any(entry_ids) limit 1
    ) b on true
    order by e.id desc`.execute(db.kysely);
  return rows;
}
