/** The tables and every question asked of them. */
import { defineBulkInput, type Rows } from "@pm/kit/postgres/bulk";
import type { Database } from "@pm/kit/postgres/database";
import { CompiledQuery, type Kysely, sql } from "kysely";
import { type Grain, grains, type RollupRow, type Segment, type Slot, type StoredEvent, type Stream } from "./types.ts";

/** All statements here are written by hand, so kysely needs no types of tables. */
export type Tables = Record<never, never>;
export type Db = Kysely<Tables>;
export type AnalyticsDatabase = Database<Tables>;

export type NewEvent = StoredEvent & {
  subject: string | null;
  related: string | null;
  version: bigint;
  at: number;
  topic: string;
  partition: number;
  offset: bigint;
};

const newEvents = defineBulkInput<NewEvent>({
  event_id: ["uuid", (event) => event.event_id],
  stream: ["text", ({ stream }) => stream],
  subject: ["uuid", ({ subject }) => subject],
  related: ["uuid", ({ related }) => related],
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

/** Adds events to the log. Gives the place in it of the first one that was added, if any was, and the ids of those that were there already. */
export async function insertEvents(db: Db, events: Iterable<NewEvent>): Promise<{ first: bigint | null; known: Set<string> }> {
  const insertion = CompiledQuery.raw(insertEventsText, newEvents.collect(events).values());
  const { rows } = await db.executeQuery<{ first: bigint | null; known: string[] }>(insertion);
  return { first: rows[0]?.first ?? null, known: new Set(rows[0]?.known) };
}

const subjectIds = defineBulkInput<string>({ id: ["uuid", (id) => id] });
/**
 * Each patient by its own look into the indexes (fenced by `offset 0` and the doubled test): while Postgres has no statistics
 * yet, it would rather read the whole log for a hundred patients.
 */
const eventsOfSubjectsText = `
  select e.* from ${subjectIds.source("s")}
  cross join lateral (select event_id, stream, payload from events where subject = s.id and (seq <= $2) is true offset 0) e
  union all
  select e.* from ${subjectIds.source("s")}
  cross join lateral (
    select event_id, stream, payload from events where related = s.id and subject <> all($1::uuid[]) and (seq <= $2) is true offset 0
  ) e`;

/** Everything known about some patients when the log ended at `upTo`. */
export async function eventsOfSubjects(db: Db, subjects: string[], upTo: bigint): Promise<StoredEvent[]> {
  const { rows } = await db.executeQuery<StoredEvent>(
    CompiledQuery.raw(eventsOfSubjectsText, [...subjectIds.collect(subjects).values(), upTo]),
  );
  return rows;
}

/** Which set of roll-ups counts. */
export async function activeGeneration(db: Db): Promise<number> {
  const { rows } = await sql<{ generation: number }>`select generation from rollup_state`.execute(db);
  return rows[0]?.generation ?? 0;
}

const newSums = defineBulkInput<RollupRow>({
  measure: ["text", ({ measure }) => measure],
  grain: ["smallint", ({ grain }) => grain],
  slot: ["integer", ({ slot }) => slot],
  value: ["text", ({ value }) => value],
  amount: ["bigint", ({ amount }) => amount],
  by_quarter: ["text", ({ byQuarter }) => byQuarter && `{${byQuarter.join()}}`],
});
const addToRollupsText = `
  insert into rollups (generation, measure, grain, slot, value, amount, by_quarter)
  select $${newSums.count + 1}::smallint, measure, grain, slot, value, amount, by_quarter::bigint[] from ${newSums.source("sums")}
  on conflict (generation, measure, grain, slot, value) do update set amount = rollups.amount + excluded.amount,
    by_quarter = case when excluded.by_quarter is not null
      then array(select coalesce(a, 0) + b from unnest(rollups.by_quarter, excluded.by_quarter) as q(a, b)) end`;

/** Changes of sums, as the statement takes them. Of states, `ended` are those that no longer hold for somebody. */
export type CollectedSums = { rows: Rows<RollupRow>; ended: { measures: Set<string>; values: Set<string> } };

export function collectSums(changes: Iterable<RollupRow>): CollectedSums {
  const rows = newSums.collect();
  const ended = { measures: new Set<string>(), values: new Set<string>() };
  for (const change of changes) {
    rows.add(change);
    if (change.grain !== grains.state || change.amount >= 0n) continue;
    ended.measures.add(change.measure);
    ended.values.add(change.value);
  }
  return { rows, ended };
}

export async function addToRollups(db: Db, generation: number, { rows, ended }: CollectedSums): Promise<void> {
  if (rows.length === 0) return;
  await db.executeQuery(CompiledQuery.raw(addToRollupsText, [...rows.values(), generation]));
  // What no longer holds leaves no row behind. Whatever is 0 may go.
  if (ended.measures.size === 0) return;
  await sql`
    delete from rollups where generation = ${generation} and measure = any(${[...ended.measures]}::text[])
      and grain = ${grains.state} and slot = 0 and value = any(${[...ended.values]}::text[]) and (amount = 0) is true`.execute(db);
}

/** Patients of whom one stream has told and the other has not, the latest first: their ids say when they were registered. */
export async function unmatchedSubjects(database: AnalyticsDatabase, told: Stream, silent: Stream, limit: number): Promise<string[]> {
  const rows = await database.query<{ subject: string }>(
    {
      name: "unmatched_subjects",
      text: `select subject from events where subject is not null group by subject
        having bool_or(stream = $1) and not bool_or(stream = $2) order by subject desc limit $3`,
    },
    [told, silent, limit],
  );
  return rows.map((row) => row.subject);
}

export type Watermark = { topic: string; partition: number; nextOffset: bigint; eventTime: Date };

/** Notes how far partitions were read. A partition that is read again from an earlier offset does not go back. */
export async function advanceWatermarks(db: Db, marks: Watermark[]): Promise<void> {
  await sql`
    insert into watermarks (topic, partition, next_offset, event_time)
    select * from unnest(${marks.map((m) => m.topic)}::text[], ${marks.map((m) => m.partition)}::integer[],
      ${marks.map((m) => m.nextOffset)}::bigint[], ${marks.map((m) => m.eventTime)}::timestamptz[])
    on conflict (topic, partition) do update set next_offset = greatest(watermarks.next_offset, excluded.next_offset),
      event_time = greatest(watermarks.event_time, excluded.event_time)`.execute(db);
}

/** The set of roll-ups that counts, and how far the log goes. A replay of dead letters changes numbers without going further. */
export type Freshness = { generation: number; watermarks: Watermark[]; replayedAt: Date | null };

export async function readFreshness(database: AnalyticsDatabase): Promise<Freshness> {
  const rows = await database.query<{
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

/** Some measures of one generation, to be summed over segments. */
export type SegmentQuestion = { generation: number; measures: readonly string[]; segments: Segment[] };
/** A sum of one measure and value over the segment with this index, of the question with that one; as digits, for it has no bound. */
export type SegmentSum = { question: number; measure: string; value: string; segment: number; amount: string };

/** Sums measures over segments, signs aside. What has no facts is not in the answer. */
export async function sumSegments(database: AnalyticsDatabase, questions: SegmentQuestion[]): Promise<SegmentSum[]> {
  const measures = questions.flatMap((each, question) => each.measures.map((measure) => ({ question, measure })));
  const segments = questions.flatMap(({ generation, segments: all }, question) =>
    all.map((segment, index) => ({ ...segment, question, index, generation })),
  );
  return await database.query<SegmentSum>(
    {
      name: "sum_segments",
      // The sum within each stretch is a subquery of its own, so that every plan walks the primary key, stretch by stretch;
      // as one join, the plan for unknown lengths would read the whole table.
      text: `select m.question, m.measure, r.value, s.index as segment, r.amount
        from unnest($1::integer[], $2::text[]) m(question, measure)
        join unnest($3::integer[], $4::integer[], $5::smallint[], $6::smallint[], $7::integer[], $8::integer[], $9::integer[])
          s(question, index, generation, grain, part, lo, hi) using (question)
        cross join lateral (
          select value, sum(case when s.part = 0 then amount else coalesce(by_quarter[s.part], 0) end)::text as amount
          from rollups
          where generation = s.generation and measure = m.measure and grain = s.grain and slot >= s.lo and slot < s.hi
          group by value
        ) r`,
    },
    [
      measures.map((m) => m.question),
      measures.map((m) => m.measure),
      segments.map((s) => s.question),
      segments.map((s) => s.index),
      segments.map((s) => s.generation),
      segments.map((s) => s.grain),
      segments.map((s) => s.part),
      segments.map((s) => s.from),
      segments.map((s) => s.until),
    ],
  );
}

/** Rows of one grain, and of each what there was by the end of its first so many quarters, where `part` is not 0. */
export type Wanted = { grain: Grain; part: number; slots: Iterable<Slot> };

/** The rows of a measure and value that were wanted: their slots, amounts and parts, with commas between them. */
export type RollupColumn = { measure: string; value: string; wanted: number; slots: string; amounts: string; parts: string | null };

/** Reads single rows of some measures. `wanted` of a row is the index of what it was asked for as. */
export async function readRollups(
  database: AnalyticsDatabase,
  generation: number,
  measures: readonly string[],
  wanted: Wanted[],
): Promise<RollupColumn[]> {
  return await database.query<RollupColumn>(
    {
      name: "read_rollups",
      // A subquery for each measure, as above. All rows of a value come as one: thousands of small ones would cost more on
      // their way than they did to find.
      text: `select m.measure, r.value, w.index::integer - 1 as wanted, r.slots, r.amounts, r.parts
        from unnest($2::text[]) m(measure)
        cross join unnest($3::smallint[], $4::integer[], $5::text[]) with ordinality w(grain, part, slots, index)
        cross join lateral (
          select value, string_agg(slot::text, ',') as slots, string_agg(amount::text, ',') as amounts,
            string_agg(case when w.part > 0 then coalesce(by_quarter[w.part], 0)::text end, ',') as parts
          from rollups
          where generation = $1 and measure = m.measure and grain = w.grain and slot = any(w.slots::integer[])
          group by value
        ) r`,
    },
    [generation, measures, wanted.map((w) => w.grain), wanted.map((w) => w.part), wanted.map((w) => `{${[...w.slots].join()}}`)],
  );
}

/** actor, action, subject, request id, details. */
export async function insertAuditEntry(database: AnalyticsDatabase, entry: [string, string, string, string, object]): Promise<void> {
  const text = "insert into audit_entries (actor, action, subject, request_id, details) values ($1, $2, $3, $4, $5)";
  await database.query({ name: "audit", text }, entry);
}
