/** Which reports the page shows, for which period. */
import { addDays, type Instant, localDateAt } from "@pm/kit/calendar";
import { countSpans } from "../calendar.ts";
import type { Charts } from "../charts/renderer.ts";
import { isPeriod, periodFrom } from "../reports/period.ts";
import { type Reports, tagOf } from "../reports/reports.ts";
import { type DashboardQuery, dashboardPage } from "./page.ts";

/** What the query may have; values that cannot be used are among them. */
export type Asked = Partial<Record<"from" | "to" | "interval" | "timeZone" | "currency", string | undefined>>;

/** More intervals are hard to read in a chart, and the page should stay below 100 kB. */
const maxIntervals = 62;

const intervals = ["day", "week", "month"] as const;

/** The query with a usable value in place of each wrong one, and the names of these, which the page shows. */
export function usableQuery(asked: Asked, viewer: { detail: boolean; clinicTimeZone: string; now: Instant }): PageQuery {
  const { detail, clinicTimeZone, now } = viewer;
  const day = (text: string | undefined) => (text && isPeriod({ from: text }) ? text : undefined);
  const usable = {
    from: day(asked.from),
    to: day(asked.to),
    interval: intervals.find((each) => each === asked.interval),
    timeZone: asked.timeZone && isPeriod({ timeZone: asked.timeZone }) ? asked.timeZone : undefined,
    currency: asked.currency && /^[A-Z]{3}$/.test(asked.currency) ? asked.currency : undefined,
  };
  const unused = (Object.keys(usable) as (keyof Asked)[]).filter((name) => asked[name] && usable[name] === undefined);
  const { currency } = usable;
  let [first, last] = [usable.from, usable.to];
  if (first && last && first > last) [first, last] = [last, first];
  if (!detail) {
    const end = last ?? localDateAt(now, clinicTimeZone);
    if (first && countSpans(first, end, "week") > maxIntervals) first = addDays(end, -7 * (maxIntervals - 2));
    return { detail, from: first, to: last, interval: "week", requestedInterval: "week", timeZone: clinicTimeZone, currency, unused };
  }
  const { timeZone = clinicTimeZone, interval: requested = "day" } = usable;
  const { from, to } = periodFrom({ from: first, to: last, interval: "month", timeZone }, now, clinicTimeZone);
  const fitting = intervals.filter((each) => countSpans(from, to, each) <= maxIntervals);
  const interval = fitting.includes(requested) ? requested : (fitting[0] ?? "month");
  return { detail, from, to, interval, requestedInterval: requested, timeZone, currency, unused };
}

/** The reports choose the days that are missing. */
type PageQuery = Omit<DashboardQuery, "from" | "to"> & { from: string | undefined; to: string | undefined };

/** Plans every report of the page, so that the page has a tag before anything is added up. */
export async function planPage(
  query: PageQuery,
  { reports, charts, release }: { reports: Reports; charts: Charts; release: string },
): Promise<{ etag: string; show: () => Promise<string> }> {
  const { detail, from, to, interval, timeZone, currency } = query;
  const period = { from, to, interval, timeZone };
  const [patients, byAge, bySex, byCity, billing, activity] = await Promise.all([
    reports.patients(period, detail),
    reports.breakdown({ ...period, by: "ageBand" }, detail),
    reports.breakdown({ ...period, by: "sex" }, detail),
    reports.breakdown({ ...period, by: "city" }, detail),
    reports.billing({ ...period, currency }, detail),
    reports.activity(period, detail),
  ]);
  const etag = `W/"${tagOf([release, query, [patients, byAge, bySex, byCity, billing, activity].map((plan) => plan.tag)])}"`;
  return {
    etag,
    async show() {
      const [madePatients, madeAge, madeSex, madeCity, madeBilling, madeActivity] = await Promise.all([
        patients.make(),
        byAge.make(),
        bySex.make(),
        byCity.make(),
        billing.make(),
        activity.make(),
      ]);
      const made = {
        patients: madePatients,
        byAge: madeAge,
        bySex: madeSex,
        byCity: madeCity,
        billing: madeBilling,
        activity: madeActivity,
      };
      const shown = { ...query, from: madePatients.from, to: madePatients.to };
      return dashboardPage({ release, tag: etag, query: shown, reports: made, charts });
    },
  };
}
