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
export const grains = { quarter: 0, hour: 1, day: 2, month: 3, date: 4, dateMonth: 5, state: 6 } as const;
export type Grain = (typeof grains)[keyof typeof grains];

export type RollupRow = { measure: string; grain: Grain; slot: Slot; value: string; amount: bigint };

/** A stretch of time of which the rows of one grain are wanted: slots `from` (inclusive) to `until` (exclusive). */
export type Segment = { grain: Grain; from: Slot; until: Slot };

/** What registrations and active patients are broken down by. */
export const dimensions = ["sex", "ageBand", "city", "state"] as const;
export type Dimension = (typeof dimensions)[number];
