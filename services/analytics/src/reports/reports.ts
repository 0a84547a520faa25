/** Every report as data: the same for JSON, CSV, charts and the dashboard. */
import { createHash } from "node:crypto";
import { addDays, type Instant, type LocalDate, localDateAt } from "@pm/kit/calendar";
import { LRUCache } from "lru-cache";
import { type Freshness, readFreshness } from "../ingest/store.ts";
import type { Dimension } from "../measures.ts";
import { publishedWeeks } from "../publications/store.ts";
import { createRollupQueries, type RollupQuery } from "../rollups/query.ts";
import { slotOf } from "../rollups/slots.ts";
import type { AnalyticsDatabase, Stream } from "../tables.ts";
import { type ActivityReport, reportActivity } from "./activity.ts";
import { type BillingReport, reportBilling } from "./billing.ts";
import { type Breakdown, breakDown } from "./breakdown.ts";
import { type PatientReport, reportPatients } from "./patients.ts";
import { type Period, type PeriodQuery, periodFrom, type Weeks, weeksFrom } from "./period.ts";
import { publishedActivity, publishedBilling, publishedBreakdown, publishedPatients, publishedSummary } from "./published.ts";
import { type SummaryReport, summarize } from "./summary.ts";

/** How far the events were read when a report was made. Later events may be in it too. */
export type AsOf = {
  /** The time of the latest event; null if there is none yet. */
  eventTime: string | null;
  /** The next offset of each partition, by `<topic>/<partition>`. */
  offsets: Record<string, string>;
};

/** Which numbers a report has: all that are counted, or those that are published, up to a day. */
export type Source = { asOf: AsOf | null; publishedTo: LocalDate | null };

export type Head = Source & { from: string; to: string; interval: "day" | "week" | "month"; timeZone: string };

/** A report that can be made. Reports with the same tag have the same numbers. */
export type Plan<T> = { tag: string; source: Source; make(): Promise<Head & T> };

/** With `detail`, reports have all numbers until now; without it, those of weekly publications. */
export type Reports = {
  patients(query: PeriodQuery & { by?: Dimension | undefined }, detail: boolean): Promise<Plan<PatientReport & { breakdown?: Breakdown }>>;
  /** The breakdown alone, over the whole period. */
  breakdown(query: PeriodQuery & { by: Dimension }, detail: boolean): Promise<Plan<{ breakdown: Breakdown }>>;
  billing(query: PeriodQuery & { currency?: string | undefined }, detail: boolean): Promise<Plan<BillingReport>>;
  activity(query: PeriodQuery, detail: boolean): Promise<Plan<ActivityReport>>;
  summary(query: PeriodQuery & { currency?: string | undefined }, detail: boolean): Promise<Plan<SummaryReport>>;
  /**
   * The text of a report, or of a page of reports, by its tag. It is written only if it is not kept from before;
   * callers that ask at the same time share it.
   */
  text(tag: string, write: () => Promise<string>): Promise<string>;
};

