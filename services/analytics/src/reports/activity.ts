/** Sign-ins, and attempts that failed. */
import { addYears, spanOf } from "../calendar.ts";
import { type FailureReason, failureReasons, measures } from "../measures.ts";
import type { Shown } from "../publications/suppression.ts";
import type { Amounts } from "../rollups/amounts.ts";
import type { RollupQuery } from "../rollups/query.ts";
import type { Period } from "./period.ts";

export type ActivityFlows = Record<"signedIn" | "failed" | "sessionsEnded" | "usersDisabled", Shown>;

export type ActivityReport = {
  totals: ActivityFlows;
  lastYear: ActivityFlows & { from: string; to: string };
  failures: { reason: FailureReason; count: Shown }[];
  series: (ActivityFlows & { start: string; end: string })[];
};

const { signedIn, failed, failedBy, sessionsEnded, usersDisabled } = measures.activity;
const flowMeasures = [signedIn, failed, sessionsEnded, usersDisabled];

export async function reportActivity(period: Period, rollups: RollupQuery): Promise<ActivityReport> {
  const { spans, timeZone } = period;
  const whole = spanOf(period.from, period.to, timeZone);
  const yearBefore = spanOf(addYears(whole.start, -1), addYears(whole.end, -1), timeZone);
  const [within, reasons, lastYear] = await Promise.all([
    rollups.within(flowMeasures, spans),
    rollups.within([failedBy], [whole]),
    rollups.within(flowMeasures, [yearBefore]),
  ]);
  return {
    totals: flowsIn(within),
    lastYear: { from: yearBefore.start, to: yearBefore.end, ...flowsIn(lastYear) },
    failures: failureReasons.map((reason) => ({ reason, count: reasons[0]?.count(failedBy, reason) ?? 0 })),
    series: spans.map(({ start, end }, index) => ({ start, end, ...flowsIn(within.slice(index, index + 1)) })),
  };
}

function flowsIn(amounts: Amounts[]): ActivityFlows {
  const count = (measure: string) => amounts.reduce((sum, each) => sum + each.count(measure), 0);
  return { signedIn: count(signedIn), failed: count(failed), sessionsEnded: count(sessionsEnded), usersDisabled: count(usersDisabled) };
}
