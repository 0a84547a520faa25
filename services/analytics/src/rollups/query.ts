/** Sums over local days: what every report asks of the roll-ups. */
import { createBatcher } from "@pm/kit/batcher";
import { addDays, utcMidnight } from "@pm/kit/calendar";
import type { Span } from "../calendar.ts";
import { datedMeasures } from "../measures.ts";
import type { AnalyticsDatabase } from "../tables.ts";
import { type Amount, type Amounts, Columns, noAmounts, parseAmounts } from "./amounts.ts";
import { type Cover, coverDates, coverFor } from "./cover.ts";
import { nextRow, slotOf } from "./slots.ts";
import { type FoundRows, readRows, type SegmentRequest, type SegmentSum, sumSegments } from "./store.ts";
import { type Grain, grains, type Segment, type Slot } from "./types.ts";

/** Asks one generation of roll-ups. */
export type RollupQuery = {
  /** What happened within each of the spans, which must be in order. */
  within(measures: readonly string[], spans: Span[]): Promise<Amounts[]>;
  /** What is known by its calendar day only, within ranges of days, which must be in order. */
  onDates(measures: readonly string[], ranges: Pick<Span, "start" | "end">[]): Promise<Amounts[]>;
  /** What happened before a span. */
  before(measures: readonly string[], span: Span): Promise<Amounts>;
  /** What holds now. */
  now(measures: readonly string[]): Promise<Amounts>;
};

type ReadSegments = (request: SegmentRequest) => Promise<SegmentSum[]>;

/** Some measures, to be summed over covers: one sum for each span of a report. */
type Question = { measures: readonly string[]; covers: Segment[][] };

/** Nothing is older than this. */
const beginning = Date.UTC(1850, 0, 1);

/** Postgres sums up this many segments one by one. For more of them, reading the rows is faster. */
const maxSegments = 100;

/** Requests that reports make at the same moment go to Postgres in one statement, and equal ones only once. */
export function createRollupQueries(db: AnalyticsDatabase): (generation: number) => RollupQuery {
  const segmentSums = createBatcher<SegmentRequest, SegmentSum[]>({
    name: "rollup_sums",
    maxSize: 100,
    maxInFlight: 4,
    async run(requests) {
      const keys = requests.map((request) => JSON.stringify(request));
      const firsts = keys.map((key) => keys.indexOf(key));
      const different = requests.filter((_, index) => firsts[index] === index);
      const sums = Map.groupBy(await sumSegments(db, different), ({ request }) => different[request]);
      return firsts.map((first) => sums.get(requests[first]) ?? []);
    },
  });
  return (generation) => createRollupQuery(db, generation, segmentSums.add);
}

function createRollupQuery(db: AnalyticsDatabase, generation: number, readSegments: ReadSegments): RollupQuery {
  /** Adds up the covers of all questions: the first covers of all, the second covers of all, and so on. */
  async function sum(...questions: Question[]): Promise<Amounts[]> {
    const columns = new Columns(questions[0]?.covers.length ?? 0);
    await Promise.all(
      questions
        .filter(({ measures }) => measures.length > 0)
        .map((question) =>
          question.covers.flat().length > maxSegments
            ? addRows(db, generation, question, columns)
            : addSegments(readSegments, generation, question, columns),
        ),
    );
    return columns.amounts();
  }

  const within: RollupQuery["within"] = (measures, spans) => {
    const stretches = spans.map(({ from, until }) => ({ from: slotOf(from), until: slotOf(until) }));
    const dated = measures.filter((measure) => datedMeasures.has(measure));
    const onDates = dated.length > 0 ? [{ measures: dated, covers: coversOfDates(spans) }] : [];
    return sum({ measures, covers: coversOf(stretches, coverFor(measures)) }, ...onDates);
  };

  return {
    within,
    onDates: (measures, ranges) => sum({ measures, covers: coversOfDates(ranges) }),
    async before(measures, span) {
      const { start, from } = span;
      const first = new Date(beginning).toISOString().slice(0, 10);
      const [amounts] = await within(measures, [{ start: first, end: addDays(start, -1), from: beginning, until: from }]);
      return amounts ?? noAmounts;
    },
    async now(measures) {
      const [amounts] = await sum({ measures, covers: [[{ grain: grains.state, part: 0, from: 0, until: 1, sign: 1 }]] });
      return amounts ?? noAmounts;
    },
  };
}

type Stretch = { from: Slot; until: Slot };

function coversOf(stretches: Stretch[], cover: Cover): Segment[][] {
  return withoutOverlaps(stretches).map(({ from, until }) => cover(from, until));
}

