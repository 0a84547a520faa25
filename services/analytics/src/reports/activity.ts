/** Sign-ins, and attempts that failed. */
import { addYears, spanOf } from "../calendar.ts";
import { type FailureReason, failureReasons, measures } from "../measures.ts";
import type { Amounts } from "../rollups/amounts.ts";
import type { RollupQuery } from "../rollups/query.ts";
import type { Period } from "./period.ts";
import { type Shown, suppressList } from "./suppression.ts";

export type ActivityFlows = { signedIn: number; failed: number; sessionsEnded: number; usersDisabled: number };

export type ActivityReport = {
  totals: ActivityFlows;
  lastYear: ActivityFlows & { from: string; to: string };
  failures: { reason: FailureReason; count: Shown }[];
  series: (ActivityFlows & { start: string; end: string })[];
};

const { signedIn, failed, failedBy, sessionsEnded, usersDisabled } = measures.activity;
const flowMeasures = [signedIn, failed, sessionsEnded, usersDisabled];

export async function reportActivity(period: Period, detail: boolean, rollups: RollupQuery): Promise<ActivityReport> {
  const { spans, timeZone } = period;
  const whole = spanOf(period.from, period.to, timeZone);
  const yearBefore = spanOf(addYears(whole.start, -1), addYears(whole.end, -1), timeZone);
  const [within, reasons, lastYear] = await Promise.all([
    rollups.within(flowMeasures, spans),
    rollups.within([failedBy], [whole]),
    rollups.within(flowMeasures, [yearBefore]),
  ]);
  const counts = failureReasons.map((reason) => reasons[0]?.count(failedBy, reason) ?? 0);
  const shown = detail ? counts : suppressList(counts);
  return {
    totals: flowsIn(within),
    lastYear: { from: yearBefore.start, to: yearBefore.end, ...flowsIn(lastYear) },
    failures: failureReasons.map((reason, index) => ({ reason, count: shown[index] ?? null })),
    series: spans.map(({ start, end }, index) => ({ start, end, ...flowsIn(within.slice(index, index + 1)) })),
  };
}

function flowsIn(amounts: Amounts[]): ActivityFlows {
  const count = (measure: string) => amounts.reduce((sum, each) => sum + each.count(measure), 0);
  return { signedIn: count(signedIn), failed: count(failed), sessionsEnded: count(sessionsEnded), usersDisabled: count(usersDisabled) };
}
