/** Days of the clinic. */
import { addDays, isDate, type LocalDate, localDateAt } from "@pm/kit/calendar";
import { invalidFields } from "@pm/kit/errors";

/** Today in the clinic's time zone. */
export function today(now: Date, clinicTimeZone: string): LocalDate {
  return localDateAt(now.getTime(), clinicTimeZone);
}

/**
 * The latest day of a service or a payment: today. With the default zone, the clinic may be in any zone: then it is
 * tomorrow, a day that may have begun east of Greenwich.
 */
export function latestDay(now: Date, clinicTimeZone: string): LocalDate {
  const day = today(now, clinicTimeZone);
  return clinicTimeZone === "UTC" ? addDays(day, 1) : day;
}

type Days = { fromDate: LocalDate | undefined; toDate: LocalDate | undefined };

/**
 * The days of a filter; either end may be open. @throws AppError invalid_argument for what is no day of the calendar
 */
export function daysOf({ fromDate, toDate }: { fromDate: string; toDate: string }): Days {
  const wrong = Object.entries({ from_date: fromDate, to_date: toDate }).filter(([, day]) => day !== "" && !isDate(day));
  if (wrong.length > 0) throw invalidFields(wrong.map(([path]) => ({ path, message: "must be a day of the calendar" })));
  return { fromDate: fromDate || undefined, toDate: toDate || undefined };
}

export function later(a: Date, b: Date): Date {
  return new Date(Math.max(a.getTime(), b.getTime()));
}
