/** Days of the clinic. */
import { addDays, type LocalDate, localDateAt } from "@pm/kit/calendar";

/** Today in the clinic's time zone. */
export function today(now: Date, clinicTimeZone: string): LocalDate {
  return localDateAt(now.getTime(), clinicTimeZone);
}

/**
 * The latest day of a service or a payment: today. If the clinic has the default zone, nobody may have said
 * where it is: then it is tomorrow, because east of Greenwich that day has already begun.
 */
export function latestDay(now: Date, clinicTimeZone: string): LocalDate {
  const day = today(now, clinicTimeZone);
  return clinicTimeZone === "UTC" ? addDays(day, 1) : day;
}

export function later(a: Date, b: Date): Date {
  return new Date(Math.max(a.getTime(), b.getTime()));
}
