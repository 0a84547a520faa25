/**
 * The arithmetic under every report. Facts are amounts at a time; a roll-up row is the sum of the facts of one measure and
 * value within one stretch of time. Time is counted in slots of a quarter of an hour since the epoch, because every time
 * zone's midnight falls on a slot's edge; longer stretches (UTC hours, days, months) are kept beside them, so that a sum
 * over any stretch adds up few rows.
 */
import type { Instant } from "./calendar.ts";
import { type Grain, grains, type RollupRow, type Segment, type Slot } from "./schema.ts";

const slotMs = 900_000;
const slotsPerHour = 4;
const slotsPerDay = 96;

export function slotOf(instant: Instant): Slot {
  return Math.floor(instant / slotMs);
}

function monthStart(slot: Slot, monthsLater = 0): Slot {
  const date = new Date(slot * slotMs);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + monthsLater, 1) / slotMs;
}

/** Sums facts. What adds up to nothing is not kept, so that equal facts give equal tallies whatever way they came about. */
export type Tally = {
  /** Something happened at an instant. */
  atInstant(measure: string, value: string, instant: Instant, amount: bigint): void;
  /** Something happened on a calendar day, given as its midnight in UTC. */
  onDate(measure: string, value: string, midnight: Instant, amount: bigint): void;
  /** Something holds. */
  holds(measure: string, value: string, amount: bigint): void;
  /** The rows of every grain. */
  rows(): RollupRow[];
  readonly size: number;
  clear(): void;
};

export function createTally(): Tally {
  // Nested maps by grain, slot, then measure and value: a string of all four for each addition would cost more than the sum.
  const sums = new Map<string, bigint>();
  function add(grain: Grain, slot: Slot, measure: string, value: string, amount: bigint): void {
    const key = `${grain}\n${slot}\n${measure}\n${value}`;
    const sum = (sums.get(key) ?? 0n) + amount;
    if (sum === 0n) sums.delete(key);
    else sums.set(key, sum);
  }
  return {
    atInstant(measure, value, instant, amount) {
      const slot = slotOf(instant);
      add(grains.quarter, slot, measure, value, amount);
    },
    onDate(measure, value, midnight, amount) {
      add(grains.date, slotOf(midnight), measure, value, amount);
    },
    holds(measure, value, amount) {
      add(grains.state, 0, measure, value, amount);
    },
    rows() {
      const coarse = new Map<string, bigint>();
      for (const [key, amount] of sums) {
        const [grain = "", slot = "", ...rest] = key.split("\n");
        const tail = rest.join("\n");
        for (const [coarser, start] of coarserThan(Number(grain) as Grain, Number(slot))) {
          const coarseKey = `${coarser}\n${start}\n${tail}`;
          coarse.set(coarseKey, (coarse.get(coarseKey) ?? 0n) + amount);
        }
      }
      return [...sums, ...coarse].filter(([, amount]) => amount !== 0n).map(([key, amount]) => toRow(key, amount));
    },
    get size() {
      return sums.size;
    },
    clear: () => sums.clear(),
  };
}

function toRow(key: string, amount: bigint): RollupRow {
  const [grain = "", slot = "", measure = "", ...value] = key.split("\n");
  return { grain: Number(grain) as Grain, slot: Number(slot), measure, value: value.join("\n"), amount };
}

function coarserThan(grain: Grain, slot: Slot): [Grain, Slot][] {
  if (grain === grains.quarter)
    return [
      [grains.hour, lastEdge(grains.hour, slot)],
      [grains.day, lastEdge(grains.day, slot)],
      [grains.month, monthStart(slot)],
    ];
  return grain === grains.date ? [[grains.dateMonth, monthStart(slot)]] : [];
}

/** The fewest stretches that make up the slots `from` to `until`: months in the middle, then days, hours and quarters towards the edges. */
export function cover(from: Slot, until: Slot): Segment[] {
  return coverBy([grains.month, grains.day, grains.hour, grains.quarter], from, until);
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
