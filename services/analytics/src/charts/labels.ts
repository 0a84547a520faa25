/** Numbers and days as people read them, in English on every machine, so that charts are the same everywhere. */

import type { LocalDate } from "@pm/kit/calendar";
import { minorUnitDigits } from "@pm/kit/money";
import type { Interval } from "../calendar.ts";

const counts = new Intl.NumberFormat("en-GB");
const compact = new Intl.NumberFormat("en-GB", { notation: "compact", maximumFractionDigits: 1 });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
const month = new Intl.DateTimeFormat("en-GB", { month: "short", year: "numeric", timeZone: "UTC" });

export function formatCount(value: number): string {
  return counts.format(value);
}

/** 1.2k, 3.4m. */
export function formatCompact(value: number): string {
  return compact.format(value);
}

export function labelOf(start: LocalDate, interval: Interval): string {
  return (interval === "month" ? month : day).format(Date.parse(`${start}T00:00:00Z`));
}

/** The height of a bar. It is rounded, so it is good for nothing else: sums stay in minor units. */
export function majorUnits(minorUnits: bigint, currency: string): number {
  return Number(minorUnits) / 10 ** minorUnitDigits(currency);
}
