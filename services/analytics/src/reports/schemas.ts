/** What callers get, as the OpenAPI document shows it. */
import { z } from "@hono/zod-openapi";
import { agingBuckets, dimensions, eachMoneyFlow, failureReasons, moneyFlows } from "../measures.ts";
import { largestHidden } from "../publications/suppression.ts";

/** What the OpenAPI document says of the service. */
export const about = {
  title: "Analytics",
  description:
    "Numbers about patients, billing and sign-ins, counted from every event of the platform. Days are local days of `timeZone`. Intervals in which nothing happened have zeros. `asOf` and the header `x-as-of` say how far the events were read. Callers without the scope analytics:detail get published weeks instead, without small numbers; `publishedTo` is the last day of them.",
};

const count = z
  .int()
  .nullable()
  .openapi({
    description: `null if it is hidden, which happens only without the scope analytics:detail: counts from 1 to ${largestHidden}, and counts from which one of these would follow. A later week has it in its count.`,
  });
const amountText = `Minor units of the currency, as an integer with all its digits. A sum may be above 2^53; a reader that makes a double of every number would round it. null if it is hidden, which happens only without the scope analytics:detail: amounts of ${largestHidden} accounts or fewer, or of one account for the most part. A later week has it in its amount.`;
const amount = z.int().nullable().openapi({ description: amountText });

export const exampleAsOf = { eventTime: "2026-11-21T16:00:00.000Z", offsets: { "patient.v1/0": "1204" } };
export const AsOfSchema = z
  .object({
    eventTime: z.iso
      .datetime()
      .nullable()
      .openapi({ description: "When the latest event that is counted happened; null if there is none yet." }),
    offsets: z.record(z.string(), z.string()).openapi({ description: "The next offset of each partition." }),
  })
  .openapi("AsOf", { example: exampleAsOf });

const head = {
  from: z.iso.date(),
  to: z.iso.date(),
  interval: z.enum(["day", "week", "month"]),
  timeZone: z.string(),
  asOf: AsOfSchema.nullable().openapi({ description: "null without the scope analytics:detail." }),
  publishedTo: z.iso.date().nullable().openapi({
    description:
      "Without the scope analytics:detail: the last day that is published; null if nothing is published yet. null with the scope.",
  }),
};
const exampleHead = {
  from: "2026-11-01",
  to: "2026-11-30",
  interval: "month" as const,
  timeZone: "Europe/Berlin",
  asOf: exampleAsOf,
  publishedTo: null,
};
const span = { start: z.iso.date(), end: z.iso.date() };
const exampleSpan = { start: "2026-11-01", end: "2026-11-30" };
const period = { from: z.iso.date(), to: z.iso.date() };
const exampleLastYear = { from: "2025-11-01", to: "2025-11-30" };

const patientFlows = { registered: count, deleted: count, restored: count, merged: count, unmerged: count, net: count };
const exampleFlows = { registered: 60, deleted: 2, restored: 1, merged: 0, unmerged: 0, net: 59 };
const exampleFlowsLastYear = { registered: 41, deleted: 0, restored: 0, merged: 1, unmerged: 0, net: 40 };
const BreakdownSchema = z
  .object({
    by: z.enum(dimensions),
    rows: z.array(
      z.object({
        value: z.string().openapi({ description: "Empty if it is not known." }),
        registered: count,
        active: count.openapi({ description: "null without the scope analytics:detail." }),
      }),
    ),
    pyramid: z
      .array(z.object({ female: count, male: count, other: count }))
      .optional()
      .openapi({ description: "With `by=ageBand` and the scope analytics:detail: the active patients of each row by sex." }),
    hidden: z.boolean().openapi({ description: "Whether some counts are hidden. The scope analytics:detail shows them." }),
    truncated: z.boolean().openapi({ description: "Whether values are missing. Those with the most patients are listed." }),
  })
  .openapi("Breakdown", {
    example: { by: "city", rows: [{ value: "Bonn", registered: 30, active: 410 }], hidden: true, truncated: false },
  });
export const PatientReportSchema = z
  .object({
    ...head,
    totals: z.object({ ...patientFlows, activeAtStart: count, activeAtEnd: count }),
    lastYear: z.object({ ...period, ...patientFlows }),
    series: z.array(z.object({ ...span, ...patientFlows, active: count, registeredLastYear: count })),
    breakdown: BreakdownSchema.optional(),
  })
  .openapi("PatientReport", {
    example: {
      ...exampleHead,
      totals: { ...exampleFlows, activeAtStart: 1_000, activeAtEnd: 1_059 },
      lastYear: { ...exampleLastYear, ...exampleFlowsLastYear },
      series: [{ ...exampleSpan, ...exampleFlows, active: 1_059, registeredLastYear: 41 }],
    },
  });
