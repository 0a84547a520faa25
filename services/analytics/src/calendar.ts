/** Periods of local days, and ages. */
import { addDays, dayMs, type Instant, isDate, type LocalDate, startOfDay, toDate, utcMidnight } from "@pm/kit/calendar";

export type Interval = "day" | "week" | "month";

/**
 * A part of a period: local days from `start` to `end` (inclusive), which are the instants from `from` (inclusive) to
 * `until` (exclusive).
 */
export type Span = { start: LocalDate; end: LocalDate; from: Instant; until: Instant };

/** The same day of another year; 29 February becomes the 28th if that year has no 29th. */
export function addYears(date: LocalDate, years: number): LocalDate {
  const moved = `${Number(date.slice(0, 4)) + years}${date.slice(4)}`;
  return date.endsWith("-02-29") && !isDate(moved) ? moved.replace(/29$/, "28") : moved;
}

/** Completed years of life on a day. A person who was born on 29 February is a year older on 1 March. */
export function ageOn(birth: LocalDate, date: LocalDate): number {
  const years = Number(date.slice(0, 4)) - Number(birth.slice(0, 4));
  return date.slice(5) < birth.slice(5) ? years - 1 : years;
}

export function spanOf(start: LocalDate, end: LocalDate, timeZone: string): Span {
  return { start, end, from: startOfDay(start, timeZone), until: startOfDay(addDays(end, 1), timeZone) };
}

/** How many intervals a report has at most. */
export const maxSpans = 400;

/**
 * Splits the local days from `from` to `to` (inclusive) by interval. Weeks begin on Monday. The first and the last
 * interval are cut to the period.
 */
export function split(from: LocalDate, to: LocalDate, interval: Interval, timeZone: string): Span[] {
  const spans: Span[] = [];
  for (let start = from; start <= to; ) {
    const last = lastDayOf(start, interval);
    const end = last < to ? last : to;
    spans.push(spanOf(start, end, timeZone));
    start = addDays(end, 1);
  }
  return spans;
}

/** How many intervals `split` would make, or one more. It does not compute them. */
export function countSpans(from: LocalDate, to: LocalDate, interval: Interval): number {
  const days = (utcMidnight(to) - utcMidnight(from)) / dayMs + 1;
  return interval === "day" ? days : interval === "week" ? Math.ceil(days / 7) + 1 : Math.ceil(days / 28) + 1;
}

/** The first day of the week of a day. */
export function mondayOf(date: LocalDate): LocalDate {
  return addDays(lastDayOf(date, "week"), -6);
}

function lastDayOf(date: LocalDate, interval: Interval): LocalDate {
  const midnight = new Date(utcMidnight(date));
  if (interval === "day") return date;
  if (interval === "week") return addDays(date, (7 - midnight.getUTCDay()) % 7);
  return toDate(Date.UTC(midnight.getUTCFullYear(), midnight.getUTCMonth() + 1, 0));
}
