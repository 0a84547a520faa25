/** Requests for a rebuild, and the log as a rebuild reads it. */
import type { Selectable } from "kysely";
import { sql } from "kysely";
import type { NumberedEvent, StoredEvent } from "../ingest/store.ts";
import type { Db, Tables } from "../tables.ts";

export type RebuildRow = Selectable<Tables["rebuilds"]>;

/** The rebuild that waits or runs. There is at most one. */
export async function openRebuild(db: Db): Promise<RebuildRow | undefined> {
  return await db.selectFrom("rebuilds").selectAll().where("state", "<>", "done").executeTakeFirst();
}

export async function findRebuild(db: Db, id: bigint): Promise<RebuildRow | undefined> {
  return await db.selectFrom("rebuilds").selectAll().where("id", "=", id).executeTakeFirst();
}

/** Requests a rebuild. Returns undefined if one is open already. */
export async function insertRebuild(db: Db): Promise<RebuildRow | undefined> {
  return await db
    .insertInto("rebuilds")
    .defaultValues()
    .onConflict((conflict) => conflict.doNothing())
    .returningAll()
    .executeTakeFirst();
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

/** Empties the generation of roll-ups that reports do not read. */
export async function clearRollups(db: Db, generation: number): Promise<void> {
  await sql`truncate ${sql.table(`rollups_${generation}`)}`.execute(db);
}

/**
 * Empties the roll-ups that reports read until the last rebuild: nobody changes them any more, so people would stay in
 * them who are erased. Reports that were running at the switch have ended a minute later.
 */
export async function clearIdleRollups(db: Db): Promise<void> {
  const { rows } = await sql<{ idle: number }>`
    select 1 - generation as idle from rollup_state where rebuilt_at < clock_timestamp() - interval '1 minute'
      and exists (select from rollups r where r.generation = 1 - rollup_state.generation)`.execute(db);
  if (rows[0]) await clearRollups(db, rows[0].idle);
}

/** From here on, reports read this generation of roll-ups. */
export async function activate(db: Db, generation: number): Promise<void> {
  await sql`update rollup_state set generation = ${generation}, rebuilt_at = clock_timestamp()`.execute(db);
}

export async function countEvents(db: Db): Promise<bigint> {
  const { count } = await db
    .selectFrom("events")
    .select(({ fn }) => fn.countAll<bigint>().as("count"))
    .executeTakeFirstOrThrow();
  return count;
}

const eventColumns = ["event_id", "stream", "payload"] as const;

type PatientEventRow = StoredEvent & { subject: string };

/** Up to `limit` events of the patients that come after the patient `after`, patient by patient. */
export async function nextByPatient(db: Db, after: string, upTo: bigint, limit: number): Promise<PatientEventRow[]> {
  return await db
    .selectFrom("events")
    .select(["subject", ...eventColumns])
    .$narrowType<{ subject: string }>()
    .where("subject", ">", after)
    .where("seq", "<=", upTo)
    .orderBy("subject")
    .limit(limit)
    .execute();
}

export async function eventsOfPatient(db: Db, patientId: string, upTo: bigint): Promise<PatientEventRow[]> {
  return await db
    .selectFrom("events")
    .select(["subject", ...eventColumns])
    .$narrowType<{ subject: string }>()
    .where("subject", "=", patientId)
    .where("seq", "<=", upTo)
    .execute();
}

/** Merges whose other patient comes after the patient `after`, up to the patient `last`. */
export async function mergesOfOthers(db: Db, after: string, last: string, upTo: bigint): Promise<StoredEvent[]> {
  return await db
    .selectFrom("events")
    .select(eventColumns)
    .where("related", ">", after)
    .where("related", "<=", last)
    .where("seq", "<=", upTo)
    .execute();
}

/** The next events of no patient, in the order of the log. */
export async function nextWithoutPatient(db: Db, after: bigint, upTo: bigint, limit: number): Promise<NumberedEvent[]> {
  return await nextEvents(db, after, upTo, limit).where("subject", "is", null).execute();
}

/** The next events, in the order of the log. */
export async function nextInLog(db: Db, after: bigint, upTo: bigint, limit: number): Promise<NumberedEvent[]> {
  return await nextEvents(db, after, upTo, limit).execute();
}

function nextEvents(db: Db, after: bigint, upTo: bigint, limit: number) {
  return db
    .selectFrom("events")
    .select(["seq", ...eventColumns])
    .where("seq", ">", after)
    .where("seq", "<=", upTo)
    .orderBy("seq")
    .limit(limit);
}
