/**
 * Local days as instants. Time zones come only from the ICU data of Node: a second source with other rules could put a
 * registration on another day.
 */
import { LRUCache } from "lru-cache";

/** A day of the calendar, `YYYY-MM-DD`. */
export type LocalDate = string;
/** Milliseconds since the epoch. */
export type Instant = number;

export type Interval = "day" | "week" | "month";

/**
 * A part of a period: local days from `start` to `end` (inclusive), which are the instants from `from` (inclusive) to
 * `until` (exclusive).
 */
export type Span = { start: LocalDate; end: LocalDate; from: Instant; until: Instant };

export const dayMs = 86_400_000;

/**
 * Keeps the results of a function. A report of a year needs the same days again and again, and to format or parse them
 * takes longer than all else. When there are `maxSize` results, all are dropped: that is cheaper than to note which one
 * was used last.
 */
export function memoize<Key, Value>(maxSize: number, make: (key: Key) => Value): (key: Key) => Value {
  const known = new Map<Key, Value>();
  return (key) => {
    let value = known.get(key);
    if (value === undefined) {
      value = make(key);
      if (known.size >= maxSize) known.clear();
      known.set(key, value);
    }
    return value;
  };
}

// A formatter takes tens of kilobytes. There are some 600 zones, and each name may be in any mix of cases.
const formats = new LRUCache<string, Intl.DateTimeFormat>({ max: 100 });

/**
 * The formatter of a zone; undefined if there is no such zone. An offset such as `+02:00` is no zone, because it does
 * not change with daylight saving time.
 */
function formatOf(timeZone: string): Intl.DateTimeFormat | undefined {
  let format = formats.get(timeZone);
  if (format) return format;
  if (!/^[A-Za-z]/.test(timeZone)) return undefined;
  try {
    format = new Intl.DateTimeFormat("en-US", { timeZone, timeZoneName: "longOffset", hour: "numeric" });
  } catch {
    return undefined;
  }
  formats.set(timeZone, format);
  return format;
}

export function isTimeZone(name: string): boolean {
  return formatOf(name) !== undefined;
}

/** How far the clocks of a zone are ahead of UTC at an instant, in milliseconds. */
function offsetAt(instant: Instant, timeZone: string): number {
  const match = /GMT(?:([+-])(\d\d):(\d\d)(?::(\d\d))?)?$/.exec(formatOf(timeZone)?.format(instant) ?? "");
  const [, sign, hours, minutes, seconds = "0"] = match ?? [];
  if (!sign) return 0;
  return (sign === "-" ? -1 : 1) * (Number(hours) * 3_600 + Number(minutes) * 60 + Number(seconds)) * 1_000;
}

export function localDateAt(instant: Instant, timeZone: string): LocalDate {
  return toDate(instant + offsetAt(instant, timeZone));
}

const startsIn = memoize(20, (timeZone: string) =>
  memoize(2_000, (date: LocalDate): Instant => {
    const midnight = utcMidnight(date);
    // Clocks change at most once around a midnight, so its offset is the one of the day before or of the day after.
    const before = offsetAt(midnight - dayMs, timeZone);
    const after = offsetAt(midnight + dayMs, timeZone);
    const candidates = [midnight - before, midnight - after].sort((a, b) => a - b);
    return candidates.find((candidate) => candidate + offsetAt(candidate, timeZone) === midnight) ?? midnight - before;
  }),
);

/** The first instant of a local day. It is not midnight if clocks jump over midnight. */
export function startOfDay(date: LocalDate, timeZone: string): Instant {
  return startsIn(timeZone)(date);
}

export const utcMidnight: (date: LocalDate) => Instant = memoize(5_000, (date) => Date.parse(`${date}T00:00:00Z`));

const dateOf = memoize(5_000, (day: number): LocalDate => new Date(day * dayMs).toISOString().slice(0, 10));

export function toDate(instant: Instant): LocalDate {
  return dateOf(Math.floor(instant / dayMs));
}

export function isDate(text: string): boolean {
  return /^\d{4}-\d\d-\d\d$/.test(text) && !Number.isNaN(utcMidnight(text)) && toDate(utcMidnight(text)) === text;
}

export function addDays(date: LocalDate, days: number): LocalDate {
  return toDate(utcMidnight(date) + days * dayMs);
}

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

function lastDayOf(date: LocalDate, interval: Interval): LocalDate {
  const midnight = new Date(utcMidnight(date));
  if (interval === "day") return date;
  if (interval === "week") return addDays(date, (7 - midnight.getUTCDay()) % 7);
  return toDate(Date.UTC(midnight.getUTCFullYear(), midnight.getUTCMonth() + 1, 0));
}
