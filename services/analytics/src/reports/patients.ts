/** Registrations, and what became of the patients. */
import { addYears, type Span, spanOf } from "../calendar.ts";
import { measures, patientFlows } from "../measures.ts";
import type { Shown } from "../publications/suppression.ts";
import type { Amounts } from "../rollups/amounts.ts";
import type { RollupQuery } from "../rollups/query.ts";
import type { Period } from "./period.ts";

type Flow = "registered" | "deleted" | "restored" | "merged" | "unmerged" | "net";
/** How the number of patients changed. */
export type PatientFlows = Record<Flow, Shown>;

export type PatientReport = {
  totals: PatientFlows & { activeAtStart: Shown; activeAtEnd: Shown };
  /** The same days a year before. */
  lastYear: PatientFlows & { from: string; to: string };
  series: (PatientFlows & { start: string; end: string; active: Shown; registeredLastYear: Shown })[];
};

const flowMeasures = patientFlows.map(({ measure }) => measure);
const { registered, deleted, restored, merged, unmerged } = measures.patients;

export async function reportPatients(period: Period, rollups: RollupQuery): Promise<PatientReport> {
  const { spans, timeZone } = period;
  const whole = spanOf(period.from, period.to, timeZone);
  const yearBefore = (span: Span) => spanOf(addYears(span.start, -1), addYears(span.end, -1), timeZone);
  const lastYearWhole = yearBefore(whole);
  const [before, within, lastYear, lastYearSeries] = await Promise.all([
    rollups.before(flowMeasures, whole),
    rollups.within(flowMeasures, spans),
    rollups.within(flowMeasures, [lastYearWhole]),
    rollups.within([registered], spans.map(yearBefore)),
  ]);
  const activeAtStart = flowsIn([before]).net;
  let active = activeAtStart;
  const series = spans.map(({ start, end }, index) => {
    const flows = flowsIn(within.slice(index, index + 1));
    active += flows.net;
    return { start, end, ...flows, active, registeredLastYear: lastYearSeries[index]?.count(registered) ?? 0 };
  });
  return {
    totals: { ...flowsIn(within), activeAtStart, activeAtEnd: active },
    lastYear: { from: lastYearWhole.start, to: lastYearWhole.end, ...flowsIn(lastYear) },
    series,
  };
}

function flowsIn(amounts: Amounts[]): Record<Flow, number> {
  const count = (measure: string): number => {
    let sum = 0;
    for (const each of amounts) sum += each.count(measure);
    return sum;
  };
  let net = 0;
  for (const { measure, sign } of patientFlows) net += Number(sign) * count(measure);
  return {
    registered: count(registered),
    deleted: count(deleted),
    restored: count(restored),
    merged: count(merged),
    unmerged: count(unmerged),
    net,
  };
}
