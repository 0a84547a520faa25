/** Sums over local days: what every report asks of the roll-ups. */
import { addDays, type Span, utcMidnight } from "./calendar.ts";
import { grains, type Segment, type Slot } from "./schema.ts";
import { type AnalyticsDatabase, type Freshness, sumRollups } from "./store.ts";
import { coverDates, coverFor, profileMeasure, slotOf } from "./tally.ts";

/** Amounts by measure and value; `of` is 0 for what never happened. */
export type Amounts = {
  of(measure: string, value?: string): bigint;
  values(measure: string): [value: string, amount: bigint][];
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

export function createSums(database: AnalyticsDatabase, { generation }: Freshness): Sums {
  async function sum(measures: readonly string[], segments: Segment[], bounds: number[], buckets: number): Promise<Amounts[]> {
    const amounts = Array.from({ length: buckets }, () => new Map<string, Map<string, bigint>>());
    for (const { measure, value, bucket, amount } of await sumRollups(database, generation, measures, segments, bounds)) {
      const byMeasure = amounts[bucket];
      if (!byMeasure) continue;
      const byValue = byMeasure.get(measure);
      if (byValue) byValue.set(value, amount);
      else byMeasure.set(measure, new Map([[value, amount]]));
    }
    return amounts.map((byMeasure) => ({
      of: (measure, value = "") => byMeasure.get(measure)?.get(value) ?? 0n,
      values: (measure) => [...(byMeasure.get(measure) ?? [])],
    }));
  }

  async function over(
    measures: readonly string[],
    stretches: { from: Slot; until: Slot }[],
    coverOf: (from: Slot, until: Slot) => Segment[],
  ): Promise<Amounts[]> {
    const separate = apart(stretches);
    const segments = join(separate.flatMap(({ from, until }) => coverOf(from, until)));
    return sum(
      measures,
      segments,
      separate.map(({ from }) => from),
      separate.length,
    );
  }

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
      const [amounts] = await sum(measures, [{ grain: grains.state, from: 0, until: 1 }], [0], 1);
      return amounts ?? nothing;
    },
  };
}

const nothing: Amounts = { of: () => 0n, values: () => [] };

function add(a: Amounts, b: Amounts = nothing): Amounts {
  if (b === nothing) return a;
  return {
    of: (measure, value) => a.of(measure, value) + b.of(measure, value),
    values(measure) {
      const sums = new Map(a.values(measure));
      for (const [value, amount] of b.values(measure)) sums.set(value, (sums.get(value) ?? 0n) + amount);
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

/** Neighbouring stretches of one grain as one: 366 days of a zone on whole hours are one scan. */
function join(segments: Segment[]): Segment[] {
  const joined: Segment[] = [];
  for (const segment of segments) {
    const last = joined.at(-1);
    if (last && last.grain === segment.grain && last.until === segment.from) last.until = segment.until;
    else joined.push({ ...segment });
  }
  return joined;
}
