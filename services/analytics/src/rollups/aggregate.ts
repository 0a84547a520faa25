/**
 * The arithmetic under every report. Facts are amounts at a time; a roll-up row is the sum of the facts of one measure and
 * value within a day or a month of UTC. The row of a day also says how much of it there was by each quarter of an hour, and
 * every time zone's midnight is on a quarter: so a local day is the sum of two parts of days, and months save adding up days.
 * Time is counted in slots of a quarter of an hour since the epoch.
 */
import { type Instant, remember } from "../calendar.ts";
import { dimensions, type Grain, grains, type RollupRow, type Segment, type Slot } from "./types.ts";

const slotMs = 900_000;
const slotsPerDay = 96;

export function slotOf(instant: Instant): Slot {
  return Math.floor(instant / slotMs);
}

/** The first slot of the month in which a slot is, or of a later month. */
function monthStart(slot: Slot, monthsLater = 0): Slot {
  if (monthsLater > 0) {
    const date = new Date(slot * slotMs);
    return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + monthsLater, 1) / slotMs;
  }
  return monthOfDay(Math.floor(slot / slotsPerDay));
}

/** Asked for every fact, so it is known by day: there are 365 a year. */
const monthOfDay = remember(100_000, (day: number): Slot => {
  const date = new Date(day * slotsPerDay * slotMs);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), 1) / slotMs;
});

/** Whole profiles of who was registered: the values of all dimensions as one JSON array. */
export const profileMeasure = "patients.registered.profile";

/**
 * What a breakdown by place is kept of: days as they are, without their parts. What its edges need beyond them are the whole
 * profiles, by the quarter of an hour, and these are nothing but rows of their own: hardly two people are alike.
 */
const keptByDay: ReadonlySet<string> = new Set(dimensions.map((dimension) => `patients.registered.${dimension}`));
const finestOf = (measure: string): Grain => (keptByDay.has(measure) ? grains.day : grains.quarterHour);

/** Where facts are added. */
export type Facts = {
  /** Something happened at an instant. */
  atInstant(measure: string, value: string, instant: Instant, amount: bigint): void;
  /** Something happened on a calendar day, given as its midnight in UTC. */
  onDate(measure: string, value: string, midnight: Instant, amount: bigint): void;
  /** Something holds. */
  holds(measure: string, value: string, amount: bigint): void;
};

/** Sums facts. What adds up to nothing is not kept, so that equal facts give equal tallies whatever way they came about. */
export type Tally = Facts & {
  /** The sums, by measure and value. */
  rows(): Generator<RollupRow>;
  /** How many sums there are. */
  readonly size: number;
  clear(): void;
};

/** For a batch of events: few sums. */
export function createTally(): Tally {
  /** By the finest grain, then by measure and value. */
  const sums = new Map<Grain, Map<string, Map<string, Map<Slot, bigint>>>>();
  let size = 0;
  function add(grain: Grain, slot: Slot, measure: string, value: string, amount: bigint): void {
    const series = nested(nested(nested(sums, grain), measure), value);
    const before = series.get(slot);
    const sum = (before ?? 0n) + amount;
    if (sum !== 0n) series.set(slot, sum);
    else series.delete(slot);
    size += Number(sum !== 0n) - Number(before !== undefined);
  }
  return {
    atInstant(measure, value, instant, amount) {
      const grain = finestOf(measure);
      add(grain, lastEdge(grain, slotOf(instant)), measure, value, amount);
    },
    onDate(measure, value, midnight, amount) {
      add(grains.date, slotOf(midnight), measure, value, amount);
    },
    holds(measure, value, amount) {
      add(grains.state, 0, measure, value, amount);
    },
    *rows() {
      for (const [grain, measures] of sums)
        for (const [measure, values] of measures)
          for (const [value, series] of values)
            yield* rowsOf(
              measure,
              value,
              grain,
              [...series].sort(([a], [b]) => a - b),
            );
    },
    get size() {
      return size;
    },
    clear() {
      sums.clear();
      size = 0;
    },
  };
}

/**
 * For a whole log: the sums of a measure and value lie side by side in pages of 64-bit numbers, a day of quarters or 96 days
 * each, so that years of a clinic fit into a few megabytes. `size` counts pages.
 */
export function createBulkTally(): Omit<Tally, "holds"> {
  type Pages = Map<number, BigInt64Array>;
  /** By the finest grain, then by measure and value. */
  const sums = new Map<Grain, Map<string, Map<string, Pages>>>();
  const pageLength = slotsPerDay;
  let size = 0;
  function add(grain: Grain, slot: Slot, measure: string, value: string, amount: bigint): void {
    const pages = nested(nested(nested(sums, grain), measure), value);
    const place = Math.floor(slot / lengthOf(grain));
    const number = Math.floor(place / pageLength);
    let page = pages.get(number);
    if (!page) {
      page = new BigInt64Array(pageLength);
      pages.set(number, page);
      size++;
    }
    const index = place - number * pageLength;
    page[index] = (page[index] ?? 0n) + amount;
  }
  function* amountsOf(grain: Grain, pages: Pages): Generator<[Slot, bigint]> {
    for (const [number, page] of [...pages].sort(([a], [b]) => a - b))
      for (const [index, amount] of page.entries()) if (amount !== 0n) yield [(number * pageLength + index) * lengthOf(grain), amount];
  }
  return {
    atInstant(measure, value, instant, amount) {
      add(finestOf(measure), slotOf(instant), measure, value, amount);
    },
    onDate(measure, value, midnight, amount) {
      add(grains.date, slotOf(midnight), measure, value, amount);
    },
    *rows() {
      for (const [grain, measures] of sums)
        for (const [measure, values] of measures)
          for (const [value, pages] of values) yield* rowsOf(measure, value, grain, amountsOf(grain, pages));
    },
    get size() {
      return size;
    },
    clear() {
      sums.clear();
      size = 0;
    },
  };
}