export const patientsCsvExample =
  "start,end,registered,deleted,restored,merged,unmerged,net,active,registeredLastYear\n2026-11-01,2026-11-30,60,2,1,0,0,59,1059,41\n";

const detailedAmount = amount.openapi({ description: "Minor units of the currency. null without the scope analytics:detail." });
const money = {
  ...eachMoneyFlow(() => amount),
  voided: amount.openapi({
    description: `What discounts had left of charges that were voided. Without the scope analytics:detail, what was discounted and credited is in it too. ${amountText}`,
  }),
  ...{ discounted: detailedAmount, credited: detailedAmount, writtenOff: detailedAmount },
};
const exampleMoney = {
  ...{ charged: 120_050, voided: 1_000, discounted: 500, credited: 1_500, writtenOff: 250 },
  ...{ collected: 80_000, refunded: 2_500, invoiced: 0 },
};
const exampleMoneyLastYear = { ...eachMoneyFlow(() => 0), charged: 90_000, collected: 85_000 };
export const BillingReportSchema = z
  .object({
    ...head,
    currency: z.string(),
    currencies: z.array(z.string()).openapi({ description: "Every currency that has charges." }),
    totals: z.object({ ...money, outstandingAtEnd: amount, creditAtEnd: amount, charges: count, payments: count }),
    lastYear: z.object({ ...period, ...money }),
    aging: z
      .array(z.object({ bucket: z.string(), amount }))
      .openapi({ description: "What is outstanding at the end, by full days since the charge." }),
    series: z.array(z.object({ ...span, ...money, outstanding: amount, credit: amount, aging: z.array(amount) })),
  })
  .openapi("BillingReport", {
    example: {
      ...exampleHead,
      currency: "EUR",
      currencies: ["EUR"],
      totals: { ...exampleMoney, outstandingAtEnd: 39_050, creditAtEnd: 0, charges: 12, payments: 8 },
      lastYear: { ...exampleLastYear, ...exampleMoneyLastYear },
      aging: agingBuckets.map(({ label }, index) => ({ bucket: label, amount: [39_050, 0, 0, 0][index] ?? 0 })),
      series: [{ ...exampleSpan, ...exampleMoney, outstanding: 39_050, credit: 0, aging: [39_050, 0, 0, 0] }],
    },
  });
export const billingCsvExample = `start,end,currency,${moneyFlows.join()},outstanding,credit,${agingBuckets.map(({ label }) => `open ${label} days`).join()}\n2026-11-01,2026-11-30,EUR,120050,1000,500,1500,250,80000,2500,0,39050,0,39050,0,0,0\n`;

const activity = { signedIn: count, failed: count, sessionsEnded: count, usersDisabled: count };
const exampleActivity = { signedIn: 420, failed: 31, sessionsEnded: 12, usersDisabled: 0 };
const exampleActivityLastYear = { signedIn: 300, failed: 12, sessionsEnded: 9, usersDisabled: 1 };
export const ActivityReportSchema = z
  .object({
    ...head,
    totals: z.object(activity),
    lastYear: z.object({ ...period, ...activity }),
    failures: z.array(z.object({ reason: z.enum(failureReasons), count: count })).openapi({ description: "Failed attempts by reason." }),
    series: z.array(z.object({ ...span, ...activity })),
  })
  .openapi("ActivityReport", {
    example: {
      ...exampleHead,
      totals: exampleActivity,
      lastYear: { ...exampleLastYear, ...exampleActivityLastYear },
      failures: [{ reason: "credentials", count: 31 }],
      series: [{ ...exampleSpan, ...exampleActivity }],
    },
  });
export const activityCsvExample = "start,end,signedIn,failed,sessionsEnded,usersDisabled\n2026-11-01,2026-11-30,420,31,12,0\n";

export const SummarySchema = z
  .object({
    ...head,
    patients: z.object({ now: z.object({ ...patientFlows, activeAtEnd: count }), lastYear: z.object(patientFlows) }),
    billing: z.object({
      now: z.object({ currency: z.string(), ...money, outstandingAtEnd: amount, creditAtEnd: amount }),
      lastYear: z.object(money),
    }),
    activity: z.object({ now: z.object(activity), lastYear: z.object(activity) }),
  })
  .openapi("Summary", {
    example: {
      ...exampleHead,
      patients: { now: { ...exampleFlows, activeAtEnd: 1_059 }, lastYear: exampleFlowsLastYear },
      billing: {
        now: { currency: "EUR", ...exampleMoney, outstandingAtEnd: 39_050, creditAtEnd: 0 },
        lastYear: exampleMoneyLastYear,
      },
      activity: { now: exampleActivity, lastYear: exampleActivityLastYear },
    },
  });
export const summaryCsvExample = "part,measure,value,lastYear\npatients,registered,60,41\nbilling,charged,120050,90000\n";

export const chartExample = '<svg role="img" xmlns="http://www.w3.org/2000/svg" width="640" height="300">…</svg>';
