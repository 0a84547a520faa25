/** People open accounts only for patients whom they may see, or an account could belong to nobody. */
import type { Caller } from "@pm/kit/auth/verifier";
import { AppError, invalidFields } from "@pm/kit/errors";
import type { Patients } from "../patient-client.ts";

/** Patients who are asked for at once. Patient-service reads those that arrive together by one statement. */
const atOnce = 50;

/**
 * Asks patient-service, by the caller's own token, whether they may see the patients. Services are not asked back:
 * patient-service opens accounts for patients whom it is about to answer for.
 * @param pathOf the field that names the patient at an index
 * @throws AppError not_found that names every wrong field, up to twenty; unavailable if patient-service does not answer
 */
export async function requireKnownPatients(
  patients: Patients,
  { kind, token }: Caller,
  patientIds: string[],
  pathOf: (index: number) => string,
): Promise<void> {
  if (kind === "service") return;
  const wrong: number[] = [];
  for (let first = 0; first < patientIds.length; first += atOnce) {
    const ids = patientIds.slice(first, first + atOnce);
    const seen = await Promise.all(ids.map((id) => patients.mayBeSeenBy(id, token)));
    wrong.push(...ids.flatMap((_, index) => (seen[index] ? [] : [first + index])));
  }
  const subject = patientIds[wrong[0] ?? -1];
  if (subject === undefined) return;
  const { message, options } = invalidFields(wrong.map((index) => ({ path: pathOf(index), message: "is not a patient whom you may see" })));
  throw new AppError("not_found", message, { ...options, reason: "PATIENT_NOT_FOUND", refused: { subject } });
}
