/**
 * From facts to roll-up rows. A fact is an amount at a time. A row is the sum of the facts of one measure and value
 * within a day or a month of UTC. The row of a day also has the amount by the end of each of its quarters of an hour,
 * so the sum of a local day is read from two rows, whatever its time zone is.
 */
import type { Instant } from "@pm/kit/calendar";
import { measures } from "../measures.ts";
import { lengthOf, rowOf, slotOf, slotsPerDay } from "./slots.ts";
import { type Grain, grains, type RollupRow, type Slot } from "./types.ts";

/**
 * Registrations by one dimension have rows of whole days only, without their quarters. For the quarters of an hour at
 * the two ends of a period there are the profiles, which answer for all dimensions.
 */
const keptByDay: ReadonlySet<string> = new Set(Object.values(measures.patients.registeredBy));

/** Whether a measure has rows of whole days, and of quarters of an hour for the rest. */
export function isBrokenDown(measure: string): boolean {
  return measure === measures.patients.registeredProfile || keptByDay.has(measure);
}

function finestGrain(measure: string): Grain {
  return keptByDay.has(measure) ? grains.day : grains.quarterHour;
}

/** Where facts are added. */
export type Facts = {
  /** Something happened at an instant. */
  atInstant(measure: string, value: string, instant: Instant, amount: bigint): void;
  /** Something happened on a calendar day, which is given as its midnight in UTC. */
  onDate(measure: string, value: string, midnight: Instant, amount: bigint): void;
  /** Something holds now. */
  holds(measure: string, value: string, amount: bigint): void;
};

/** The sums of facts. A sum of 0 gives no row, so equal facts give equal rows, in whatever order they were added. */
export type Aggregate = Facts & {
  rows(): Generator<RollupRow>;
  /** How much is held in memory; what is counted depends on the kind of aggregate. */
  readonly size: number;
  clear(): void;
};

/** For a batch of events, which has few sums. `size` counts the sums. */
export function createAggregate(): Aggregate {
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
      const grain = finestGrain(measure);
      add(grain, rowOf(grain, slotOf(instant)), measure, value, amount);
    },
    onDate(measure, value, midnight, amount) {
      add(grains.date, slotOf(midnight), measure, value, amount);
    },
    holds(measure, value, amount) {
      add(grains.state, 0, measure, value, amount);
    },
    *rows() {
      for (const [grain, byMeasure] of sums)
        for (const [measure, byValue] of byMeasure)
          for (const [value, series] of byValue) {
            const inOrder = [...series].sort(([a], [b]) => a - b);
            yield* rowsOf(measure, value, grain, inOrder);
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
 * For the whole log. The sums of a measure and value are in pages of 96 numbers of 64 bits: a day of quarters of an
 * hour, or 96 days. So years of a clinic take a few megabytes. `size` counts the pages.
 */
export function createBulkAggregate(): Omit<Aggregate, "holds"> {
  type Pages = Map<number, BigInt64Array>;
  /** By the finest grain, then by measure and value. */
  const sums = new Map<Grain, Map<string, Map<string, Pages>>>();
  const pageLength = 96;
  let size = 0;
  function add(grain: Grain, slot: Slot, measure: string, value: string, amount: bigint): void {
    const pages = nested(nested(nested(sums, grain), measure), value);
    const position = Math.floor(slot / lengthOf(grain));
    const number = Math.floor(position / pageLength);
    let page = pages.get(number);
    if (!page) {
      page = new BigInt64Array(pageLength);
      pages.set(number, page);
      size++;
    }
    const index = position - number * pageLength;
    page[index] = (page[index] ?? 0n) + amount;
  }
  function* amountsOf(grain: Grain, pages: Pages): Generator<[Slot, bigint]> {
    for (const [number, page] of [...pages].sort(([a], [b]) => a - b))
      for (const [index, amount] of page.entries()) if (amount !== 0n) yield [(number * pageLength + index) * lengthOf(grain), amount];
  }
  return {
    atInstant(measure, value, instant, amount) {
      add(finestGrain(measure), slotOf(instant), measure, value, amount);
    },
    onDate(measure, value, midnight, amount) {
      add(grains.date, slotOf(midnight), measure, value, amount);
    },
    *rows() {
      for (const [grain, byMeasure] of sums)
        for (const [measure, byValue] of byMeasure)
          for (const [value, pages] of byValue) yield* rowsOf(measure, value, grain, amountsOf(grain, pages));
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

/** The map under a key, which is created if it is not there yet. */
function nested<A, B, C>(map: Map<A, Map<B, C>>, key: A): Map<B, C> {
  let inner = map.get(key);
  if (!inner) {
    inner = new Map();
    map.set(key, inner);
  }
  return inner;
}

type Sum = readonly [slot: Slot, amount: bigint, byQuarter?: bigint[]];

/** The rows of a measure and value. `amounts` are its sums in the finest grain, in order. */
function* rowsOf(measure: string, value: string, finest: Grain, amounts: Iterable<Sum>): Generator<RollupRow> {
  const hasQuarters = finest === grains.quarterHour && !isBrokenDown(measure);
  const grain = hasQuarters ? grains.day : finest;
  const coarser = grain === grains.day ? grains.month : grain === grains.date ? grains.dateMonth : undefined;
  let open = { slot: Number.NaN, amount: 0n };
  for (const [slot, amount, byQuarter = null] of hasQuarters ? byDay(amounts) : amounts) {
    yield { measure, grain, slot, value, amount, byQuarter };
    if (coarser === undefined) continue;
    const row = rowOf(coarser, slot);
    if (row !== open.slot) {
      if (open.amount !== 0n) yield { measure, grain: coarser, value, byQuarter: null, ...open };
      open = { slot: row, amount: 0n };
    }
    open.amount += amount;
  }
  if (coarser !== undefined && open.amount !== 0n) yield { measure, grain: coarser, value, byQuarter: null, ...open };
}

/** Adds up quarters of an hour to days. `byQuarter` of a day is the amount by the end of each of its quarters. */
function* byDay(quarters: Iterable<Sum>): Generator<Sum> {
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
    const row = rowOf(grains.day, slot);
    if (row !== day) {
      if (byQuarter.length > 0) yield end();
      day = row;
      byQuarter = [];
    }
    fill(slot - day);
    byQuarter.push((byQuarter.at(-1) ?? 0n) + amount);
  }
  if (byQuarter.length > 0) yield end();
}