export function createReports(options: { db: AnalyticsDatabase; now: () => Instant; clinicTimeZone: string }): Reports {
  const { db, now, clinicTimeZone } = options;
  const queryOf = createRollupQueries(db);
  const freshness = shareWhileStarting(() => readFreshness(db));
  const published = shareWhileStarting(() => publishedWeeks(db));

  /** @param further what the numbers depend on besides the period and the events */
  async function live<T>(
    name: string,
    query: PeriodQuery,
    streams: readonly Stream[],
    make: (period: Period, rollups: RollupQuery) => Promise<T>,
    further: unknown[] = [],
  ): Promise<Plan<T>> {
    const period = periodFrom(query, now(), clinicTimeZone);
    const known = await freshness();
    const { generation, replayedAt } = known;
    const source = { asOf: asOfFrom(known, streams), publishedTo: null };
    const { from, to, interval, timeZone } = period;
    // Ages and what is overdue change with the day, even if nothing happens.
    const today = localDateAt(now(), timeZone);
    const tag = tagOf([name, from, to, interval, timeZone, today, generation, replayedAt, source.asOf, further]);
    return {
      tag,
      source,
      make: async () => ({ from, to, interval, timeZone, ...source, ...(await make(period, queryOf(generation))) }),
    };
  }

  /** No part of the plan depends on what has happened since the last publication. */
  async function ofWeeks<T>(
    name: string,
    query: PeriodQuery,
    make: (weeks: Weeks) => Promise<T>,
    further: unknown[] = [],
  ): Promise<Plan<T>> {
    const known = await published();
    const weeks = weeksFrom(query, known, now(), clinicTimeZone);
    const { from, to } = weeks;
    const source = { asOf: null, publishedTo: known ? addDays(known.last, 6) : null };
    return {
      tag: tagOf(["published", name, from, to, clinicTimeZone, known, further]),
      source,
      make: async () => ({ from, to, interval: "week", timeZone: clinicTimeZone, ...source, ...(await make(weeks)) }),
    };
  }

  return {
    text: createTexts(),
    patients({ by, ...query }, detail) {
      const withBreakdown = async (patients: Promise<PatientReport>, breakdown: Promise<Breakdown> | undefined) => {
        const [report, parts] = await Promise.all([patients, breakdown]);
        return { ...report, ...(parts && { breakdown: parts }) };
      };
      if (!detail) {
        const parts = (weeks: Weeks) => (by === undefined ? undefined : publishedBreakdown(weeks, by, db));
        return ofWeeks("patients", query, (weeks) => withBreakdown(publishedPatients(weeks, db), parts(weeks)), [by]);
      }
      const parts = (period: Period, rollups: RollupQuery) => (by === undefined ? undefined : breakDown(period, by, rollups, now()));
      const make = (period: Period, rollups: RollupQuery) => withBreakdown(reportPatients(period, rollups), parts(period, rollups));
      return live("patients", query, ["patient.v1"], make, [by]);
    },
    breakdown({ by, ...query }, detail) {
      if (!detail) return ofWeeks("breakdown", query, async (weeks) => ({ breakdown: await publishedBreakdown(weeks, by, db) }), [by]);
      const make = async (period: Period, rollups: RollupQuery) => ({ breakdown: await breakDown(period, by, rollups, now()) });
      return live("breakdown", query, ["patient.v1"], make, [by]);
    },
    billing({ currency, ...query }, detail) {
      if (!detail) return ofWeeks("billing", query, (weeks) => publishedBilling(weeks, currency, db), [currency]);
      const make = (period: Period, rollups: RollupQuery) => reportBilling(period, currency, rollups, now());
      // Charges grow older by the quarter of an hour.
      return live("billing", query, ["billing.v1"], make, [currency, slotOf(now())]);
    },
    activity: (query, detail) =>
      detail ? live("activity", query, ["auth.v1"], reportActivity) : ofWeeks("activity", query, (weeks) => publishedActivity(weeks, db)),
    summary({ currency, ...query }, detail) {
      if (!detail) return ofWeeks("summary", query, (weeks) => publishedSummary(weeks, currency, db), [currency]);
      const make = (period: Period, rollups: RollupQuery) => summarize(period, currency, rollups, now());
      return live("summary", query, ["patient.v1", "billing.v1", "auth.v1"], make, [currency, slotOf(now())]);
    },
  };
}

/** A short name for a version of an answer. */
export function tagOf(parts: unknown[]): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("base64url").slice(0, 22);
}

/** Callers within the same moment share one call: a page plans six reports at once. */
function shareWhileStarting<T>(call: () => Promise<T>): () => Promise<T> {
  let starting: Promise<T> | undefined;
  return () => {
    starting ??= Promise.resolve().then(() => {
      starting = undefined;
      return call();
    });
    return starting;
  };
}

/**
 * A dashboard that is open all day asks again and again. Texts are kept, not the reports that they are made of: to the
 * garbage collector, a text is one object, and the report of a year is thousands.
 */
function createTexts(): Reports["text"] {
  const written = new LRUCache<string, string>({ maxSize: 4 * 1024 * 1024, sizeCalculation: (text) => text.length + 1 });
  const underWay = new Map<string, Promise<string>>();
  return async (tag, write) => {
    const known = written.get(tag) ?? underWay.get(tag);
    if (known !== undefined) return known;
    const writing = write();
    underWay.set(tag, writing);
    try {
      const text = await writing;
      written.set(tag, text);
      return text;
    } finally {
      underWay.delete(tag);
    }
  };
}

export function asOfFrom({ watermarks }: Freshness, streams: readonly Stream[]): AsOf {
  const marks = watermarks.filter(({ topic }) => streams.some((stream) => topic === stream || topic.startsWith(`${stream}.`)));
  const latest = marks.reduce((time, mark) => Math.max(time, mark.eventTime.getTime()), Number.NEGATIVE_INFINITY);
  return {
    eventTime: Number.isFinite(latest) ? new Date(latest).toISOString() : null,
    offsets: Object.fromEntries(marks.map(({ topic, partition, nextOffset }) => [`${topic}/${partition}`, String(nextOffset)])),
  };
}
