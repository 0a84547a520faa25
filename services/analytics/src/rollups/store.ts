/** The roll-ups: adding to them, and reading sums and rows. */
import { defineBulkInput, type Rows } from "@pm/kit/postgres/bulk";
import { CompiledQuery } from "kysely";
import type { AnalyticsDatabase, Db } from "../tables.ts";
import { type Grain, grains, type RollupRow, type Segment, type Slot } from "./types.ts";

/** The generation of roll-ups that reports read. */
export async function activeGeneration(db: Db): Promise<number> {
  const { generation } = await db.selectFrom("rollup_state").select("generation").executeTakeFirstOrThrow();
  return generation;
}

const newAmounts = defineBulkInput<RollupRow>({
  measure: ["text", ({ measure }) => measure],
  grain: ["smallint", ({ grain }) => grain],
  slot: ["integer", ({ slot }) => slot],
  value: ["text", ({ value }) => value],
  amount: ["bigint", ({ amount }) => amount],
  by_quarter: ["text", ({ byQuarter }) => byQuarter && `{${byQuarter.join()}}`],
});
const addToRollupsText = `
  insert into rollups (generation, measure, grain, slot, value, amount, by_quarter)
  select $${newAmounts.count + 1}::smallint, measure, grain, slot, value, amount, by_quarter::bigint[] from ${newAmounts.source("amounts")}
  on conflict (generation, measure, grain, slot, value) do update set amount = rollups.amount + excluded.amount,
    by_quarter = case when excluded.by_quarter is not null
      then array(select coalesce(a, 0) + b from unnest(rollups.by_quarter, excluded.by_quarter) as q(a, b)) end`;

const places = defineBulkInput<RollupRow>({
  measure: ["text", ({ measure }) => measure],
  grain: ["smallint", ({ grain }) => grain],
  slot: ["integer", ({ slot }) => slot],
  value: ["text", ({ value }) => value],
});
const removeEmptyText = `
  delete from rollups r using ${places.source("p")}
  where r.generation = $${places.count + 1} and r.measure = p.measure and r.grain = p.grain and r.slot = p.slot and r.value = p.value
    and (r.amount = 0) is true and (r.by_quarter is null or 0 = all(r.by_quarter))`;

/** A value of these measures may be the name of a place where one person lives. */
const ofPeople = "patients.";

/** Amounts to add to roll-ups, as the statement takes them. `emptied` are the rows that go if they are 0 afterwards. */
export type RollupChanges = { rows: Rows<RollupRow>; emptied: Rows<RollupRow> };

export function collectChanges(changes: Iterable<RollupRow>): RollupChanges {
  const rows = newAmounts.collect();
  const emptied = places.collect();
  for (const change of changes) {
    rows.add(change);
    if (change.amount < 0n && (change.grain === grains.state || change.measure.startsWith(ofPeople))) emptied.add(change);
  }
  return { rows, emptied };
}

export async function addToRollups(db: Db, generation: number, { rows, emptied }: RollupChanges): Promise<void> {
  if (rows.length === 0) return;
  await db.executeQuery(CompiledQuery.raw(addToRollupsText, [...rows.values(), generation]));
  // A state that holds for nobody, and a place where nobody lives, leave no row behind.
  if (emptied.length > 0) await db.executeQuery(CompiledQuery.raw(removeEmptyText, [...emptied.values(), generation]));
}

/** Some measures of one generation, to be summed up over segments. */
export type SegmentRequest = { generation: number; measures: readonly string[]; segments: Segment[] };
/**
 * The sum of a measure and value over one segment. `request` and `segment` are indexes. The amount is in digits,
 * because it has no bound.
 */
export type SegmentSum = { request: number; measure: string; value: string; segment: number; amount: string };

/** Sums up measures over segments, and ignores their signs. A sum without facts is left out. */
export async function sumSegments(db: AnalyticsDatabase, requests: SegmentRequest[]): Promise<SegmentSum[]> {
  const measures = requests.flatMap((each, request) => each.measures.map((measure) => ({ request, measure })));
  const segments = requests.flatMap(({ generation, segments: all }, request) =>
    all.map((segment, index) => ({ ...segment, request, index, generation })),
  );
  return await db.query<SegmentSum>(
    {
      name: "sum_segments",
      // A subquery for each segment, so that every plan walks along the primary key. As one join, the plan for unknown
      // lengths would read the whole table.
      text: `select m.request, m.measure, r.value, s.index as segment, r.amount
        from unnest($1::integer[], $2::text[]) m(request, measure)
        join unnest($3::integer[], $4::integer[], $5::smallint[], $6::smallint[], $7::integer[], $8::integer[], $9::integer[])
          s(request, index, generation, grain, part, lo, hi) using (request)
        cross join lateral (
          select value, sum(case when s.part = 0 then amount else coalesce(by_quarter[s.part], 0) end)::text as amount
          from rollups
          where generation = s.generation and measure = m.measure and grain = s.grain and slot >= s.lo and slot < s.hi
          group by value
        ) r`,
    },
    [
      measures.map((m) => m.request),
      measures.map((m) => m.measure),
      segments.map((s) => s.request),
      segments.map((s) => s.index),
      segments.map((s) => s.generation),
      segments.map((s) => s.grain),
      segments.map((s) => s.part),
      segments.map((s) => s.from),
      segments.map((s) => s.until),
    ],
  );
}

/**
 * Rows of one grain. If `part` is not 0, also the amount of each by the end of its first `part` quarters of an hour.
 */
type RowRequest = { grain: Grain; part: number; slots: Iterable<Slot> };

/**
 * The rows of a measure and value that were found for a request, which is given by its index: their slots, amounts and
 * parts, with commas between them.
 */
export type FoundRows = { measure: string; value: string; request: number; slots: string; amounts: string; parts: string | null };

/** Reads single rows of some measures. */
export async function readRows(
  db: AnalyticsDatabase,
  generation: number,
  measures: readonly string[],
  requests: RowRequest[],
): Promise<FoundRows[]> {
  return await db.query<FoundRows>(
    {
      name: "read_rollups",
      // A subquery for each measure, as above. All rows of a value come as one: to send thousands of small ones would
      // take longer than to find them.
      text: `select m.measure, r.value, w.index::integer - 1 as request, r.slots, r.amounts, r.parts
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
    [generation, measures, requests.map((r) => r.grain), requests.map((r) => r.part), requests.map((r) => `{${[...r.slots].join()}}`)],
  );
}
