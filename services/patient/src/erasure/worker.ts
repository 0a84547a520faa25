/** Completes erasures: in billing and analytics, and of records as soon as nothing holds them. One replica does it. */
import { Code, ConnectError } from "@connectrpc/connect";
import type { Logger } from "@pm/kit/log";
import { showAsked } from "@pm/kit/metrics";
import type { Step } from "@pm/kit/postgres/leader";
import type { PatientDatabase } from "../database.ts";
import type { ErasureInAnalytics } from "./analytics-client.ts";
import type { ErasureInBilling } from "./billing-client.ts";
import { holdsOfRecord } from "./holds.ts";
import {
  type ErasureRow,
  eraseRecord,
  findErasable,
  leaseErasures,
  longestWait,
  noteAnalyticsErased,
  noteBillingErased,
  settleErasure,
} from "./store.ts";
import type { Wait } from "./tables.ts";

const batchSize = 20;

/** Only tests have several databases in a process, and show the last one. */
let shown: PatientDatabase | undefined;
showAsked(
  async () => shown && longestWait(shown),
  [
    {
      name: "erasures_waiting_seconds",
      help: "How long the oldest erasure of a patient has waited for a service; 0 if none does",
      samples: (seconds) => [{ value: seconds }],
    },
  ],
);

/** Why the part of a service is not done; undefined if it is, or something holds it. */
type Waiting = string | undefined;

type Options = {
  db: PatientDatabase;
  billing: ErasureInBilling;
  analytics: ErasureInAnalytics;
  retentionYears: number;
  now: () => Date;
  log: Logger;
};

/** Gives one step for `runAsLeader`. */
export function createErasureWorker({ db, billing, analytics, retentionYears, now, log }: Options): () => Promise<Step> {
  shown = db;

  async function eraseHere(erasure: ErasureRow): Promise<Waiting> {
    const patient = await findErasable(db, erasure.patient_id, retentionYears);
    const isHeld = patient !== undefined && holdsOfRecord(patient, now()).length > 0;
    if (!erasure.record_erased_at && !isHeld) await eraseRecord(db, erasure);
    return undefined;
  }

  async function eraseInBilling(erasure: ErasureRow): Promise<Waiting> {
    const { id, patient_id, billing_erased_at } = erasure;
    if (billing_erased_at) return undefined;
    // What billing must keep is for administrators only, until it is erased.
    await billing.restrict(patient_id, id);
    // Somebody may have placed a hold by now.
    if ((await findErasable(db, patient_id, retentionYears))?.isOnHold) return undefined;
    const answer = await billing.erase(patient_id, id);
    if ("at" in answer) await noteBillingErased(db, erasure, answer.at, answer.removed);
    return undefined;
  }

  async function confirmByAnalytics(erasure: ErasureRow): Promise<Waiting> {
    const { patient_id, event_id, analytics_erased_at } = erasure;
    if (analytics_erased_at) return undefined;
    const answer = await analytics.erased(patient_id, event_id);
    if (!answer) return "has not applied the event yet";
    await noteAnalyticsErased(db, erasure, answer.at, answer.removed);
    return undefined;
  }

  /** Does the part of a service, and says why it is to be done again. */
  async function attempt(service: Wait["service"], erasure: ErasureRow, part: (erasure: ErasureRow) => Promise<Waiting>): Promise<Wait[]> {
    const reason = await part(erasure).catch((error: unknown) => {
      log.warn({ err: error, erasureId: erasure.id, waitsFor: service }, "an erasure was not completed; trying again");
      return error instanceof ConnectError ? `failed (${Code[error.code]})` : "failed";
    });
    return reason === undefined ? [] : [{ service, reason }];
  }

  async function complete(erasure: ErasureRow): Promise<void> {
    const here = await attempt("patient", erasure, eraseHere);
    // One of them that does not answer does not hold up the other.
    const others = [attempt("billing", erasure, eraseInBilling), attempt("analytics", erasure, confirmByAnalytics)];
    await settleErasure(db, erasure.id, [...here, ...(await Promise.all(others)).flat()]);
  }

  return async () => {
    const due = await leaseErasures(db, batchSize);
    for (const erasure of due) await complete(erasure);
    return due.length === batchSize ? "more" : due.length > 0 ? "done" : "idle";
  };
}
