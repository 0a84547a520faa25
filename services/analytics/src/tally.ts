/**
 * The arithmetic under every report. Facts are amounts at a time; a roll-up row is the sum of the facts of one measure and
 * value within one stretch of time. Time is counted in slots of a quarter of an hour since the epoch, because every time
 * zone's midnight falls on a slot's edge; longer stretches (UTC hours, days, months) are kept beside them, so that a sum
 * over any stretch adds up few rows.
 */
import type { Instant } from "./calendar.ts";
import { dimensions, type Grain, grains, type RollupRow, type Segment, type Slot } from "./schema.ts";

const slotMs = 900_000;
const slotsPerHour = 4;
const slotsPerDay = 96;

export function slotOf(instant: Instant): Slot {
  return Math.floor(instant / slotMs);
}

const months = new Map<number, Slot>();

/** The first slot of the month in which a slot is, or of a later month. */
function monthStart(slot: Slot, monthsLater = 0): Slot {
  if (monthsLater > 0) {
    const date = new Date(slot * slotMs);
    return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + monthsLater, 1) / slotMs;
  }
  // Asked for every fact, so the answer is kept by day: there are 365 a year.
  const day = Math.floor(slot / slotsPerDay);
  let start = months.get(day);
  if (start === undefined) {
    const date = new Date(slot * slotMs);
    start = Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), 1) / slotMs;
    if (months.size > 100_000) months.clear();
    months.set(day, start);
  }
  return start;
}

/** Whole profiles of who was registered: the values of all dimensions as one JSON array. */
export const profileMeasure = "patients.registered.profile";
/** The measures that a profile falls into, in its order. */
export const profileParts = dimensions.map((dimension) => `patients.registered.${dimension}`);

/** In which grains facts of a measure are summed, where that is not in all. A breakdown by place would hardly be shorter by the hour than by the person. */
const keptIn = new Map<string, readonly Grain[]>([
  [profileMeasure, [grains.quarter]],
  ...profileParts.map((measure) => [measure, [grains.day, grains.month]] as const),
]);
const allGrains: readonly Grain[] = [grains.quarter, grains.hour, grains.day, grains.month];

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

/** `finest`: leaves out what follows from finer grains, for a rebuild, which lets Postgres add that up at its end. */
export function createTally({ finest = false } = {}): Tally {
  // By measure and value, then by grain and slot: few maps with numbers as keys, for a rebuild holds a million sums.
  const sums = new Map<string, Map<number, bigint>>();
  let size = 0;
  function add(grain: Grain, slot: Slot, measure: string, value: string, amount: bigint): void {
    const name = `${measure}\n${value}`;
    let series = sums.get(name);
    if (!series) {
      series = new Map();
      sums.set(name, series);
    }
    const key = slot * 8 + grain;
    const before = series.get(key);
    const sum = (before ?? 0n) + amount;
    if (sum !== 0n) series.set(key, sum);
    else series.delete(key);
    size += Number(sum !== 0n) - Number(before !== undefined);
  }
  return {
    atInstant(measure, value, instant, amount) {
      const slot = slotOf(instant);
      for (const grain of keptIn.get(measure) ?? allGrains)
        if (!finest || grain === grains.quarter) add(grain, lastEdge(grain, slot), measure, value, amount);
    },
    onDate(measure, value, midnight, amount) {
      const slot = slotOf(midnight);
      add(grains.date, slot, measure, value, amount);
      if (!finest) add(grains.dateMonth, lastEdge(grains.dateMonth, slot), measure, value, amount);
    },
    holds(measure, value, amount) {
      add(grains.state, 0, measure, value, amount);
    },
    *rows() {
      for (const [name, series] of sums) {
        const end = name.indexOf("\n");
        const [measure, value] = [name.slice(0, end), name.slice(end + 1)];
        for (const [key, amount] of series) {
          const slot = Math.floor(key / 8);
          yield { measure, grain: (key - slot * 8) as Grain, slot, value, amount };
        }
      }
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
 * How to cover a stretch with the fewest rows of some measures, which must all be kept alike: months in the middle, then
 * days, hours and quarters towards the edges.
 */
export function coverFor(measures: readonly string[]): (from: Slot, until: Slot) => Segment[] {
  const isBrokenDown = measures.some((measure) => keptIn.has(measure));
  return (from, until) =>
    coverBy(
      isBrokenDown ? [grains.month, grains.day, grains.quarter] : [grains.month, grains.day, grains.hour, grains.quarter],
      from,
      until,
    );
}

/** The same for what is known by its calendar day. */
export function coverDates(from: Slot, until: Slot): Segment[] {
  return coverBy([grains.dateMonth, grains.date], from, until);
}

function coverBy([grain, ...finer]: Grain[], from: Slot, until: Slot): Segment[] {
  if (grain === undefined || from >= until) return [];
  const [first, last] = [nextEdge(grain, from), lastEdge(grain, until)];
  if (first >= last) return coverBy(finer, from, until);
  return [...coverBy(finer, from, first), { grain, from: first, until: last }, ...coverBy(finer, last, until)];
}

function lastEdge(grain: Grain, slot: Slot): Slot {
  if (grain === grains.month || grain === grains.dateMonth) return monthStart(slot);
  const length = grain === grains.quarter ? 1 : grain === grains.hour ? slotsPerHour : slotsPerDay;
  return Math.floor(slot / length) * length;
}

function nextEdge(grain: Grain, slot: Slot): Slot {
  const edge = lastEdge(grain, slot);
  if (edge === slot) return slot;
  if (grain === grains.month || grain === grains.dateMonth) return monthStart(slot, 1);
  return edge + (grain === grains.hour ? slotsPerHour : slotsPerDay);
}
