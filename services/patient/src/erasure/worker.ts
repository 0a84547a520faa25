/**
 * Completes erasures: in billing and analytics, and of records as soon as nothing holds them. One replica does it for
 * all.
 */
import type { Logger } from "@pm/kit/log";
import { Gauge, metrics } from "@pm/kit/metrics";
import type { PatientDatabase } from "../database.ts";
import type { ErasureInAnalytics } from "./analytics-client.ts";
import type { ErasureInBilling } from "./billing-client.ts";
import { holdsOfRecord } from "./holds.ts";
import {
  countFailing,
  type ErasureRow,
  eraseRecord,
  findErasable,
  leaseErasures,
  noteAnalyticsErased,
  noteBillingErased,
  postponeErasure,
  settleErasure,
} from "./store.ts";

const batchSize = 20;
/** Holds end by themselves after years, or when somebody pays. Analytics applies an event within seconds. */
const pauseSeconds = { held: 3_600, untilApplied: 2 };

const failing = new Gauge({
  name: "erasures_failing",
  help: "Erasures of patients that have failed three times and more",
  registers: [metrics],
});

type Options = {
  db: PatientDatabase;
  billing: ErasureInBilling;
  analytics: ErasureInAnalytics;
  retentionYears: number;
  now: () => Date;
  log: Logger;
};

/** Gives one step for `runAsLeader`. */
export function createErasureWorker({ db, billing, analytics, retentionYears, now, log }: Options): () => Promise<"more" | "done"> {
  async function complete(erasure: ErasureRow): Promise<void> {
    const { id, patient_id } = erasure;
    const patient = await findErasable(db, patient_id, retentionYears);
    const isHeld = patient !== undefined && holdsOfRecord(patient, now()).length > 0;
    if (!erasure.record_erased_at && !isHeld) await eraseRecord(db, erasure);
    // One of them that does not answer does not hold up the other.
    const answers = await Promise.allSettled([eraseInBilling(erasure), confirmByAnalytics(erasure)]);
    for (const answer of answers) if (answer.status === "rejected") throw answer.reason;
    await settleErasure(db, id, pauseSeconds);
  }

  async function eraseInBilling({ id, patient_id, billing_erased_at }: ErasureRow): Promise<void> {
    if (billing_erased_at) return;
    // What billing must keep is for administrators only, until it is erased.
    await billing.restrict(patient_id, id);
    // Somebody may have placed a hold by now.
    if ((await findErasable(db, patient_id, retentionYears))?.isOnHold) return;
    const answer = await billing.erase(patient_id, id);
    if ("at" in answer) await noteBillingErased(db, id, answer.at, answer.removed);
  }

  async function confirmByAnalytics({ id, patient_id, analytics_erased_at }: ErasureRow): Promise<void> {
    const answer = analytics_erased_at ? undefined : await analytics.erased(patient_id);
    if (answer) await noteAnalyticsErased(db, id, answer.at, answer.removed);
  }

  return async () => {
    const due = await leaseErasures(db, batchSize);
    for (const erasure of due)
      await complete(erasure).catch(async (error: unknown) => {
        log.warn({ err: error, erasureId: erasure.id }, "an erasure was not completed; trying again");
        await postponeErasure(db, erasure.id);
      });
    failing.set(await countFailing(db));
    return due.length === batchSize ? "more" : "done";
  };
}
