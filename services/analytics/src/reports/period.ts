/** What every report is asked for: local days from `from` to `to`, an interval, and a time zone. */
import { z } from "@hono/zod-openapi";
import { addDays, type Instant, isDate, isTimeZone, type LocalDate, localDateAt } from "@pm/kit/calendar";
import { invalidFields } from "@pm/kit/errors";
import { countSpans, type Interval, maxSpans, mondayOf, type Span, split } from "../calendar.ts";
import type { PublishedWeeks } from "../publications/store.ts";

export type Period = { from: LocalDate; to: LocalDate; interval: Interval; timeZone: string; spans: Span[] };

const date = z
  .string()
  .refine(isDate, "must be a day that exists, such as 2026-11-21")
  .refine((text) => text >= "1900-01-01" && text <= "2100-12-31", "must be between 1900 and 2100");

export const periodQuery = {
  from: date.optional().openapi({
    format: "date",
    example: "2026-11-01",
    description:
      "The first day, in the time zone. By default 29 days before `to`. Without analytics:detail, the period begins with the Monday of its week.",
  }),
  to: date.optional().openapi({
    format: "date",
    example: "2026-11-30",
    description:
      "The last day; it is part of the period. By default today. Without analytics:detail, the period ends with the Sunday of its week, at the latest with the last week that is published.",
  }),
  interval: z
    .enum(["day", "week", "month"])
    .optional()
    .openapi({
      description: `By default \`day\`; without analytics:detail, \`week\` is the only one. Weeks begin on Monday. At most ${maxSpans} intervals.`,
    }),
  timeZone: z.string().max(64).refine(isTimeZone, "must be an IANA time zone, such as Europe/Berlin").optional().openapi({
    pattern: "^[A-Za-z0-9_+:/-]+$",
    example: "Europe/Berlin",
    description: "Its days, weeks and months count. By default the clinic's; without analytics:detail, no other is accepted.",
  }),
};

export type PeriodQuery = {
  from?: string | undefined;
  to?: string | undefined;
  interval?: Interval | undefined;
  timeZone?: string | undefined;
};

/**
 * @param clinicTimeZone the zone of a query that names none
 * @throws AppError invalid_argument if `from` is after `to`, or if there are too many intervals
 */
export function periodFrom(query: PeriodQuery, now: Instant, clinicTimeZone: string): Period {
  const { from: givenFrom, to: givenTo, interval = "day", timeZone = clinicTimeZone } = query;
  const to = givenTo ?? laterOf(localDateAt(now, timeZone), givenFrom);
  const from = givenFrom ?? addDays(to, -29);
  refuseReversed(from, to);
  if (countSpans(from, to, interval) > maxSpans)
    throw invalidFields([
      { path: "interval", message: `gives more than ${maxSpans} intervals; choose a longer interval or a shorter period` },
    ]);
  return { from, to, interval, timeZone, spans: split(from, to, interval, timeZone) };
}

/** Whole weeks. `mondays` are those of the weeks that are published. */
export type Weeks = { from: LocalDate; to: LocalDate; mondays: LocalDate[]; published: PublishedWeeks | undefined };

/** How many weeks a caller gets who names no period: a quarter of a year. */
const defaultWeeks = 13;

/**
 * The whole weeks that a period touches.
 * @param published the weeks that are published; undefined if there are none yet
 * @throws AppError invalid_argument if something else than weeks of the clinic's zone is asked for
 */
export function weeksFrom(query: PeriodQuery, published: PublishedWeeks | undefined, now: Instant, clinicTimeZone: string): Weeks {
  const { interval = "week", timeZone = clinicTimeZone } = query;
  const needs = "without the scope analytics:detail, there are only whole weeks of the clinic's days";
  const wrong = [
    ...(interval === "week" ? [] : [{ path: "interval", message: `must be week or left out: ${needs}` }]),
    ...(timeZone.toLowerCase() === clinicTimeZone.toLowerCase()
      ? []
      : [{ path: "timeZone", message: `must be ${clinicTimeZone} or left out: ${needs}` }]),
  ];
  if (wrong.length > 0) throw invalidFields(wrong);
  const last = published ? addDays(published.last, 6) : addDays(mondayOf(localDateAt(now, clinicTimeZone)), -1);
  const givenTo = query.to ?? laterOf(last, query.from);
  refuseReversed(query.from ?? givenTo, givenTo);
  const from = mondayOf(query.from ?? addDays(givenTo, -7 * (defaultWeeks - 1)));
  const end = addDays(mondayOf(givenTo), 6);
  const to = published && from <= last && end > last ? last : end;
  if (countSpans(from, to, "week") > maxSpans)
    throw invalidFields([{ path: "from", message: `gives more than ${maxSpans} weeks; choose a shorter period` }]);
  const mondays = split(from, to, "week", clinicTimeZone).map(({ start }) => start);
  return { from, to, published, mondays: mondays.filter((week) => published && week >= published.first && week <= published.last) };
}

/** The same weeks a year before: 52 weeks, so that they are whole weeks too. */
export function yearBefore(day: LocalDate): LocalDate {
  return addDays(day, -364);
}

function refuseReversed(from: LocalDate, to: LocalDate): void {
  if (from > to) throw invalidFields([{ path: "from", message: "must not be after `to`" }]);
}

function laterOf(date: LocalDate, other: LocalDate | undefined): LocalDate {
  return other !== undefined && other > date ? other : date;
}

/** Whether `periodQuery` accepts these values. */
export function isPeriod(part: { from?: string | undefined; timeZone?: string | undefined }): boolean {
  return z.object({ from: periodQuery.from, timeZone: periodQuery.timeZone }).safeParse(part).success;
}
