/** The shapes of answers, as the OpenAPI document shows them. */
import { z } from "@hono/zod-openapi";
import { agingBuckets } from "../ingest/billing-account.ts";
import { maxNamed } from "../operations/consistency.ts";
import { largestHidden } from "./suppression.ts";

/** What the OpenAPI document says of itself. */
export const about = {
  title: "Analytics",
  description:
    "Numbers about patients, billing and sign-ins, counted from every event of the platform. Days are local days of `timeZone`; intervals in which nothing happened are zero. `asOf` and the header `x-as-of` say how far the events were read.",
};

const count = z.int();
const amount = z.int().openapi({
  description:
    "Minor units of the currency, in full: a sum may be above 2^53, which a reader that makes a double of every number would round.",
});
const shown = z
  .int()
  .nullable()
  .openapi({ description: `null where it is hidden: a count of 1 to ${largestHidden}, or one that would give such a count away.` });

const asOf = z
  .object({
    eventTime: z.string().nullable().openapi({ description: "When the latest event that is counted happened; null while there is none." }),
    offsets: z
      .record(z.string(), z.string())
      .openapi({ description: "The next offset of each partition.", example: { "patient.v1/0": "1204" } }),
  })
  .openapi("AsOf");
const head = {
  from: z.string().openapi({ example: "2026-11-01" }),
  to: z.string().openapi({ example: "2026-11-30" }),
  interval: z.enum(["day", "week", "month"]),
  timeZone: z.string(),
  asOf,
};
const span = { start: z.string(), end: z.string() };
const period = { from: z.string(), to: z.string() };

const patientFlows = { registered: count, deleted: count, restored: count, merged: count, unmerged: count, net: count };
const BreakdownSchema = z
  .object({
    by: z.enum(["sex", "ageBand", "city", "state"]),
    rows: z.array(
      z.object({ value: z.string().openapi({ description: "Empty where it is not known." }), registered: shown, active: shown }),
    ),
    pyramid: z
      .array(z.object({ female: shown, male: shown, other: shown }))
      .optional()
      .openapi({ description: "Active patients by age and sex, row by row as `rows`; with `by=ageBand`." }),
    hidden: z.boolean().openapi({ description: "Some counts are hidden; the scope analytics:detail shows them." }),
    truncated: z.boolean().openapi({ description: "Only the values with the most patients are listed." }),
  })
  .openapi("Breakdown");
export const PatientReportSchema = z
  .object({
    ...head,
    totals: z.object({ ...patientFlows, activeAtStart: count, activeAtEnd: count }),
    lastYear: z.object({ ...period, ...patientFlows }),
    series: z.array(z.object({ ...span, ...patientFlows, active: count, registeredLastYear: count })),
    breakdown: BreakdownSchema.optional(),
  })
  .openapi("PatientReport");

const money = { charged: amount, voided: amount, collected: amount, refunded: amount, invoiced: amount };
export const BillingReportSchema = z
  .object({
    ...head,
    currency: z.string(),
    currencies: z.array(z.string()),
    totals: z.object({ ...money, outstandingAtEnd: amount, creditAtEnd: amount, charges: count, payments: count }),
    lastYear: z.object({ ...period, ...money }),
    aging: z.array(z.object({ bucket: z.string().openapi({ example: agingBuckets[0].label }), amount })),
    series: z.array(z.object({ ...span, ...money, outstanding: amount, credit: amount, aging: z.array(amount) })),
  })
  .openapi("BillingReport");

const activity = { signedIn: count, failed: count, sessionsEnded: count, usersDisabled: count };
export const ActivityReportSchema = z
  .object({
    ...head,
    totals: z.object(activity),
    lastYear: z.object({ ...period, ...activity }),
    failures: z.array(z.object({ reason: z.string(), count: shown })),
    series: z.array(z.object({ ...span, ...activity })),
  })
  .openapi("ActivityReport");

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
  .openapi("Summary");

export const RebuildSchema = z
  .object({
    id: z.string(),
    state: z.enum(["waiting", "running", "done"]),
    eventsDone: count,
    eventsTotal: count,
    requestedAt: z.string(),
    startedAt: z.string().nullable(),
    finishedAt: z.string().nullable(),
  })
  .openapi("Rebuild");

const deadLetter = {
  id: z.string(),
  eventId: z.uuid(),
  topic: z.string(),
  partition: z.int(),
  offset: z.string(),
  key: z.string(),
  type: z.string(),
  eventTime: z.string(),
  reason: z.string(),
  tries: z.int().openapi({ description: "0 where it only follows an earlier dead letter of its key." }),
  state: z.enum(["waiting", "replayed", "discarded"]),
  failedAt: z.string(),
  settledAt: z.string().nullable(),
};
export const DeadLetterSchema = z
  .object({ ...deadLetter, payload: z.string().openapi({ description: "The event as it was sent, in base64." }) })
  .openapi("DeadLetter");
export const DeadLettersSchema = z
  .object({ items: z.array(z.object(deadLetter)), nextCursor: z.string().optional() })
  .openapi("DeadLetters");
export const ReplaySchema = z.object({ replayed: count, waiting: count }).openapi("Replay");

const unmatched = z.object({ count, ids: z.array(z.uuid()).max(maxNamed).openapi({ description: "The latest of them." }) });

export const ConsistencySchema = z
  .object({
    asOf,
    drift: count.openapi({ description: "How many checks do not hold. 0 is what it should be." }),
    settled: z.boolean().openapi({ description: "The numbers on both sides stood still while they were compared; else compare again." }),
    checks: z.array(
      z.object({
        name: z.string(),
        here: z.string().openapi({ description: "What analytics has counted." }),
        there: z.string().openapi({ description: "What the service that owns it says." }),
        holds: z.boolean(),
      }),
    ),
    patientsWithoutAccount: unmatched,
    accountsWithoutPatient: unmatched,
    deadLetters: count.openapi({ description: "Events that wait for an operator." }),
    lag: count.nullable().openapi({ description: "Events in Kafka that are not counted yet; null where Kafka does not answer." }),
  })
  .openapi("Consistency");
