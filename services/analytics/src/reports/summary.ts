/** The numbers of a period on one page, each with the one of the same days a year before. */
import type { Instant } from "@pm/kit/calendar";
import { spanOf } from "../calendar.ts";
import type { RollupQuery } from "../rollups/query.ts";
import { type ActivityFlows, reportActivity } from "./activity.ts";
import { type MoneyFlows, reportBilling } from "./billing.ts";
import { type PatientFlows, reportPatients } from "./patients.ts";
import type { Period } from "./period.ts";

export type SummaryReport = {
  patients: { now: PatientFlows & { activeAtEnd: number }; lastYear: PatientFlows };
  billing: { now: MoneyFlows & { currency: string; outstandingAtEnd: bigint; creditAtEnd: bigint }; lastYear: MoneyFlows };
  activity: { now: ActivityFlows; lastYear: ActivityFlows };
};

export async function summarize(period: Period, currency: string | undefined, rollups: RollupQuery, now: Instant): Promise<SummaryReport> {
  const whole = { ...period, spans: [spanOf(period.from, period.to, period.timeZone)] };
  const [patients, billing, activity] = await Promise.all([
    reportPatients(whole, rollups),
    reportBilling(whole, currency, rollups, now),
    reportActivity(whole, false, rollups),
  ]);
  const { activeAtStart: _, ...patientsNow } = patients.totals;
  const { charges: _charges, payments: _payments, ...money } = billing.totals;
  const withoutDays = <T extends { from: string; to: string }>({ from: _from, to: _to, ...rest }: T) => rest;
  return {
    patients: { now: patientsNow, lastYear: withoutDays(patients.lastYear) },
    billing: { now: { currency: billing.currency, ...money }, lastYear: withoutDays(billing.lastYear) },
    activity: { now: activity.totals, lastYear: withoutDays(activity.lastYear) },
  };
}
