/** What a rebuild asks of the tables. */
import { sql } from "kysely";
import type { Db } from "../rollups/store.ts";
import type { StoredEvent } from "../rollups/types.ts";

export type RebuildState = "waiting" | "running" | "done";
export type RebuildRow = {
  id: bigint;
  state: RebuildState;
  events_done: bigint;
  events_total: bigint;
  requested_at: Date;
  started_at: Date | null;
  finished_at: Date | null;
};

/** The rebuild that waits or runs; undefined where there is none. */
export async function openRebuild(db: Db): Promise<RebuildRow | undefined> {
  const { rows } = await sql<RebuildRow>`select * from rebuilds where state <> 'done'`.execute(db);
  return rows[0];
}

export async function findRebuild(db: Db, id: bigint): Promise<RebuildRow | undefined> {
  const { rows } = await sql<RebuildRow>`select * from rebuilds where id = ${id}`.execute(db);
  return rows[0];
}

/** Asks for a rebuild; undefined where one is open already. */
export async function insertRebuild(db: Db): Promise<RebuildRow | undefined> {
  const { rows } = await sql<RebuildRow>`insert into rebuilds default values on conflict do nothing returning *`.execute(db);
  return rows[0];
}

export async function noteRebuildStarted(db: Db, id: bigint, eventsTotal: bigint): Promise<void> {
  await sql`update rebuilds set state = 'running', started_at = clock_timestamp(), events_done = 0, events_total = ${eventsTotal}
    where id = ${id}`.execute(db);
}

export async function noteRebuildProgress(db: Db, id: bigint, eventsDone: bigint): Promise<void> {
  await sql`update rebuilds set events_done = ${eventsDone}, events_total = greatest(events_total, ${eventsDone}) where id = ${id}`.execute(
    db,
  );
}

export async function noteRebuildDone(db: Db, id: bigint): Promise<void> {
  await sql`update rebuilds set state = 'done', finished_at = clock_timestamp(), events_done = events_total where id = ${id}`.execute(db);
}

/** Empties the set of roll-ups that does not count. */
export async function clearRollups(db: Db, generation: number): Promise<void> {
  await sql`truncate ${sql.table(`rollups_${generation}`)}`.execute(db);
}

/** From here on this set of roll-ups counts. */
export async function activate(db: Db, generation: number): Promise<void> {
  await sql`update rollup_state set generation = ${generation}, rebuilt_at = clock_timestamp()`.execute(db);
}

/** The last event of the log. Exact only for whoever holds the group's lock: else a lower one may still be under way. */
export async function latestSeq(db: Db): Promise<bigint> {
  const { rows } = await sql<{ seq: bigint | null }>`select max(seq) as seq from events`.execute(db);
  return rows[0]?.seq ?? 0n;
}

export async function countEvents(db: Db): Promise<bigint> {
  const { rows } = await sql<{ count: bigint }>`select count(*) as count from events`.execute(db);
  return rows[0]?.count ?? 0n;
}

export type SubjectEvent = StoredEvent & { subject: string };

/** The next events by patient: up to `limit`, beginning with the patient after `after`. */
export async function nextBySubject(db: Db, after: string, upTo: bigint, limit: number): Promise<SubjectEvent[]> {
  const { rows } = await sql<SubjectEvent>`
    select subject, event_id, stream, payload from events where subject > ${after}::uuid and seq <= ${upTo}
    order by subject limit ${limit}`.execute(db);
  return rows;
}

export async function eventsOfSubject(db: Db, subject: string, upTo: bigint): Promise<SubjectEvent[]> {
  const { rows } = await sql<SubjectEvent>`
    select subject, event_id, stream, payload from events where subject = ${subject}::uuid and seq <= ${upTo}`.execute(db);
  return rows;
}

/** Merges that touch a patient in a range from the other side. */
export async function relatedBetween(db: Db, after: string, last: string, upTo: bigint): Promise<StoredEvent[]> {
  const { rows } = await sql<StoredEvent>`
    select event_id, stream, payload from events where related > ${after}::uuid and related <= ${last}::uuid and seq <= ${upTo}`.execute(
    db,
  );
  return rows;
}

export type NumberedEvent = StoredEvent & { seq: bigint };

/** Events of no patient, in the order of the log. */
export async function nextWithoutSubject(db: Db, after: bigint, upTo: bigint, limit: number): Promise<NumberedEvent[]> {
  const { rows } = await sql<NumberedEvent>`
    select seq, event_id, stream, payload from events where subject is null and seq > ${after} and seq <= ${upTo}
    order by seq limit ${limit}`.execute(db);
  return rows;
}

/** All events in the order of the log. */
export async function nextInLog(db: Db, after: bigint, upTo: bigint, limit: number): Promise<NumberedEvent[]> {
  const { rows } = await sql<NumberedEvent>`
    select seq, event_id, stream, payload from events where seq > ${after} and seq <= ${upTo} order by seq limit ${limit}`.execute(db);
  return rows;
}
