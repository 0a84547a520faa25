/**
 * What changed since an answer before, so that a client that follows misses nothing (decision 0026). Each row has the
 * number of the transaction that wrote its latest version. A snapshot has all transactions below its `xmin`, whatever
 * the clocks say and whoever is still writing.
 */
import { sql } from "kysely";
import type { PatientDatabase } from "../database.ts";
import type { Condition } from "./access-store.ts";

/** Where a client begins: an instant, or the `until` of an answer, which also has a number and the server that gave it. */
export type Since = { at: string; xid?: string | undefined; server?: string | undefined };

/** Where an answer ends: before the oldest write in flight. */
export type Horizon = { at: string; xid: string; server: string };

/** A server numbers its own transactions: another one, or one that lost its last ones in a failover, has others. */
const horizonStatement = {
  name: "patients_horizon",
  text: `select to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as at, pg_snapshot_xmin(pg_current_snapshot())::text as xid,
    (select system_identifier from pg_control_system()) || '.' || left(pg_walfile_name(pg_current_wal_lsn()), 8) as server`,
};

export async function readHorizon(db: PatientDatabase): Promise<Horizon> {
  const [horizon] = await db.query<Horizon>(horizonStatement, []);
  if (!horizon) throw new Error("the horizon has no row");
  return horizon;
}

/** By the clocks of all replicas and their writes, a row is not this much older than it should be. */
const margin = "1 day";

/**
 * What changed between two places, on `patients p`. If the number is not one of this server, what changed up to a day before
 * that `until` is repeated.
 */
export function changedCondition({ at, xid, server }: Since, horizon: Horizon): Condition {
  const isOfThisServer = xid !== undefined && server === horizon.server && BigInt(xid) <= BigInt(horizon.xid);
  if (isOfThisServer) return sql`p.changed_xid >= ${xid}::xid8 and p.changed_xid < ${horizon.xid}::xid8`;
  const from = xid === undefined ? sql`p.updated_at > ${at}::timestamptz` : sql`p.updated_at > ${at}::timestamptz - ${margin}::interval`;
  return sql`${from} and (p.changed_xid < ${horizon.xid}::xid8 or p.changed_xid is null)`;
}
