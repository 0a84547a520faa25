/** The versions of all patients in the order of the transactions that wrote them (decision 0029). */
import { insertIntoAudit, insertPatientsOf, returningEntry } from "@pm/kit/audit/audit";
import { sql } from "kysely";
import type { PatientDatabase } from "../database.ts";
import type { Action, PatientRecord } from "../tables.ts";
import type { Access, Condition } from "./access-store.ts";
import { type Horizon, isOfServer, margin, type Since } from "./changes-store.ts";
import { replacesAtVersion } from "./history-store.ts";

/** Which numbers of transactions an answer is about, the first one included, and a condition on times within them. */
export type Range = { first: string; end: string };

/** Where a page ends. */
export type FeedPosition = { xid: string; id: string; version: string };

/**
 * The first transaction that is not older than an instant. Versions are in the order of their transactions, and their
 * times nearly are: so halving finds it by some forty look-ups in the index. Versions from before have 0.
 */
async function transactionAt(db: PatientDatabase, at: string, back: string, { next }: Horizon): Promise<string> {
  const statement = {
    name: "patients_transaction_at",
    text: `
      with recursive halved(low, high) as (
        select 1::numeric, $3::numeric
        union all
        select case when is_older then middle + 1 else low end, case when is_older then high else middle end
        from (select low, high, div(low + high, 2) as middle from halved where low < high) h
        cross join lateral (
          select coalesce((select changed_at < $1::timestamptz + $2::interval from patient_versions
            where changed_xid >= middle::text::xid8 order by changed_xid, patient_id, version limit 1), false) as is_older offset 0
        ) probe
      )
      select case when low <= coalesce((select changed_xid::text::numeric from patient_versions where changed_xid >= '1'::xid8
        order by changed_xid limit 1), low) then '0' else low::text end as xid
      from halved order by high - low limit 1`,
  };
  const [row] = await db.query<{ xid: string | null }>(statement, [at, back, next]);
  return row?.xid ?? "0";
}

/** The transactions between two places: everything below the horizon if they do not say less. */
export async function rangeOf(db: PatientDatabase, since: Since | undefined, until: Since | undefined, horizon: Horizon): Promise<Range> {
  const numberOf = async (place: Since | undefined, back: string) =>
    place && (isOfServer(place, horizon) ? place.xid : await transactionAt(db, place.at, back, horizon));
  const first = (await numberOf(since, since?.xid === undefined ? `-${margin}` : `-2 day`)) ?? "0";
  const last = await numberOf(until, margin);
  // Those with 0 are before every transaction.
  const end = last === "0" ? "1" : (last ?? horizon.xid);
  return { first, end: BigInt(end) < BigInt(horizon.xid) ? end : horizon.xid };
}

/** What the times of versions `v` are to be, where a place is an instant and no number of this server. */
export function timesOf(since: Since | undefined, until: Since | undefined, horizon: Horizon): Condition {
  const conditions = [sql`true`];
  if (since && !isOfServer(since, horizon))
    conditions.push(sql`v.changed_at >= ${since.at}::timestamptz - ${since.xid === undefined ? "0" : margin}::interval`);
  if (until && !isOfServer(until, horizon)) conditions.push(sql`v.changed_at < ${until.at}::timestamptz`);
  return sql.join(conditions, sql` and `);
}

export type FeedRow = {
  id: string;
  version: bigint;
  action: Action;
  at: Date;
  by: string;
  record: PatientRecord;
  createdAt: Date;
  otherId: string | null;
  replaces: string[];
  xid: string;
};

type FeedRequest = {
  actorId: string;
  requestId: string;
  access: Access;
  range: Range;
  times: Condition;
  after: FeedPosition | undefined;
  newestFirst: boolean;
  limit: number;
};

/** Reads the versions of a page and one more, and writes into the audit trail who was shown whom. */
export async function readFeed(db: PatientDatabase, request: FeedRequest): Promise<FeedRow[]> {
  const { actorId, requestId, access, range, times, after, newestFirst, limit } = request;
  const [direction, beyond] = newestFirst ? [sql`desc`, sql`<`] : [sql`asc`, sql`>`];
  const orderOf = (row: string) => {
    const columns = ["changed_xid", "patient_id", "version"].map((name) => sql`${sql.ref(`${row}.${name}`)} ${direction}`);
    return sql.join(columns, sql`, `);
  };
  const isIn = sql`v.changed_xid >= ${range.first}::xid8 and v.changed_xid < ${range.end}::xid8 and ${times}
    ${after ? sql`and (v.changed_xid, v.patient_id, v.version) ${beyond} (${after.xid}::xid8, ${after.id}::uuid, ${after.version}::bigint)` : sql``}`;
  // Of a patient who is erased, that is all that may be told.
  const isTold = sql`(p.erased_at is null or v.action = 'erased')`;
  const keys = sql`v.patient_id, v.version, v.changed_xid`;
  // A caller who sees few patients has those looked up. For all others the versions are walked along their index.
  const found = access.seesFew
    ? sql`select ${keys} from (select p.id, p.erased_at from patients p where ${access.read} offset 0) p
        cross join lateral (select * from patient_versions v where v.patient_id = p.id and ${isIn} offset 0) v where ${isTold}`
    : sql`select ${keys} from patient_versions v
        cross join lateral (select 1 from patients p where p.id = v.patient_id and ${access.read} and ${isTold} offset 0) p where ${isIn}`;
  const { rows } = await sql<FeedRow>`
    with page as materialized (${found} order by ${orderOf("v")} limit ${limit + 1}), shown_ids as materialized (
      select distinct patient_id as id from (select patient_id from page limit ${limit}) first
    ), audited as (
      ${sql.raw(insertIntoAudit)}
      select ${actorId}, 'patient.changes_read', 'patients', ${requestId},
        jsonb_build_object('ids', coalesce((select jsonb_agg(id) from shown_ids), '[]'))
      ${sql.raw(returningEntry)}
    ), shown as (
      ${sql.raw(insertPatientsOf("audited", "select id from shown_ids"))}
    )
    select v.patient_id as id, v.version, v.action, v.changed_at as at, v.changed_by as by, v.record, p.created_at as "createdAt",
      v.changed_xid::text as xid, (select duplicate_id from patient_merges m where m.survivor_id = v.patient_id
        and case v.action when 'merged' then m.survivor_version when 'unmerged' then m.undone_version end = v.version) as "otherId",
      ${sql.raw(replacesAtVersion("v.patient_id", "v.version"))} as replaces
    from page join patient_versions v using (patient_id, version) join patients p on p.id = page.patient_id order by ${orderOf("v")}`.execute(
    db.kysely,
  );
  return rows;
}
