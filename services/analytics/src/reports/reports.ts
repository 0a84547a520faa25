/** Every report as data: the same for JSON, CSV, charts and the dashboard. */
import { createHash } from "node:crypto";
import { type Instant, localDateAt } from "@pm/kit/calendar";
import { LRUCache } from "lru-cache";
import { type Freshness, readFreshness } from "../ingest/store.ts";
import type { Dimension } from "../measures.ts";
import { createRollupQueries, type RollupQuery } from "../rollups/query.ts";
import { slotOf } from "../rollups/slots.ts";
import type { AnalyticsDatabase, Stream } from "../tables.ts";
import { type ActivityReport, reportActivity } from "./activity.ts";
import { type BillingReport, reportBilling } from "./billing.ts";
import { type Breakdown, breakDown } from "./breakdown.ts";
import { type PatientReport, reportPatients } from "./patients.ts";
import { type Period, type PeriodQuery, periodFrom } from "./period.ts";
import { type SummaryReport, summarize } from "./summary.ts";

/** How far the events were read when a report was made. Later events may be in it too. */
export type AsOf = {
  /** The time of the latest event; null if there is none yet. */
  eventTime: string | null;
  /** The next offset of each partition, by `<topic>/<partition>`. */
  offsets: Record<string, string>;
};

export type Head = { from: string; to: string; interval: "day" | "week" | "month"; timeZone: string; asOf: AsOf };

/** A report that can be made. Reports with the same tag have the same numbers. */
export type Plan<T> = { tag: string; asOf: AsOf; make(): Promise<Head & T> };

/** `detail`: with small counts. */
export type Reports = {
  patients(query: PeriodQuery & { by?: Dimension | undefined }, detail: boolean): Promise<Plan<PatientReport & { breakdown?: Breakdown }>>;
  /** The breakdown alone, over the whole period. */
  breakdown(query: PeriodQuery & { by: Dimension }, detail: boolean): Promise<Plan<{ breakdown: Breakdown }>>;
  billing(query: PeriodQuery & { currency?: string | undefined }): Promise<Plan<BillingReport>>;
  activity(query: PeriodQuery, detail: boolean): Promise<Plan<ActivityReport>>;
  summary(query: PeriodQuery & { currency?: string | undefined }): Promise<Plan<SummaryReport>>;
  /**
   * The text of a report, or of a page of reports, by its tag. It is written only if it is not kept from before;
   * callers that ask at the same time share it.
   */
  text(tag: string, write: () => Promise<string>): Promise<string>;
};

export function createReports(options: { database: AnalyticsDatabase; now: () => Instant; clinicTimeZone: string }): Reports {
  const { database, now, clinicTimeZone } = options;
  const queryOf = createRollupQueries(database);
  const freshness = shareWhileStarting(() => readFreshness(database));

  /** @param further what the numbers depend on besides the period and the events */
  async function plan<T>(
    name: string,
    query: PeriodQuery,
    streams: readonly Stream[],
    make: (period: Period, rollups: RollupQuery) => Promise<T>,
    further: unknown[] = [],
  ): Promise<Plan<T>> {
    const period = periodFrom(query, now(), clinicTimeZone);
    const known = await freshness();
    const { generation, replayedAt } = known;
    const asOf = asOfFrom(known, streams);
    const { from, to, interval, timeZone } = period;
    // Ages and what is overdue change with the day, even if nothing happens.
    const today = localDateAt(now(), timeZone);
    const tag = tagOf([name, from, to, interval, timeZone, today, generation, replayedAt, asOf, further]);
    return {
      tag,
      asOf,
      make: async () => ({ from, to, interval, timeZone, asOf, ...(await make(period, queryOf(generation))) }),
    };
  }

  return {
    text: createTexts(),
    patients: ({ by, ...query }, detail) =>
      plan(
        "patients",
        query,
        ["patient.v1"],
        async (period, rollups) => {
          const [report, breakdown] = await Promise.all([
            reportPatients(period, rollups),
            by === undefined ? undefined : breakDown(period, by, detail, rollups, now()),
          ]);
          return { ...report, ...(breakdown && { breakdown }) };
        },
        [by, by !== undefined && detail],
      ),
    breakdown({ by, ...query }, detail) {
      const make = async (period: Period, rollups: RollupQuery) => ({ breakdown: await breakDown(period, by, detail, rollups, now()) });
      return plan("breakdown", query, ["patient.v1"], make, [by, detail]);
    },
    billing({ currency, ...query }) {
      const make = (period: Period, rollups: RollupQuery) => reportBilling(period, currency, rollups, now());
      // Charges grow older by the quarter of an hour.
      return plan("billing", query, ["billing.v1"], make, [currency, slotOf(now())]);
    },
    activity: (query, detail) =>
      plan("activity", query, ["auth.v1"], (period, rollups) => reportActivity(period, detail, rollups), [detail]),
    summary({ currency, ...query }) {
      const make = (period: Period, rollups: RollupQuery) => summarize(period, currency, rollups, now());
      return plan("summary", query, ["patient.v1", "billing.v1", "auth.v1"], make, [currency, slotOf(now())]);
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
 * A dashboard that is open all day asks again and again. Texts are kept, not the reports that they are made of: to the garbage
 * collector, a text is one object, and the report of a year is thousands.
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
