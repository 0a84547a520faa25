/** Every report as data: the same for JSON, CSV, charts and the dashboard. */
import type { Instant } from "./calendar.ts";
import { type PatientReport, reportPatients } from "./patient-report.ts";
import { type Period, type PeriodQuery, periodFrom } from "./period.ts";
import { type AnalyticsDatabase, type Freshness, readFreshness } from "./store.ts";
import { createSums } from "./sums.ts";

/** How far the log had come when a report was made. */
export type AsOf = {
  /** The latest event; null while there is none. */
  eventTime: string | null;
  /** The next offset of each partition, by `<topic>/<partition>`. */
  offsets: Record<string, string>;
};

export type Head = { from: string; to: string; interval: string; timeZone: string; asOf: AsOf };

export type Reports = {
  patients(query: PeriodQuery): Promise<Head & PatientReport>;
};

export function createReports(options: { database: AnalyticsDatabase; now: () => Instant }): Reports {
  const { database, now } = options;
  return {
    async patients(query) {
      const period = periodFrom(query, now());
      const freshness = await readFreshness(database);
      return { ...headOf(period, freshness), ...(await reportPatients(period, createSums(database, freshness))) };
    },
  };
}

function headOf({ from, to, interval, timeZone }: Period, { watermarks }: Freshness): Head {
  const latest = watermarks.reduce((time, mark) => Math.max(time, mark.eventTime.getTime()), Number.NEGATIVE_INFINITY);
  return {
    from,
    to,
    interval,
    timeZone,
    asOf: {
      eventTime: Number.isFinite(latest) ? new Date(latest).toISOString() : null,
      offsets: Object.fromEntries(watermarks.map(({ topic, partition, nextOffset }) => [`${topic}/${partition}`, String(nextOffset)])),
    },
  };
}
