/** Every report as data: the same for JSON, CSV, charts and the dashboard. */
import { createHash } from "node:crypto";
import { LRUCache } from "lru-cache";
import { type Instant, localDateAt } from "../calendar.ts";
import { createSumsOf, type Sums } from "../rollups/query.ts";
import { type AnalyticsDatabase, type Freshness, readFreshness } from "../rollups/store.ts";
import type { Dimension, Stream } from "../rollups/types.ts";
import { type ActivityReport, reportActivity } from "./activity.ts";
import { type BillingReport, reportBilling } from "./billing.ts";
import { type Breakdown, breakDown } from "./breakdown.ts";
import { type PatientReport, reportPatients } from "./patients.ts";
import { type Period, type PeriodQuery, periodFrom } from "./period.ts";
import { type SummaryReport, summarize } from "./summary.ts";

/** How far the log had come when a report was made. What came later may be in it too. */
export type AsOf = {
  /** The latest event; null while there is none. */
  eventTime: string | null;
  /** The next offset of each partition, by `<topic>/<partition>`. */
  offsets: Record<string, string>;
};

export type Head = { from: string; to: string; interval: "day" | "week" | "month"; timeZone: string; asOf: AsOf };

/** A report that can be made, and a tag of what it would say: the same tag, the same numbers. */
export type Plan<T> = { tag: string; asOf: AsOf; make(): Promise<Head & T> };

export type Reports = {
  patients(query: PeriodQuery & { by?: Dimension | undefined }, detail: boolean): Promise<Plan<PatientReport & { breakdown?: Breakdown }>>;
  /** The breakdown alone, over the whole period. */
  breakdown(query: PeriodQuery & { by: Dimension }, detail: boolean): Promise<Plan<{ breakdown: Breakdown }>>;
  billing(query: PeriodQuery & { currency?: string | undefined }): Promise<Plan<BillingReport>>;
  activity(query: PeriodQuery, detail: boolean): Promise<Plan<ActivityReport>>;
  summary(query: PeriodQuery & { currency?: string | undefined }): Promise<Plan<SummaryReport>>;
  /** What a report, or a page of them, says in one form: by its tag where that was written before, and once for all who ask at the same time. */
  text(tag: string, write: () => Promise<string>): Promise<string>;
};

export function createReports(options: { database: AnalyticsDatabase; now: () => Instant }): Reports {
  const { database, now } = options;
  const sumsOf = createSumsOf(database);
  let reading: Promise<Freshness> | undefined;
  /** One reading for all the reports that are planned at once: a page has six of them. */
  function freshnessNow(): Promise<Freshness> {
    reading ??= Promise.resolve().then(() => {
      reading = undefined;
      return readFreshness(database);
    });
    return reading;
  }

  async function plan<T>(
    name: string,
    query: PeriodQuery,
    streams: readonly Stream[],
    make: (period: Period, sums: Sums) => Promise<T>,
    further: unknown[] = [],
  ): Promise<Plan<T>> {
    const period = periodFrom(query, now());
    const freshness = await freshnessNow();
    const asOf = asOfFrom(freshness, streams);
    const { from, to, interval, timeZone } = period;
    // Ages and what is overdue change with the day, even where nothing happens.
    const { generation, replayedAt } = freshness;
    const key = [name, from, to, interval, timeZone, localDateAt(now(), timeZone), generation, replayedAt, asOf, further];
    const tag = createHash("sha256").update(JSON.stringify(key)).digest("base64url").slice(0, 22);
    return {
      tag,
      asOf,
      make: async () => ({ from, to, interval, timeZone, asOf, ...(await make(period, sumsOf(generation))) }),
    };
  }

  return {
    text: createTexts(),
    patients: ({ by, ...query }, detail) =>
      plan(
        "patients",
        query,
        ["patient.v1"],
        async (period, sums) => {
          const [report, breakdown] = await Promise.all([
            reportPatients(period, sums),
            by === undefined ? undefined : breakDown(period, by, detail, sums, now()),
          ]);
          return { ...report, ...(breakdown && { breakdown }) };
        },
        [by, by !== undefined && detail],
      ),
    breakdown: ({ by, ...query }, detail) =>
      plan("breakdown", query, ["patient.v1"], async (period, sums) => ({ breakdown: await breakDown(period, by, detail, sums, now()) }), [
        by,
        detail,
      ]),
    billing: ({ currency, ...query }) =>
      // Charges grow older by the quarter of an hour.
      plan("billing", query, ["billing.v1"], (period, sums) => reportBilling(period, currency, sums, now()), [currency, quarterOf(now())]),
    activity: (query, detail) => plan("activity", query, ["auth.v1"], (period, sums) => reportActivity(period, detail, sums), [detail]),
    summary: ({ currency, ...query }) =>
      plan("summary", query, ["patient.v1", "billing.v1", "auth.v1"], (period, sums) => summarize(period, currency, sums, now()), [
        currency,
        quarterOf(now()),
      ]),
  };
}

/**
 * A dashboard on the wall asks again and again. Kept are the texts and not the reports that they are made of: to the garbage
 * collector a text is one thing, and the report of a year thousands.
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

function quarterOf(now: Instant): number {
  return Math.floor(now / 900_000);
}

export function asOfFrom({ watermarks }: Freshness, streams: readonly Stream[]): AsOf {
  const marks = watermarks.filter(({ topic }) => streams.some((stream) => topic === stream || topic.startsWith(`${stream}.`)));
  const latest = marks.reduce((time, mark) => Math.max(time, mark.eventTime.getTime()), Number.NEGATIVE_INFINITY);
  return {
    eventTime: Number.isFinite(latest) ? new Date(latest).toISOString() : null,
    offsets: Object.fromEntries(marks.map(({ topic, partition, nextOffset }) => [`${topic}/${partition}`, String(nextOffset)])),
  };
}
