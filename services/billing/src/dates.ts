/** Days in UTC, as `YYYY-MM-DD`. */

const dayMs = 86_400_000;

/** The day at a moment. */
export function toDate(moment: Date): string {
  return moment.toISOString().slice(0, 10);
}

/** Whether a text of this form is a day of the calendar. The 31st of April is not. */
export function isDate(text: string): boolean {
  const time = Date.parse(`${text}T00:00:00Z`);
  return !Number.isNaN(time) && toDate(new Date(time)) === text;
}

/** The moment at which a day begins. */
export function startOf(date: string): Date {
  return new Date(`${date}T00:00:00Z`);
}

export function addDays(date: string, days: number): string {
  return toDate(new Date(startOf(date).getTime() + days * dayMs));
}

export function later(a: Date, b: Date): Date {
  return new Date(Math.max(a.getTime(), b.getTime()));
}

/**
 * The latest day for which a service may be charged: tomorrow in UTC, because east of Greenwich that day has already
 * begun.
 */
export function latestServiceDate(now: Date): string {
  return addDays(toDate(now), 1);
}
