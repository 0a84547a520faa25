/** Who comes and goes: sign-ins and the attempts that failed. */
import { addYears, spanOf } from "../calendar.ts";
import { failureReasons } from "../ingest/sign-in.ts";
import type { Amounts, Sums } from "../rollups/query.ts";
import type { Period } from "./period.ts";
import { type Shown, suppressList } from "./suppression.ts";

export type ActivityFlows = { signedIn: number; failed: number; sessionsEnded: number; usersDisabled: number };

export type ActivityReport = {
  totals: ActivityFlows;
  lastYear: ActivityFlows & { from: string; to: string };
  /** Failed attempts by reason; null where a small count is hidden. */
  failures: { reason: string; count: Shown }[];
  series: (ActivityFlows & { start: string; end: string })[];
};

const measures = ["activity.signedIn", "activity.failed", "activity.sessionEnded", "activity.userDisabled"];

export async function reportActivity(period: Period, detail: boolean, sums: Sums): Promise<ActivityReport> {
  const { spans, timeZone } = period;
  const whole = spanOf(period.from, period.to, timeZone);
  const yearBefore = spanOf(addYears(whole.start, -1), addYears(whole.end, -1), timeZone);
  const [within, reasons, lastYear] = await Promise.all([
    sums.within(measures, spans),
    sums.within(["activity.failed.reason"], [whole]),
    sums.within(measures, [yearBefore]),
  ]);
  const counts = Object.values(failureReasons).map((reason) => reasons[0]?.count("activity.failed.reason", reason) ?? 0);
  const shown = detail ? counts : suppressList(counts);
  return {
    totals: flowsOf(within),
    lastYear: { from: yearBefore.start, to: yearBefore.end, ...flowsOf(lastYear) },
    failures: Object.values(failureReasons).map((reason, index) => ({ reason, count: shown[index] ?? null })),
    series: spans.map(({ start, end }, index) => ({ start, end, ...flowsOf(within.slice(index, index + 1)) })),
  };
}

function flowsOf(amounts: Amounts[]): ActivityFlows {
  const count = (measure: string) => amounts.reduce((sum, each) => sum + each.count(measure), 0);
  return {
    signedIn: count("activity.signedIn"),
    failed: count("activity.failed"),
    sessionsEnded: count("activity.sessionEnded"),
    usersDisabled: count("activity.userDisabled"),
  };
}
