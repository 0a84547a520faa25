/**
 * Alerts on objectives by how fast their budget of errors burns: at 1 it lasts for the 30 days of an objective. A page
 * wants a fast burn, a ticket a slow one; each needs a long window, to be sure, and a short one, to end soon after the
 * cause has ended (Google, The Site Reliability Workbook, chapter 5, "Multiwindow, Multi-Burn-Rate Alerts").
 */
import type { Alert } from "./alerts.ts";
import { freshWithinSeconds, type Kind, objectives } from "./objectives.ts";
import { ours } from "./selectors.ts";

type RecordingRule = { record: string; expr: string; labels: Record<string, string> };

/** A page at 2 % of the budget within an hour or 5 % within six, a ticket at 10 % within one day or three. */
const speeds: Record<Alert["severity"], { factor: number; long: string; short: string }[]> = {
  critical: [
    { factor: 14.4, long: "1h", short: "5m" },
    { factor: 6, long: "6h", short: "30m" },
  ],
  warning: [
    { factor: 3, long: "1d", short: "2h" },
    { factor: 1, long: "3d", short: "6h" },
  ],
};
const windows = [...new Set(Object.values(speeds).flatMap((pairs) => pairs.flatMap(({ long, short }) => [short, long])))];

const isStale: RecordingRule = {
  record: "objective:is_stale",
  expr: `max by (namespace) (${[
    `consumer_lag_seconds{${ours},group="analytics"} > bool ${freshWithinSeconds}`,
    `outbox_oldest_seconds{${ours}} > bool ${freshWithinSeconds}`,
    `up{${ours},service="analytics"} == bool 0`,
  ].join(" or ")})`,
  labels: { service: "analytics" },
};

export const burnRates: RecordingRule[] = [
  isStale,
  ...objectives.flatMap(({ name, kind, service, target, badShare }) =>
    windows.map((window) => ({
      record: `objective:burn_rate:${window}`,
      expr: `(${badShare(window)}) / ${Number((1 - target).toFixed(6))}`,
      labels: { objective: name, kind, service },
    })),
  ),
];

const names: Record<Kind, string> = {
  availability: "AvailabilityBudgetBurning",
  latency: "LatencyBudgetBurning",
  freshness: "FreshnessBudgetBurning",
};

export const budgetAlerts: Alert[] = Object.entries(names).flatMap(([kind, name]) =>
  (["critical", "warning"] as const).map((severity) => {
    const rate = (window: string) => `objective:burn_rate:${window}{${ours},kind="${kind}"}`;
    const burning = speeds[severity].map(({ factor, long, short }) => `(${rate(long)} > ${factor} and ${rate(short)} > ${factor})`);
    return {
      name,
      value: rate(speeds[severity][0]?.long ?? ""),
      expr: burning.join(" or "),
      for: "1m",
      severity,
      summary: "The errors of {{ $labels.objective }} use up its budget of 30 days {{ $value | humanize }} times too fast",
    };
  }),
);
