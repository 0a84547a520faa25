/** Registrations and what became of them. */
import { addYears, type Span, spanOf } from "../calendar.ts";
import { flows } from "../ingest/patient-record.ts";
import type { Amounts, Sums } from "../rollups/query.ts";
import type { Period } from "./period.ts";

/** What happened to the number of patients within a stretch of days. */
export type PatientFlows = { registered: number; deleted: number; restored: number; merged: number; unmerged: number; net: number };

export type PatientReport = {
  totals: PatientFlows & { activeAtStart: number; activeAtEnd: number };
  /** The same days a year before. */
  lastYear: PatientFlows & { from: string; to: string };
  series: (PatientFlows & { start: string; end: string; active: number; registeredLastYear: number })[];
};

const measures = Object.keys(flows);

export async function reportPatients(period: Period, sums: Sums): Promise<PatientReport> {
  const { spans, timeZone } = period;
  const whole = spanOf(period.from, period.to, timeZone);
  const yearBefore = (span: Span) => spanOf(addYears(span.start, -1), addYears(span.end, -1), timeZone);
  const lastYearWhole = yearBefore(whole);
  const [before, within, lastYear, lastYearSeries] = await Promise.all([
    sums.before(measures, whole),
    sums.within(measures, spans),
    sums.within(measures, [lastYearWhole]),
    sums.within(["patients.registered"], spans.map(yearBefore)),
  ]);
  const activeAtStart = flowsOf([before]).net;
  let active = activeAtStart;
  const series = spans.map(({ start, end }, index) => {
    const flows = flowsOf(within.slice(index, index + 1));
    active += flows.net;
    return { start, end, ...flows, active, registeredLastYear: lastYearSeries[index]?.count("patients.registered") ?? 0 };
  });
  return {
    totals: { ...flowsOf(within), activeAtStart, activeAtEnd: active },
    lastYear: { from: lastYearWhole.start, to: lastYearWhole.end, ...flowsOf(lastYear) },
    series,
  };
}

const signs = Object.entries(flows).map(([measure, sign]) => ({ measure, sign: Number(sign) }));

function flowsOf(amounts: Amounts[]): PatientFlows {
  const count = (measure: string): number => {
    let sum = 0;
    for (const each of amounts) sum += each.count(measure);
    return sum;
  };
  let net = 0;
  for (const { measure, sign } of signs) net += sign * count(measure);
  return {
    registered: count("patients.registered"),
    deleted: count("patients.deleted"),
    restored: count("patients.restored"),
    merged: count("patients.merged"),
    unmerged: count("patients.unmerged"),
    net,
  };
}
