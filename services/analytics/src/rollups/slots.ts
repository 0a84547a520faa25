/**
 * Time in the roll-ups. It is counted in slots of a quarter of an hour since the epoch, because every time zone has its
 * midnight at the start of one. A row of a coarser grain is stored under its first slot.
 */
import { type Instant, memoize } from "@pm/kit/calendar";
import { type Grain, grains, type Slot } from "./types.ts";

const slotMs = 900_000;
export const slotsPerDay = 96;

export function slotOf(instant: Instant): Slot {
  return Math.floor(instant / slotMs);
}

/** The instant at which the slot of an instant ends. */
export function endOfSlot(instant: Instant): Instant {
  return (slotOf(instant) + 1) * slotMs;
}

/** The row that a slot belongs to. */
export function rowOf(grain: Grain, slot: Slot): Slot {
  if (isByMonth(grain)) return monthOfDay(Math.floor(slot / slotsPerDay));
  const length = lengthOf(grain);
  return Math.floor(slot / length) * length;
}

/** The row after a row. */
export function nextRow(grain: Grain, row: Slot): Slot {
  return isByMonth(grain) ? startOfMonth(row, 1) : row + lengthOf(grain);
}

/** The length of a row in slots. The shortest month counts for months. */
export function lengthOf(grain: Grain): number {
  if (isByMonth(grain)) return 28 * slotsPerDay;
  return grain === grains.quarterHour ? 1 : slotsPerDay;
}

function isByMonth(grain: Grain): boolean {
  return grain === grains.month || grain === grains.dateMonth;
}

function startOfMonth(slot: Slot, monthsLater: number): Slot {
  const date = new Date(slot * slotMs);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + monthsLater, 1) / slotMs;
}

// Every fact needs its month, and a year has only 365 days.
const monthOfDay = memoize(100_000, (day: number): Slot => startOfMonth(day * slotsPerDay, 0));
