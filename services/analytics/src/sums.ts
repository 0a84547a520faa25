/** Sums over local days: what every report asks of the roll-ups. */
import { addDays, type Span, utcMidnight } from "./calendar.ts";
import { type Grain, grains, type Segment, type Slot } from "./schema.ts";
import { type AnalyticsDatabase, type Freshness, readRollups, sumSegments } from "./store.ts";
import { coverDates, coverFor, nextSlot, profileMeasure, slotOf } from "./tally.ts";

/**
 * Amounts by measure and value; `of` is 0 for what never happened. Numbers and not BigInts: a report of a year adds up
 * thousands of them, JSON has no other, and a sum that a number does not hold exactly is refused.
 */
export type Amounts = {
  of(measure: string, value?: string): number;
  values(measure: string): [value: string, amount: number][];
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

export function createSums(database: AnalyticsDatabase, { generation }: Freshness): Sums {
  /** Adds up, for each of some covers, what it is made of. */
  async function sum(measures: readonly string[], covers: Segment[][]): Promise<Amounts[]> {
    /** By measure and value, one for each cover. */
    const sums = new Map<string, Map<string, Float64Array>>();
    const columnOf = (measure: string, value: string): Float64Array => {
      const byValue = sums.get(measure) ?? new Map<string, Float64Array>();
      sums.set(measure, byValue);
      const column = byValue.get(value) ?? new Float64Array(covers.length);
      byValue.set(value, column);
      return column;
    };
    await (covers.flat().length > maxSegments ? addRows(measures, covers, columnOf) : addSegments(measures, covers, columnOf));
    return covers.map((_, cover) => ({
      of: (measure, value = "") => exact(sums.get(measure)?.get(value)?.[cover] ?? 0),
      values: (measure) =>
        [...(sums.get(measure) ?? [])].flatMap(([value, column]): [string, number][] =>
          column[cover] ? [[value, exact(column[cover])]] : [],
        ),
    }));
  }

  type ColumnOf = (measure: string, value: string) => Float64Array;

  /** For few covers: Postgres sums up each of their segments. */
  async function addSegments(measures: readonly string[], covers: Segment[][], columnOf: ColumnOf): Promise<void> {
    const segments = covers
      .flatMap((each, cover) => each.map((segment) => ({ ...segment, cover })))
      .filter(({ from, until }) => from < until);
    for (const { measure, value, segment, amount } of await sumSegments(database, generation, measures, segments)) {
      const { cover = 0, sign = 1 } = segments[segment] ?? {};
      const column = columnOf(measure, value);
      column[cover] = (column[cover] ?? 0) + sign * Number(amount);
    }
  }

  /** For many short ones: the rows are read side by side, and each once, though a midnight belongs to two covers and its day to a third. */
  async function addRows(measures: readonly string[], covers: Segment[][], columnOf: ColumnOf): Promise<void> {
    /** The covers that a row is part of, counted from 1; below 0 where it is taken away. */
    type Uses = { whole: number[]; part: number[] };
    const wanted = new Map<number, { grain: Grain; part: number; uses: Map<Slot, Uses> }>();
    const partOf = new Map<number, number>();
    const usesOf = (grain: Grain, part: number, slot: Slot): Uses => {
      const key = part * 8 + grain;
      const { uses } = wanted.get(key) ?? { uses: new Map<Slot, Uses>() };
      wanted.set(key, { grain, part, uses });
      const known = uses.get(slot) ?? { whole: [], part: [] };
      uses.set(slot, known);
      return known;
    };
    const each = (segments: Segment[], note: (grain: Grain, slot: Slot, segment: Segment) => void) => {
      for (const segment of segments)
        for (let slot = segment.from; slot < segment.until; slot = nextSlot(segment.grain, slot)) note(segment.grain, slot, segment);
    };
    for (const [cover, segments] of covers.entries()) {
      const parts = segments.filter(({ part }) => part > 0);
      each(parts, (grain, slot, { part, sign }) => {
        partOf.set(slot * 8 + grain, part);
        usesOf(grain, part, slot).part.push(sign * (cover + 1));
      });
    }
    for (const [cover, segments] of covers.entries()) {
      const wholes = segments.filter(({ part }) => part === 0);
      // A day of which a part is wanted is read with it.
      each(wholes, (grain, slot, { sign }) => {
        usesOf(grain, partOf.get(slot * 8 + grain) ?? 0, slot).whole.push(sign * (cover + 1));
      });
    }
    const rows = [...wanted.values()].map(({ grain, part, uses }) => ({ grain, part, uses, slots: uses.keys() }));
    for (const { measure, value, wanted: index, slots, amounts, parts } of await readRollups(database, generation, measures, rows)) {
      const column = columnOf(measure, value);
      const add = (uses: number[] | undefined, text: string | undefined) => {
        if (uses === undefined || uses.length === 0 || text === undefined) return;
        const amount = Number(text);
        for (const use of uses) {
          const cover = Math.abs(use) - 1;
          column[cover] = (column[cover] ?? 0) + Math.sign(use) * amount;
        }
      };
      const [wholeTexts, partTexts] = [amounts.split(","), parts?.split(",")];
      for (const [place, slot] of slots.split(",").entries()) {
        const uses = rows[index]?.uses.get(Number(slot));
        add(uses?.whole, wholeTexts[place]);
        add(uses?.part, partTexts?.[place]);
      }
    }
  }

  const over = (measures: readonly string[], stretches: { from: Slot; until: Slot }[], coverOf: (from: Slot, until: Slot) => Segment[]) =>
    sum(
      measures,
      apart(stretches).map(({ from, until }) => coverOf(from, until)),
    );

  const onDays: Sums["onDays"] = (measures, ranges) => {
    const stretches = ranges.map(({ start, end }) => ({ from: slotOf(utcMidnight(start)), until: slotOf(utcMidnight(addDays(end, 1))) }));
    return over(measures, stretches, coverDates);
  };

  const within: Sums["within"] = async (measures, spans) => {
    // Only registrations can be known by their day alone.
    const dated = measures.filter((measure) => measure.startsWith("patients.registered") && measure !== profileMeasure);
    const stretches = spans.map(({ from, until }) => ({ from: slotOf(from), until: slotOf(until) }));
    const [exact, byDay] = await Promise.all([over(measures, stretches, coverFor(measures)), dated.length > 0 ? onDays(dated, spans) : []]);
    return exact.map((amounts, index) => add(amounts, byDay[index]));
  };

  return {
    within,
    onDays,
    async before(measures, span) {
      const { start, from } = span;
      const first = new Date(beginning).toISOString().slice(0, 10);
      const [amounts] = await within(measures, [{ start: first, end: addDays(start, -1), from: beginning, until: from }]);
      return amounts ?? nothing;
    },
    async now(measures) {
      const [amounts] = await sum(measures, [[{ grain: grains.state, part: 0, from: 0, until: 1, sign: 1 }]]);
      return amounts ?? nothing;
    },
  };
}

const nothing: Amounts = { of: () => 0, values: () => [] };

function exact(sum: number): number {
  if (Number.isSafeInteger(sum)) return sum;
  throw new Error("a sum is too large for a number");
}

function add(a: Amounts, b: Amounts = nothing): Amounts {
  if (b === nothing) return a;
  return {
    of: (measure, value) => a.of(measure, value) + b.of(measure, value),
    values(measure) {
      const sums = new Map(a.values(measure));
      for (const [value, amount] of b.values(measure)) sums.set(value, (sums.get(value) ?? 0) + amount);
      return [...sums];
    },
  };
}

/** The year before a leap year has one day for two: what the first of them counted, the second does not count again. */
function apart(stretches: { from: Slot; until: Slot }[]): { from: Slot; until: Slot }[] {
  return stretches.map(({ from, until }, index) => {
    const start = Math.max(from, stretches[index - 1]?.until ?? from);
    return { from: start, until: Math.max(start, until) };
  });
}