function nested<A, B, C>(map: Map<A, Map<B, C>>, key: A): Map<B, C> {
  let inner = map.get(key);
  if (!inner) {
    inner = new Map();
    map.set(key, inner);
  }
  return inner;
}

type Sum = readonly [slot: Slot, amount: bigint, byQuarter?: bigint[]];

/** The rows of a measure and value, from its sums in the finest grain in order. */
function* rowsOf(measure: string, value: string, finest: Grain, amounts: Iterable<Sum>): Generator<RollupRow> {
  const hasParts = finest === grains.quarterHour && measure !== profileMeasure;
  const grain = hasParts ? grains.day : finest;
  const coarser = grain === grains.day ? grains.month : grain === grains.date ? grains.dateMonth : undefined;
  let open = { slot: Number.NaN, amount: 0n };
  for (const [slot, amount, byQuarter = null] of hasParts ? inDays(amounts) : amounts) {
    yield { measure, grain, slot, value, amount, byQuarter };
    if (coarser === undefined) continue;
    const edge = lastEdge(coarser, slot);
    if (edge !== open.slot) {
      if (open.amount !== 0n) yield { measure, grain: coarser, value, byQuarter: null, ...open };
      open = { slot: edge, amount: 0n };
    }
    open.amount += amount;
  }
  if (coarser !== undefined && open.amount !== 0n) yield { measure, grain: coarser, value, byQuarter: null, ...open };
}

/** Quarters as days: how much there was by the end of the first quarter, of the second one, and so on. */
function* inDays(quarters: Iterable<Sum>): Generator<Sum> {
  let day = Number.NaN;
  let byQuarter: bigint[] = [];
  const fill = (until: number) => {
    while (byQuarter.length < until) byQuarter.push(byQuarter.at(-1) ?? 0n);
  };
  const end = (): Sum => {
    fill(slotsPerDay);
    return [day, byQuarter.at(-1) ?? 0n, byQuarter];
  };
  for (const [slot, amount] of quarters) {
    const edge = lastEdge(grains.day, slot);
    if (edge !== day) {
      if (byQuarter.length > 0) yield end();
      day = edge;
      byQuarter = [];
    }
    fill(slot - day);
    byQuarter.push((byQuarter.at(-1) ?? 0n) + amount);
  }
  if (byQuarter.length > 0) yield end();
}

/** How to cover a stretch with few rows of some measures, which must all be kept alike. */
export function coverFor(measures: readonly string[]): (from: Slot, until: Slot) => Segment[] {
  const isBrokenDown = measures.some((measure) => measure === profileMeasure || keptByDay.has(measure));
  const finer = isBrokenDown ? coverWith(grains.day, coverWith(grains.quarterHour)) : coverByParts;
  return coverWith(grains.month, finer);
}

/** The same for what is known by its calendar day. */
export const coverDates: Cover = coverWith(grains.dateMonth, coverWith(grains.date));

type Cover = (from: Slot, until: Slot) => Segment[];

/**
 * Covers the middle of a stretch with rows of a grain and what is left at its edges with a finer one. Where more is covered
 * than was asked for, because that is less to read, the rest is taken away again.
 */
function coverWith(grain: Grain, finer: Cover = () => []): Cover {
  const shortest = isByMonth(grain) ? 28 * slotsPerDay : lengthOf(grain);
  return (from, until) => {
    // Between two edges there would be more than is asked for: known without looking for them.
    if ((until - from) * 2 <= shortest) return finer(from, until);
    const [first, last] = [nearestEdge(grain, from), nearestEdge(grain, until)];
    const beside = Math.abs(first - from) + Math.abs(last - until);
    if (first >= last || beside >= until - from) return finer(from, until);
    return [
      ...(first < from ? takenAway(finer(first, from)) : finer(from, first)),
      { grain, part: 0, from: first, until: last, sign: 1 },
      ...(until < last ? takenAway(finer(until, last)) : finer(last, until)),
    ];
  };
}

/** Days, less what there was before the stretch on its first day, and what there was within it on the day of its end. */
function coverByParts(from: Slot, until: Slot): Segment[] {
  const [first, last] = [lastEdge(grains.day, from), lastEdge(grains.day, until)];
  const segments: Segment[] = [];
  const add = (part: number, start: Slot, end: Slot, sign: 1 | -1) =>
    segments.push({ grain: grains.day, part, from: start, until: end, sign });
  if (from > first) add(from - first, first, first + slotsPerDay, -1);
  if (last > first) add(0, first, last, 1);
  if (until > last) add(until - last, last, last + slotsPerDay, 1);
  return segments;
}

function takenAway(segments: Segment[]): Segment[] {
  return segments.map((segment) => ({ ...segment, sign: segment.sign === 1 ? -1 : 1 }));
}

function lastEdge(grain: Grain, slot: Slot): Slot {
  if (isByMonth(grain)) return monthStart(slot);
  const length = lengthOf(grain);
  return Math.floor(slot / length) * length;
}

function nearestEdge(grain: Grain, slot: Slot): Slot {
  const before = lastEdge(grain, slot);
  const after = nextSlot(grain, before);
  return slot - before < after - slot ? before : after;
}

/** The slot of the row that follows. */
export function nextSlot(grain: Grain, slot: Slot): Slot {
  return isByMonth(grain) ? monthStart(slot, 1) : slot + lengthOf(grain);
}

function isByMonth(grain: Grain): boolean {
  return grain === grains.month || grain === grains.dateMonth;
}

function lengthOf(grain: Grain): number {
  return grain === grains.quarterHour ? 1 : slotsPerDay;
}
