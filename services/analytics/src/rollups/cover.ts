/** Which rows make up a stretch of time: as few as possible. */
import { isBrokenDown } from "./aggregate.ts";
import { lengthOf, nextRow, rowOf, slotsPerDay } from "./slots.ts";
import { type Grain, grains, type Segment, type Slot } from "./types.ts";

/** The segments that add up to exactly what happened from slot `from` (inclusive) to `until` (exclusive). */
export type Cover = (from: Slot, until: Slot) => Segment[];

/** How to cover a stretch with rows of some measures, which must all be stored in the same grains. */
export function coverFor(measures: readonly string[]): Cover {
  const finer = measures.some(isBrokenDown) ? coverWith(grains.day, coverWith(grains.quarterHour)) : coverByParts;
  return coverWith(grains.month, finer);
}

/** How to cover a stretch of calendar days with facts that are known by their calendar day only. */
export const coverDates: Cover = coverWith(grains.dateMonth, coverWith(grains.date));

/**
 * Covers the middle of a stretch with rows of a grain, and both ends with a finer grain. If it takes fewer rows, the
 * middle goes beyond the stretch, and what is too much is subtracted.
 */
function coverWith(grain: Grain, finer: Cover = () => []): Cover {
  return (from, until) => {
    // In a stretch of less than half a row, the row would always have more too much than it saves.
    if ((until - from) * 2 <= lengthOf(grain)) return finer(from, until);
    const [first, last] = [nearestRow(grain, from), nearestRow(grain, until)];
    const atEnds = Math.abs(first - from) + Math.abs(last - until);
    if (first >= last || atEnds >= until - from) return finer(from, until);
    return [
      ...(first < from ? subtracted(finer(first, from)) : finer(from, first)),
      { grain, part: 0, from: first, until: last, sign: 1 },
      ...(until < last ? subtracted(finer(until, last)) : finer(last, until)),
    ];
  };
}

/** Whole days, less the part of the first day before the stretch, plus the part of the last day within the stretch. */
function coverByParts(from: Slot, until: Slot): Segment[] {
  const [first, last] = [rowOf(grains.day, from), rowOf(grains.day, until)];
  const segments: Segment[] = [];
  const add = (part: number, start: Slot, end: Slot, sign: 1 | -1) =>
    segments.push({ grain: grains.day, part, from: start, until: end, sign });
  if (from > first) add(from - first, first, first + slotsPerDay, -1);
  if (last > first) add(0, first, last, 1);
  if (until > last) add(until - last, last, last + slotsPerDay, 1);
  return segments;
}

function subtracted(segments: Segment[]): Segment[] {
  return segments.map((segment) => ({ ...segment, sign: segment.sign === 1 ? -1 : 1 }));
}

/** The row whose start is nearest to a slot. */
function nearestRow(grain: Grain, slot: Slot): Slot {
  const before = rowOf(grain, slot);
  const after = nextRow(grain, before);
  return slot - before < after - slot ? before : after;
}
