/** What every report is asked for: local days from `from` to `to`, an interval, and a time zone. */
import { z } from "@hono/zod-openapi";
import { addDays, type Instant, isDate, isTimeZone, type LocalDate, localDateAt } from "@pm/kit/calendar";
import { invalidFields } from "@pm/kit/errors";
import { countSpans, type Interval, maxSpans, type Span, split } from "../calendar.ts";

export type Period = { from: LocalDate; to: LocalDate; interval: Interval; timeZone: string; spans: Span[] };

const date = z
  .string()
  .refine(isDate, "must be a day that exists, such as 2026-11-21")
  .refine((text) => text >= "1900-01-01" && text <= "2100-12-31", "must be between 1900 and 2100");

export const periodQuery = {
  from: date
    .optional()
    .openapi({ format: "date", example: "2026-11-01", description: "The first day, in the time zone. By default 29 days before `to`." }),
  to: date
    .optional()
    .openapi({ format: "date", example: "2026-11-30", description: "The last day; it is part of the period. By default today." }),
  interval: z
    .enum(["day", "week", "month"])
    .default("day")
    .openapi({ description: `Weeks begin on Monday. At most ${maxSpans} intervals.` }),
  timeZone: z
    .string()
    .max(64)
    .refine(isTimeZone, "must be an IANA time zone, such as Europe/Berlin")
    .optional()
    .openapi({ example: "Europe/Berlin", description: "Its days, weeks and months count. By default the clinic's." }),
};

export type PeriodQuery = {
  from?: string | undefined;
  to?: string | undefined;
  interval: Interval;
  timeZone?: string | undefined;
};

/**
 * @param clinicTimeZone the zone of a query that names none
 * @throws AppError invalid_argument if `from` is after `to`, or if there are too many intervals
 */
export function periodFrom(query: PeriodQuery, now: Instant, clinicTimeZone: string): Period {
  const { from: givenFrom, to: givenTo, interval, timeZone = clinicTimeZone } = query;
  const to = givenTo ?? laterOf(localDateAt(now, timeZone), givenFrom);
  const from = givenFrom ?? addDays(to, -29);
  if (from > to) throw invalidFields([{ path: "from", message: "must not be after `to`" }]);
  if (countSpans(from, to, interval) > maxSpans)
    throw invalidFields([
      { path: "interval", message: `gives more than ${maxSpans} intervals; choose a longer interval or a shorter period` },
    ]);
  return { from, to, interval, timeZone, spans: split(from, to, interval, timeZone) };
}

function laterOf(date: LocalDate, other: LocalDate | undefined): LocalDate {
  return other !== undefined && other > date ? other : date;
}

/** Whether `periodQuery` accepts these values. */
export function isPeriod(part: { from?: string | undefined; timeZone?: string | undefined }): boolean {
  return z.object({ from: periodQuery.from, timeZone: periodQuery.timeZone }).safeParse(part).success;
}
