/**
 * Days of a time zone as instants. Time zones come only from the ICU data of Node: a second source with other rules
 * could put a registration on another day.
 */
import { LRUCache } from "lru-cache";

/** A day of the calendar, `YYYY-MM-DD`. */
export type LocalDate = string;
/** Milliseconds since the epoch. */
export type Instant = number;

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
  // Formatting takes 2 µs, which an import would pay for each line.
  if (timeZone === "UTC") return 0;
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

// The year after 9999 is `+010000`, so the text is not cut at ten characters.
const dateOf = memoize(5_000, (day: number): LocalDate => new Date(day * dayMs).toISOString().replace(/T.*/, ""));

export function toDate(instant: Instant): LocalDate {
  return dateOf(Math.floor(instant / dayMs));
}

export function isDate(text: string): boolean {
  return /^\d{4}-\d\d-\d\d$/.test(text) && !Number.isNaN(utcMidnight(text)) && toDate(utcMidnight(text)) === text;
}

export function addDays(date: LocalDate, days: number): LocalDate {
  return toDate(utcMidnight(date) + days * dayMs);
}
