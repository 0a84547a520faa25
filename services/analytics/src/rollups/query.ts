/** Sums over local days: what every report asks of the roll-ups. */
import { createBatcher } from "@pm/kit/batcher";
import { addDays, type Span, utcMidnight } from "../calendar.ts";
import { coverDates, coverFor, nextSlot, profileMeasure, slotOf } from "./aggregate.ts";
import { type AnalyticsDatabase, readRollups, type SegmentQuestion, type SegmentSum, sumSegments } from "./store.ts";
import { type Grain, grains, type Segment, type Slot } from "./types.ts";

/** Sums by measure and value, 0 for what never happened. */
export type Amounts = {
  /** Exact, however large it is. */
  of(measure: string, value?: string): bigint;
  /** The same as a number, for what is counted one by one: no count comes near to what a number holds. */
  count(measure: string, value?: string): number;
  counts(measure: string): [value: string, count: number][];
};

export type Sums = {
  /** What happened within each of the spans, which must be in order. */
  within(measures: readonly string[], spans: Span[]): Promise<Amounts[]>;
  /** What is known by its calendar day alone, within ranges of days in order. */
  onDays(measures: readonly string[], ranges: Pick<Span, "start" | "end">[]): Promise<Amounts[]>;
  /** What happened before a span. */
  before(measures: readonly string[], span: Span): Promise<Amounts>;
  /** What holds now. */
  now(measures: readonly string[]): Promise<Amounts>;
};

/** Nothing is older than this. */
const beginning = Date.UTC(1850, 0, 1);
/** So many segments are summed up one by one, each by a descent of the index for each measure. */
const maxSegments = 100;

/** What is asked of the roll-ups at once: some measures over covers, one for each sum that is wanted. */
type Question = { measures: readonly string[]; covers: Segment[][] };
/** The sums of a measure and value, one for each cover. */
type ColumnOf = (measure: string, value: string) => Column;
type Columns = Map<string, Map<string, Column>>;

/**
 * Adds up without loss. A report of a year adds up thousands of amounts, and BigInts take five times as long as numbers: so
 * they add up only what would leave the integers that a number holds.
 */
class Column {
  readonly #sums: Float64Array;
  readonly #beyond = new Map<number, bigint>();

  constructor(length: number) {
    this.#sums = new Float64Array(length);
  }

