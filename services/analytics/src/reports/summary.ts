/** The numbers of a period on one page, each with the one of the same days a year before. */
import type { Instant } from "@pm/kit/calendar";
import { spanOf } from "../calendar.ts";
import type { Shown } from "../publications/suppression.ts";
import type { RollupQuery } from "../rollups/query.ts";
import { type ActivityFlows, type ActivityReport, reportActivity } from "./activity.ts";
import { type BillingReport, type MoneyFlows, reportBilling, type ShownAmount } from "./billing.ts";
import { type PatientFlows, type PatientReport, reportPatients } from "./patients.ts";
import type { Period } from "./period.ts";

export type SummaryReport = {
  patients: { now: PatientFlows & { activeAtEnd: Shown }; lastYear: PatientFlows };
  billing: { now: MoneyFlows & { currency: string; outstandingAtEnd: ShownAmount; creditAtEnd: ShownAmount }; lastYear: MoneyFlows };
  activity: { now: ActivityFlows; lastYear: ActivityFlows };
};

export async function summarize(period: Period, currency: string | undefined, rollups: RollupQuery, now: Instant): Promise<SummaryReport> {
  const whole = { ...period, spans: [spanOf(period.from, period.to, period.timeZone)] };
  const [patients, billing, activity] = await Promise.all([
    reportPatients(whole, rollups),
    reportBilling(whole, currency, rollups, now),
    reportActivity(whole, rollups),
  ]);
  return summaryOf(patients, billing, activity);
}

/** The totals of reports over the same period. */
export function summaryOf(patients: PatientReport, billing: BillingReport, activity: ActivityReport): SummaryReport {
  const { activeAtStart: _, ...patientsNow } = patients.totals;
  const { charges: _charges, payments: _payments, ...money } = billing.totals;
  const withoutDays = <T extends { from: string; to: string }>({ from: _from, to: _to, ...rest }: T) => rest;
  return {
    patients: { now: patientsNow, lastYear: withoutDays(patients.lastYear) },
    billing: { now: { currency: billing.currency, ...money }, lastYear: withoutDays(billing.lastYear) },
    activity: { now: activity.totals, lastYear: withoutDays(activity.lastYear) },
  };
}