function coversOfDates(ranges: Pick<Span, "start" | "end">[]): Segment[][] {
  const stretches = ranges.map(({ start, end }) => ({ from: slotOf(utcMidnight(start)), until: slotOf(utcMidnight(addDays(end, 1))) }));
  return coversOf(stretches, coverDates);
}

/** The days a year before 28 and 29 February are the same day. It counts for the first of them only. */
function withoutOverlaps(stretches: Stretch[]): Stretch[] {
  return stretches.map(({ from, until }, index) => {
    const start = Math.max(from, stretches[index - 1]?.until ?? from);
    return { from: start, until: Math.max(start, until) };
  });
}

/** For few segments: Postgres sums up each of them. */
async function addSegments(read: ReadSegments, generation: number, { measures, covers }: Question, columns: Columns): Promise<void> {
  const segments = covers
    .flatMap((each, cover) => each.map((segment) => ({ ...segment, cover })))
    .filter(({ from, until }) => from < until);
  if (segments.length === 0) return;
  for (const { measure, value, segment, amount } of await read({ generation, measures, segments })) {
    const { cover = 0, sign = 1 } = segments[segment] ?? {};
    const [sum = 0] = parseAmounts(amount);
    columns.of(measure, value).add(cover, sign < 0 ? -sum : sum);
  }
}

/** For many short segments: each row is read once, even if several covers need it. */
async function addRows(db: AnalyticsDatabase, generation: number, { measures, covers }: Question, columns: Columns): Promise<void> {
  const needed = neededRows(covers);
  const requests = needed.map(({ grain, part, positions }) => ({ grain, part, slots: positions.keys() }));
  for (const found of await readRows(db, generation, measures, requests)) {
    const rows = needed[found.request];
    if (rows) addFoundRows(rows, found, columns);
  }
}

/**
 * The rows of one grain that covers need. `wholes` says where whole rows are added, `parts` where the part of them is:
 * lists of the position of a row, followed by the number of a cover. Covers are numbered from 1, and the number is
 * negative if the row is subtracted. The lists are flat because a report of a year needs thousands of rows.
 */
type NeededRows = { grain: Grain; part: number; positions: Map<Slot, number>; wholes: number[]; parts: number[] };

function neededRows(covers: Segment[][]): NeededRows[] {
  const needed = new Map<number, NeededRows>();
  const partOf = new Map<number, number>();
  const note = (grain: Grain, part: number, slot: Slot, as: "wholes" | "parts", cover: number) => {
    const key = part * 8 + grain;
    const rows: NeededRows = needed.get(key) ?? { grain, part, positions: new Map(), wholes: [], parts: [] };
    needed.set(key, rows);
    const position = rows.positions.get(slot) ?? rows.positions.size;
    rows.positions.set(slot, position);
    rows[as].push(position, cover);
  };
  const eachRow = (isPart: boolean, use: (grain: Grain, part: number, slot: Slot, cover: number) => void) => {
    covers.forEach((segments, cover) => {
      for (const { grain, part, from, until, sign } of segments)
        if (part > 0 === isPart)
          for (let slot = from; slot < until; slot = nextRow(grain, slot)) use(grain, part, slot, sign * (cover + 1));
    });
  };
  eachRow(true, (grain, part, slot, cover) => {
    partOf.set(slot * 8 + grain, part);
    note(grain, part, slot, "parts", cover);
  });
  // A day that is needed as a whole and in part is read once, with its part.
  eachRow(false, (grain, _, slot, cover) => note(grain, partOf.get(slot * 8 + grain) ?? 0, slot, "wholes", cover));
  return [...needed.values()];
}

function addFoundRows({ positions, wholes, parts }: NeededRows, found: FoundRows, columns: Columns): void {
  const column = columns.of(found.measure, found.value);
  const foundAt = (JSON.parse(`[${found.slots}]`) as Slot[]).map((slot) => positions.get(slot) ?? 0);
  const add = (uses: number[], amounts: Amount[]) => {
    const byPosition = new Array<Amount>(positions.size).fill(0);
    for (let row = 0; row < amounts.length; row++) byPosition[foundAt[row] ?? 0] = amounts[row] ?? 0;
    for (let use = 0; use < uses.length; use += 2) {
      const [amount, signed] = [byPosition[uses[use] ?? 0] ?? 0, uses[use + 1] ?? 0];
      column.add(Math.abs(signed) - 1, signed < 0 ? -amount : amount);
    }
  };
  add(wholes, parseAmounts(found.amounts));
  if (found.parts !== null) add(parts, parseAmounts(found.parts));
}
