/** The numbers of a period on one page, each beside that of the same days a year before. */

import { type Instant, spanOf } from "../calendar.ts";
import type { Sums } from "../rollups/query.ts";
import { type ActivityFlows, reportActivity } from "./activity.ts";
import { type MoneyFlows, reportBilling } from "./billing.ts";
import { type PatientFlows, reportPatients } from "./patients.ts";
import type { Period } from "./period.ts";

export type SummaryReport = {
  patients: { now: PatientFlows & { activeAtEnd: number }; lastYear: PatientFlows };
  billing: { now: MoneyFlows & { currency: string; outstandingAtEnd: bigint; creditAtEnd: bigint }; lastYear: MoneyFlows };
  activity: { now: ActivityFlows; lastYear: ActivityFlows };
};

export async function summarize(period: Period, currency: string | undefined, sums: Sums, now: Instant): Promise<SummaryReport> {
  const whole = { ...period, spans: [spanOf(period.from, period.to, period.timeZone)] };
  const [patients, billing, activity] = await Promise.all([
    reportPatients(whole, sums),
    reportBilling(whole, currency, sums, now),
    reportActivity(whole, false, sums),
  ]);
  const { activeAtStart: _, ...patientsNow } = patients.totals;
  const { charges: _charges, payments: _payments, ...money } = billing.totals;
  const without = <T extends { from: string; to: string }>({ from: _from, to: _to, ...rest }: T) => rest;
  return {
    patients: { now: patientsNow, lastYear: without(patients.lastYear) },
    billing: { now: { currency: billing.currency, ...money }, lastYear: without(billing.lastYear) },
    activity: { now: activity.totals, lastYear: without(activity.lastYear) },
  };
}