  add(cover: number, amount: Amount): void {
    const sum = typeof amount === "number" ? (this.#sums[cover] ?? 0) + amount : Number.NaN;
    if (Number.isSafeInteger(sum)) this.#sums[cover] = sum;
    else this.#beyond.set(cover, (this.#beyond.get(cover) ?? 0n) + BigInt(amount));
  }

  at(cover: number): bigint {
    return BigInt(this.#sums[cover] ?? 0) + (this.#beyond.get(cover) ?? 0n);
  }
}

/** A class because a report of a year has a thousand of them. */
class CoverSums implements Amounts {
  readonly #columns: Columns;
  readonly #cover: number;

  constructor(columns: Columns, cover: number) {
    this.#columns = columns;
    this.#cover = cover;
  }

  of(measure: string, value = ""): bigint {
    return this.#columns.get(measure)?.get(value)?.at(this.#cover) ?? 0n;
  }

  count(measure: string, value = ""): number {
    return Number(this.of(measure, value));
  }

  counts(measure: string): [value: string, count: number][] {
    return [...(this.#columns.get(measure) ?? [])].flatMap(([value, column]): [string, number][] => {
      const count = Number(column.at(this.#cover));
      return count === 0 ? [] : [[value, count]];
    });
  }
}

/** Sums of one generation of roll-ups. What is asked for in the same moment, by whichever reports, goes to Postgres together, and once. */
export function createSumsOf(database: AnalyticsDatabase): (generation: number) => Sums {
  const segmentSums = createBatcher<SegmentQuestion, SegmentSum[]>({
    maxSize: 100,
    maxInFlight: 4,
    async run(questions) {
      const keys = questions.map((question) => JSON.stringify(question));
      const firsts = keys.map((key) => keys.indexOf(key));
      const different = questions.filter((_, index) => firsts[index] === index);
      const sums = Map.groupBy(await sumSegments(database, different), ({ question }) => different[question]);
      return firsts.map((first) => sums.get(questions[first]) ?? []);
    },
  });
  return (generation) => createSums(database, generation, segmentSums.add);
}

function createSums(
  database: AnalyticsDatabase,
  generation: number,
  readSegments: (question: SegmentQuestion) => Promise<SegmentSum[]>,
): Sums {
  /** Adds up, for each cover of the first question together with those of the others, what they are made of. */
  async function sum(...questions: Question[]): Promise<Amounts[]> {
    const covers = questions[0]?.covers ?? [];
    const columns: Columns = new Map();
    const columnOf: ColumnOf = (measure, value) => {
      const byValue = columns.get(measure) ?? new Map<string, Column>();
      columns.set(measure, byValue);
      const column = byValue.get(value) ?? new Column(covers.length);
      byValue.set(value, column);
      return column;
    };
    const isLong = (question: Question) => question.covers.reduce((count, segments) => count + segments.length, 0) > maxSegments;
    await Promise.all(
      questions
        .filter(({ measures }) => measures.length > 0)
        .map((question) => (isLong(question) ? addRows(question, columnOf) : addSegments(question, columnOf))),
    );
    return covers.map((_, cover) => new CoverSums(columns, cover));
  }

  /** For few covers: Postgres sums up each of their segments. */
  async function addSegments({ measures, covers }: Question, columnOf: ColumnOf): Promise<void> {
    const segments = covers
      .flatMap((each, cover) => each.map((segment) => ({ ...segment, cover })))
      .filter(({ from, until }) => from < until);
    if (segments.length === 0) return;
    for (const { measure, value, segment, amount } of await readSegments({ generation, measures, segments })) {
      const { cover = 0, sign = 1 } = segments[segment] ?? {};
      const [sum = 0] = amountsIn(amount);
      columnOf(measure, value).add(cover, sign < 0 ? -sum : sum);
    }
  }

  /** For many short ones: the rows are read side by side, and each once, though a midnight belongs to two covers and its day to a third. */
  async function addRows({ measures, covers }: Question, columnOf: ColumnOf): Promise<void> {
    /** Rows by slot, and what they are part of: places of rows, each followed by a cover, counted from 1 and below 0 where it is taken away. */
    type Rows = { grain: Grain; part: number; places: Map<Slot, number>; wholes: number[]; parts: number[] };
    const wanted = new Map<number, Rows>();
    const partOf = new Map<number, number>();
    const note = (grain: Grain, part: number, slot: Slot, as: "wholes" | "parts", cover: number) => {
      const key = part * 8 + grain;
      const rows: Rows = wanted.get(key) ?? { grain, part, places: new Map(), wholes: [], parts: [] };
      wanted.set(key, rows);
      const place = rows.places.get(slot) ?? rows.places.size;
      rows.places.set(slot, place);
      rows[as].push(place, cover);
    };
    const each = (isPart: boolean, use: (grain: Grain, part: number, slot: Slot, cover: number) => void) => {
      covers.forEach((segments, cover) => {
        for (const { grain, part, from, until, sign } of segments)
          if (part > 0 === isPart)
            for (let slot = from; slot < until; slot = nextSlot(grain, slot)) use(grain, part, slot, sign * (cover + 1));
      });
    };
    each(true, (grain, part, slot, cover) => {
      partOf.set(slot * 8 + grain, part);
      note(grain, part, slot, "parts", cover);
    });
    // A day of which a part is wanted is read with it.
    each(false, (grain, _, slot, cover) => note(grain, partOf.get(slot * 8 + grain) ?? 0, slot, "wholes", cover));

    const asked = [...wanted.values()];
    const reading = asked.map(({ grain, part, places }) => ({ grain, part, slots: places.keys() }));
    for (const { measure, value, wanted: index, slots, amounts, parts } of await readRollups(database, generation, measures, reading)) {
      const rows = asked[index];
      if (!rows) continue;
      const places = (JSON.parse(`[${slots}]`) as Slot[]).map((slot) => rows.places.get(slot) ?? 0);
      const column = columnOf(measure, value);
      const add = (uses: number[], found: Amount[]) => {
        const byPlace = new Array<Amount>(rows.places.size).fill(0);
        for (let row = 0; row < found.length; row++) byPlace[places[row] ?? 0] = found[row] ?? 0;
        for (let use = 0; use < uses.length; use += 2) {
          const [amount, signed] = [byPlace[uses[use] ?? 0] ?? 0, uses[use + 1] ?? 0];
          column.add(Math.abs(signed) - 1, signed < 0 ? -amount : amount);
        }
      };
      add(rows.wholes, amountsIn(amounts));
      if (parts !== null) add(rows.parts, amountsIn(parts));
    }
  }

  type Stretch = { from: Slot; until: Slot };
  const coversOf = (stretches: Stretch[], coverOf: (from: Slot, until: Slot) => Segment[]): Segment[][] =>
    apart(stretches).map(({ from, until }) => coverOf(from, until));
  const datesOf = (ranges: Pick<Span, "start" | "end">[]): Segment[][] =>
    coversOf(
      ranges.map(({ start, end }) => ({ from: slotOf(utcMidnight(start)), until: slotOf(utcMidnight(addDays(end, 1))) })),
      coverDates,
    );

  const within: Sums["within"] = (measures, spans) => {
    const stretches = spans.map(({ from, until }) => ({ from: slotOf(from), until: slotOf(until) }));
    // Only registrations can be known by their day alone.
    const dated = measures.filter((measure) => measure.startsWith("patients.registered") && measure !== profileMeasure);
    const onDays = dated.length > 0 ? [{ measures: dated, covers: datesOf(spans) }] : [];
    return sum({ measures, covers: coversOf(stretches, coverFor(measures)) }, ...onDays);
  };

  return {
    within,
    onDays: (measures, ranges) => sum({ measures, covers: datesOf(ranges) }),
    async before(measures, span) {
      const { start, from } = span;
      const first = new Date(beginning).toISOString().slice(0, 10);
      const [amounts] = await within(measures, [{ start: first, end: addDays(start, -1), from: beginning, until: from }]);
      return amounts ?? nothing;
    },
    async now(measures) {
      const [amounts] = await sum({ measures, covers: [[{ grain: grains.state, part: 0, from: 0, until: 1, sign: 1 }]] });
      return amounts ?? nothing;
    },
  };
}

const nothing: Amounts = { of: () => 0n, count: () => 0, counts: () => [] };

/** A number where it holds the amount. */
type Amount = number | bigint;

/** Amounts with commas between them. */
function amountsIn(text: string): Amount[] {
  if (/\d{16}/.test(text)) return text.split(",").map(BigInt);
  return JSON.parse(`[${text}]`) as number[];
}

/** The year before a leap year has one day for two: what the first of them counted, the second does not count again. */
function apart(stretches: { from: Slot; until: Slot }[]): { from: Slot; until: Slot }[] {
  return stretches.map(({ from, until }, index) => {
    const start = Math.max(from, stretches[index - 1]?.until ?? from);
    return { from: start, until: Math.max(start, until) };
  });
}
