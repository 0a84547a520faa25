/** The figures of publications. A week is named by its Monday. */
import type { LocalDate } from "@pm/kit/calendar";

/** A number of one measure and value: what was counted after the week `since`, the last one shown; null: the start. */
export type Figure = { measure: string; value: string; amount: bigint; since: LocalDate | null; shown: boolean };

/** An amount that an account adds, in minor units of a currency. An account is known by its patient. */
export type AccountAmount = { measure: string; value: string; account: string; amount: bigint };
