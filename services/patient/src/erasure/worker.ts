/** Completes erasures: in billing, and of records as soon as nothing holds them. One replica does it for all. */
import type { Logger } from "@pm/kit/log";
import { Gauge, metrics } from "@pm/kit/metrics";
import type { PatientDatabase } from "../database.ts";
import type { ErasureInBilling } from "./billing-client.ts";
import { holdsOfRecord } from "./holds.ts";
import {
  countFailing,
  type ErasureRow,
  eraseRecord,
  findErasable,
  leaseErasures,
  noteBillingErased,
  postponeErasure,
  settleErasure,
} from "./store.ts";

const batchSize = 20;
/** Holds end by themselves after years, or when somebody pays. */
const lookAgainSeconds = 3_600;

const failing = new Gauge({
  name: "erasures_failing",
  help: "Erasures of patients that have failed three times and more",
  registers: [metrics],
});

type Options = { db: PatientDatabase; billing: ErasureInBilling; retentionYears: number; now: () => Date; log: Logger };

/** Gives one step for `runAsLeader`. */
export function createErasureWorker({ db, billing, retentionYears, now, log }: Options): () => Promise<"more" | "done"> {
  async function complete(erasure: ErasureRow): Promise<void> {
    const { id, patient_id } = erasure;
    const patient = await findErasable(db, patient_id, retentionYears);
    const isHeld = patient !== undefined && holdsOfRecord(patient, now()).length > 0;
    if (!erasure.record_erased_at && !isHeld) await eraseRecord(db, erasure);
    // Somebody may have placed a hold by now.
    const isOnHold = (await findErasable(db, patient_id, retentionYears))?.isOnHold;
    // What billing must keep is for administrators only, until it is erased.
    if (!erasure.billing_erased_at) await billing.restrict(patient_id, id);
    if (!erasure.billing_erased_at && !isOnHold) {
      const answer = await billing.erase(patient_id, id);
      if ("at" in answer) await noteBillingErased(db, id, answer.at, answer.removed);
    }
    await settleErasure(db, id, lookAgainSeconds);
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
