/**
 * Billing's questions to patient-service: may a caller see a patient, who is the patient, and which patients are there?
 */
import { AppError } from "@pm/kit/errors";
import { z } from "zod";

const patientSchema = z.object({
  name: z.string(),
  // Not every patient has one.
  email: z.string().default(""),
  billing: z.object({ accountId: z.string().optional() }).optional(),
  // The patient that was asked for was merged into this one, whose account it is.
  mergedFrom: z.string().optional(),
});
// A patient-service of the previous release does not send `opening`.
const idsSchema = z.object({ ids: z.array(z.string()), opening: z.array(z.string()).default([]), nextCursor: z.string().optional() });

type Patient = { name: string; email: string; accountId: string | undefined };

export type Patients = {
  /** Whether a caller may see a patient. The request has the caller's own token, so that patient-service decides. */
  mayBeSeenBy(patientId: string, token: string): Promise<boolean>;
  /** A patient, by billing's own rights; undefined if they are deleted or do not exist. */
  find(patientId: string): Promise<Patient | undefined>;
  /**
   * A page of the ids of all patients, deleted ones included, in their order. `opening` are the patients for whom
   * patient-service is about to open an account.
   */
  ids(cursor: string | undefined): Promise<{ ids: string[]; opening: string[]; nextCursor?: string | undefined }>;
};

const timeoutMs = 2_000;
const pageSize = 10_000;

/** @param options.serviceToken gets billing's own token */
export function createPatients(options: { patientUrl: string; serviceToken: () => Promise<string> }): Patients {
  const { patientUrl, serviceToken } = options;

  /** @throws AppError unavailable if patient-service does not answer in time, or with an unexpected status */
  async function ask(path: string, token: string, method = "GET"): Promise<Response> {
    const response = await fetch(`${patientUrl}${path}`, {
      method,
      headers: { authorization: `Bearer ${token}` },
      signal: AbortSignal.timeout(timeoutMs),
    }).catch((cause: unknown) => {
      throw unavailable(cause);
    });
    if (response.ok || response.status === 403 || response.status === 404) return response;
    await response.body?.cancel();
    throw unavailable(new Error(`patient-service answered ${response.status}`));
  }

  return {
    async mayBeSeenBy(patientId, token) {
      const response = await ask(`/patients/${encodeURIComponent(patientId)}`, token, "HEAD");
      return response.ok;
    },
    async find(patientId) {
      const response = await ask(`/patients/${encodeURIComponent(patientId)}`, await serviceToken());
      if (response.status === 404) return undefined;
      const { name, email, billing, mergedFrom } = patientSchema.parse(await response.json());
      return { name, email, accountId: mergedFrom === undefined ? billing?.accountId : undefined };
    },
    async ids(cursor) {
      const query = new URLSearchParams({ limit: String(pageSize), ...(cursor !== undefined && { cursor }) });
      const response = await ask(`/patients:ids?${query}`, await serviceToken());
      return idsSchema.parse(await response.json());
    },
  };
}

function unavailable(cause: unknown): AppError {
  const message = "Patient-service does not answer, and it decides who may see whom. Try again shortly.";
  return new AppError("unavailable", message, { reason: "PATIENT_SERVICE_UNAVAILABLE", retryAfterSeconds: 1, cause });
}
