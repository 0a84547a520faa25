/** What the tables hold, as types. */

/** The topics that are read. The stream of an event says how its payload is read. */
export const streams = ["patient.v1", "billing.v1", "auth.v1"] as const;
export type Stream = (typeof streams)[number];

/** The columns of the log that an event is read from. */
export type StoredEvent = { event_id: string; stream: Stream; payload: Uint8Array };

/** A quarter of an hour, counted from the epoch. */
export type Slot = number;

/**
 * Stretches of time. `date` and `dateMonth` are for what is known by its calendar day alone, the same day in every time
 * zone; `state` is for what holds now and has no time.
 */
export const grains = { quarterHour: 0, day: 2, month: 3, date: 4, dateMonth: 5, state: 6 } as const;
export type Grain = (typeof grains)[keyof typeof grains];

export type RollupRow = {
  measure: string;
  grain: Grain;
  slot: Slot;
  value: string;
  amount: bigint;
  /** Of a day: how much of the amount there was by the end of its first quarter of an hour, of its second, and so on to the 96th. */
  byQuarter: bigint[] | null;
};

/**
 * A stretch of time of which the rows of one grain are added or taken away: slots `from` (inclusive) to `until` (exclusive).
 * `part` other than 0 means of each day its first so many quarters alone.
 */
export type Segment = { grain: Grain; part: number; from: Slot; until: Slot; sign: 1 | -1 };

/** What registrations and active patients are broken down by. */
export const dimensions = ["sex", "ageBand", "city", "state"] as const;
export type Dimension = (typeof dimensions)[number];
