/** Roll-up rows, and the stretches of time that they are asked for. */

/** A quarter of an hour, counted from the epoch. */
export type Slot = number;

/**
 * What a row sums up. `date` and `dateMonth` are for facts that are known by their calendar day only, which is the same
 * day in every time zone. `state` is for what holds now and has no time.
 */
export const grains = { quarterHour: 0, day: 2, month: 3, date: 4, dateMonth: 5, state: 6 } as const;
export type Grain = (typeof grains)[keyof typeof grains];

export type RollupRow = {
  measure: string;
  grain: Grain;
  slot: Slot;
  value: string;
  amount: bigint;
  /** For a day: the amount by the end of each of its 96 quarters of an hour. */
  byQuarter: bigint[] | null;
};

/**
 * Rows of one grain, from slot `from` (inclusive) to `until` (exclusive), that are added or subtracted. If `part` is
 * not 0, only the first `part` quarters of an hour of each day count.
 */
export type Segment = { grain: Grain; part: number; from: Slot; until: Slot; sign: 1 | -1 };
