/** Days, `YYYY-MM-DD` in UTC. */

const dayMs = 86_400_000;

/** The day of a moment. */
export function toDate(moment: Date): string {
  return moment.toISOString().slice(0, 10);
}

/** Whether a text of the right form is a day of the calendar: there is no 31st of April. */
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

/** East of Greenwich it is tomorrow already, and what is done there today may be charged today. */
export function latestServiceDate(now: Date): string {
  return addDays(toDate(now), 1);
}
