/** The log of events, and how far the topics were read. */
import { lockGroup } from "@pm/kit/kafka/dead-letter-store";
import { defineBulkInput } from "@pm/kit/postgres/bulk";
import { inTransaction } from "@pm/kit/postgres/transaction";
import { CompiledQuery, sql } from "kysely";
import type { AnalyticsDatabase, Db, Stream, Tables } from "../tables.ts";

/** The columns that an event is read from. */
export type StoredEvent = Pick<Tables["events"], "event_id" | "stream" | "payload">;
/** An event with its number in the log. */
export type NumberedEvent = StoredEvent & { seq: bigint };

type NewEvent = StoredEvent & {
  patientId: string | null;
  otherPatientId: string | null;
  version: bigint;
  at: number;
  topic: string;
  partition: number;
  offset: bigint;
};

const newEvents = defineBulkInput<NewEvent>({
  event_id: ["uuid", (event) => event.event_id],
  stream: ["text", ({ stream }) => stream],
  subject: ["uuid", ({ patientId }) => patientId],
  related: ["uuid", ({ otherPatientId }) => otherPatientId],
  version: ["bigint", ({ version }) => version],
  occurred_at: ["timestamptz", ({ at }) => at],
  payload: ["bytea", ({ payload }) => payload],
  topic: ["text", ({ topic }) => topic],
  partition: ["integer", ({ partition }) => partition],
  offset: ["bigint", ({ offset }) => offset],
});
const insertEventsText = `
  with input as materialized (
    select * from ${newEvents.source("input")}
  ), added as (
    insert into events (event_id, stream, subject, related, version, occurred_at, payload, topic, partition, "offset")
    select event_id, stream, subject, related, version, occurred_at, payload, topic, partition, "offset" from input
    on conflict do nothing returning event_id, seq
  )
  select (select min(seq) from added) as first, array(select event_id from input where event_id not in (select event_id from added)) as known`;

/**
 * Adds events to the log. Returns the number of the first that was added, and the ids of those that were there already.
 */
export async function insertEvents(db: Db, events: Iterable<NewEvent>): Promise<{ first: bigint | null; known: Set<string> }> {
  const insertion = CompiledQuery.raw(insertEventsText, newEvents.collect(events).values());
  const { rows } = await db.executeQuery<{ first: bigint | null; known: string[] }>(insertion);
  return { first: rows[0]?.first ?? null, known: new Set(rows[0]?.known) };
}

const patientIds = defineBulkInput<string>({ id: ["uuid", (id) => id] });
/**
 * While Postgres has no statistics yet, it would read the whole log for a hundred patients. `offset 0` and `is true`
 * make it look up each patient in the indexes.
 */
const eventsOfPatientsText = `
  select e.* from ${patientIds.source("p")}
  cross join lateral (select seq, event_id, stream, payload from events where subject = p.id and (seq <= $2) is true offset 0) e
  union all
  select e.* from ${patientIds.source("p")}
  cross join lateral (
    select seq, event_id, stream, payload from events where related = p.id and subject <> all($1::uuid[]) and (seq <= $2) is true offset 0
  ) e`;

/** All events of some patients up to the number `upTo` of the log. */
export async function eventsOfPatients(db: Db, ids: string[], upTo: bigint): Promise<NumberedEvent[]> {
  const { rows } = await db.executeQuery<NumberedEvent>(
    CompiledQuery.raw(eventsOfPatientsText, [...patientIds.collect(ids).values(), upTo]),
  );
  return rows;
}

/**
 * The number of the last event. It is exact only under the group's lock: else an event with a lower number may follow.
 */
export async function latestSeq(db: Db): Promise<bigint> {
  const { seq } = await db
    .selectFrom("events")
    .select(({ fn }) => fn.max<bigint | null>("seq").as("seq"))
    .executeTakeFirstOrThrow();
  return seq ?? 0n;
}

/** The number of the last event, when no event with a lower number can follow. */
export function settledSeq(db: AnalyticsDatabase, groupId: string): Promise<bigint> {
  return inTransaction(db, async ({ kysely: tx }) => {
    await lockGroup(tx, groupId);
    return latestSeq(tx);
  });
}

/** Patients with events in one stream and none in the other, newest first: ids begin with the time of registration. */
export async function unmatchedPatients(db: AnalyticsDatabase, present: Stream, missing: Stream, limit: number): Promise<string[]> {
  const rows = await db.query<{ subject: string }>(
    {
      name: "unmatched_patients",
      text: `select subject from events where subject is not null group by subject
        having bool_or(stream = $1) and not bool_or(stream = $2) order by subject desc limit $3`,
    },
    [present, missing, limit],
  );
  return rows.map((row) => row.subject);
}

/** How far a partition was read. */
export type Watermark = { topic: string; partition: number; nextOffset: bigint; eventTime: Date };

/** Notes how far partitions were read. If a partition is read again from an earlier offset, its watermark stays. */
export async function advanceWatermarks(db: Db, marks: Watermark[]): Promise<void> {
  await sql`
    insert into watermarks (topic, partition, next_offset, event_time)
    select * from unnest(${marks.map((m) => m.topic)}::text[], ${marks.map((m) => m.partition)}::integer[],
      ${marks.map((m) => m.nextOffset)}::bigint[], ${marks.map((m) => m.eventTime)}::timestamptz[])
    on conflict (topic, partition) do update set next_offset = greatest(watermarks.next_offset, excluded.next_offset),
      event_time = greatest(watermarks.event_time, excluded.event_time)`.execute(db);
}

/**
 * The generation of roll-ups that reports read, and how far the log goes. `replayedAt` is there because a replayed dead
 * letter changes numbers, and the log goes no further.
 */
export type Freshness = { generation: number; watermarks: Watermark[]; replayedAt: Date | null };

export async function readFreshness(db: AnalyticsDatabase): Promise<Freshness> {
  const rows = await db.query<{
    generation: number;
    replayed_at: Date | null;
    topic: string | null;
    partition: number;
    next_offset: bigint;
    event_time: Date;
  }>(
    {
      name: "freshness",
      text: `select s.generation, (select max(settled_at) from dead_letters where state = 'replayed') as replayed_at,
          w.topic, w.partition, w.next_offset, w.event_time
        from rollup_state s left join watermarks w on true order by w.topic, w.partition`,
    },
    [],
  );
  return {
    generation: rows[0]?.generation ?? 0,
    replayedAt: rows[0]?.replayed_at ?? null,
    watermarks: rows.flatMap(({ topic, partition, next_offset: nextOffset, event_time: eventTime }) =>
      topic === null ? [] : [{ topic, partition, nextOffset, eventTime }],
    ),
  };
}
