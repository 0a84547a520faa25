/** Break glass: somebody of the clinical staff opens a record that nobody has shared with them, and says why. */
import { authorize } from "@pm/kit/auth/verifier";
import { Counter, metrics } from "@pm/kit/metrics";
import { isUuid } from "@pm/kit/uuid";
import { type Call, viewerOf } from "../caller.ts";
import type { PatientDatabase } from "../database.ts";
import { openRecord } from "./store.ts";

const opened = new Counter({
  name: "patient_emergency_accesses_total",
  help: "Records that were opened in an emergency",
  registers: [metrics],
});

/**
 * Opens a record for reading for four hours, if the caller does not see it and it exists. What follows answers as for
 * everybody else, so a record that does not exist is 404.
 * @throws AppError permission_denied if the caller is not of the clinical staff, whether the record exists or not
 */
export async function openInEmergency(db: PatientDatabase, call: Call, patientId: string, reason: string): Promise<void> {
  const viewer = viewerOf(call.caller);
  if (viewer.seesAll) return;
  authorize(call.caller, "patient:emergency");
  if (isUuid(patientId) && (await openRecord(db, { patientId, viewer, reason, requestId: call.requestId }))) opened.inc();
}
