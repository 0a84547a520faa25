/**
 * What changed since an answer before, so that a client that follows misses nothing (decision 0029). Each row has the
 * number of the transaction that wrote its latest version. A snapshot says which transactions it does not have,
 * whatever the clocks say and whoever is still writing: the answer ends before the oldest of them.
 */
import type { Queries } from "@pm/kit/postgres/transaction";
import { sql } from "kysely";
import type { Condition } from "./access-store.ts";

/**
 * Where a client begins: an instant, or the `until` of an answer, which also has a number and the server that gave it.
 */
export type Since = { at: string; xid?: string | undefined; server?: string | undefined };

/** An answer ends before the oldest write in flight. `next`: no finished transaction has a number from here on. */
export type Horizon = { at: string; xid: string; next: string; server: string };

/** The server and its timeline, as SQL: numbers of transactions of another one mean something else. */
export const thisServer = "(select system_identifier from pg_control_system()) || '.' || left(pg_walfile_name(pg_current_wal_lsn()), 8)";

/**
 * Transactions are numbered per server. Of those in flight, the ones of other databases write no patient: each holds a
 * lock on its number, which says by whom. One that cannot be told (it is being numbered or prepared) counts as ours.
 * A server numbers its own transactions: another one, or one that lost its last ones in a failover, has others.
 */
const horizonStatement = {
  name: "patients_horizon",
  text: `
    with ours as (
      select xid from pg_snapshot_xip(pg_current_snapshot()) as xid where not exists (
        select from pg_locks l join pg_stat_activity a using (pid)
        where l.locktype = 'transactionid' and l.granted and l.transactionid = xid::xid and a.datname <> current_database())
    )
    select to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as at,
      coalesce((select xid from ours order by xid limit 1), pg_snapshot_xmax(pg_current_snapshot()))::text as xid,
      pg_snapshot_xmax(pg_current_snapshot())::text as next,
      ${thisServer} as server`,
};

export async function readHorizon(db: Queries): Promise<Horizon> {
  const [horizon] = await db.query<Horizon>(horizonStatement, []);
  if (!horizon) throw new Error("the horizon has no row");
  return horizon;
}

const openStatement = {
  name: "patients_open_since",
  text: `select least(now(), min(xact_start)) - interval '1 minute' as at from pg_stat_activity
    where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()`,
};

/**
 * An instant before which nothing can still be written, if it is read before the horizon. A write has the time at which
 * its request came; less than a minute later its transaction begins.
 */
export async function readCompleteUntil(db: Queries): Promise<Date> {
  const [row] = await db.query<{ at: Date }>(openStatement, []);
  if (!row) throw new Error("an aggregate has no row");
  return row.at;
}

/** Whether a number was given by this server, and its transaction is behind the horizon or just was. */
export const isOfServer = ({ xid, server }: Since, horizon: Horizon): boolean =>
  xid !== undefined && server === horizon.server && BigInt(xid) <= BigInt(horizon.next);

/** By the clocks of all replicas and their writes, a row is not this much older than it should be. */
export const margin = "1 day";

/**
 * What changed between two places, on `patients p`. If the number is not one of this server, what changed up to a day
 * before that `until` is repeated.
 */
export function changedCondition(since: Since, horizon: Horizon): Condition {
  const { at, xid } = since;
  if (isOfServer(since, horizon)) return sql`p.changed_xid >= ${xid}::xid8 and p.changed_xid < ${horizon.xid}::xid8`;
  const from = xid === undefined ? sql`p.updated_at > ${at}::timestamptz` : sql`p.updated_at > ${at}::timestamptz - ${margin}::interval`;
  return sql`${from} and (p.changed_xid < ${horizon.xid}::xid8 or p.changed_xid is null)`;
}
