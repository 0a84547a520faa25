/** What this service asks of patient-service, as the caller. */
import { AppError } from "@pm/kit/errors";
import type { Ask, Call } from "../protocol/calls.ts";
import { unprocessable } from "../protocol/outcome.ts";
import type { Patient, PatientBody, PatientVersion } from "./patient.ts";
import type { Written } from "./writing.ts";

export type Patients = ReturnType<typeof createPatients>;

type Headers = Record<string, string>;
type HistoryPage = { items: { version: number; action: string; at: string }[]; nextCursor?: string };
type Deletion = Pick<PatientVersion, "id" | "version" | "action"> & { deletedAt: string };
type ChangesPage = { items: (PatientVersion | Deletion)[]; nextCursor?: string; completeUntil: string };
/** Somebody who may be the person that is looked for. */
export type Candidate = { patient: Patient; score: number; grade: "certain" | "probable" | "possible" };
type Page = { items: Patient[]; nextCursor?: string; total?: number; totalEstimate?: number; completeUntil?: string };

/** One of the writes that are done together. */
export type Operation =
  | { method: "create"; body: PatientBody }
  | { method: "replace"; id: string; ifMatch?: string | undefined; body: object }
  | { method: "delete"; id: string; ifMatch?: string | undefined };
/** The patient as they are now; a deletion has none. */
export type OperationResult = { status: number; id: string; version: number; patient?: Patient };

/** What a PUT of FHIR leaves out is removed. Patient-service keeps what older clients of its own do not know. */
const removed = {
  ...{ phones: null, emails: null, addresses: null, contacts: null, languages: null, identifiers: null },
  ...{ dateOfBirthEstimated: null, deceased: null, maritalStatus: null, generalPractitioner: null, managingSite: null },
  ...{ sex: null, fhirElements: null },
};

/** Most characters of what is kept beside the record (services/patient/src/patients/fields.ts). */
const maxKept = 20_000;

/** @throws AppError unprocessable if more is to be kept than there is room for */
export function bodyOf({ body, kept }: Written): PatientBody {
  const text = JSON.stringify(kept);
  if (text.length > maxKept)
    throw unprocessable([{ path: "Patient", message: `has more than ${maxKept} characters in elements that have no field here` }]);
  return { ...body, ...(kept.length > 0 && { fhirElements: text }) };
}

/** What patient-service found wrong in the body, or taken by another patient: by the elements that it came from. */
function byElements(error: unknown, { pathOf }: Written): unknown {
  if (!(error instanceof AppError) || !error.options.errors) return error;
  const errors = error.options.errors.map(({ path, message }) => ({ path: pathOf(path), message }));
  if (error.code === "invalid_argument") return unprocessable(errors);
  if (error.code !== "already_exists") return error;
  return new AppError(error.code, error.message, { ...error.options, errors, cause: error });
}

/** The body of a PUT. */
export const wholeBodyOf = (body: PatientBody) => ({ ...removed, ...body });

export function createPatients(ask: Ask) {
  const one = (id: string) => `/patients/${encodeURIComponent(id)}`;
  const read = async <Body>(answer: Promise<unknown>) => (await answer) as Body;

  async function write(written: Written, send: (body: PatientBody) => Promise<unknown>): Promise<Patient> {
    try {
      return await read<Patient>(send(bodyOf(written)));
    } catch (error) {
      throw byElements(error, written);
    }
  }

  return {
    get: (call: Call, id: string) => read<Patient>(ask(call, "/patients/{id}", one(id))),
    version: (call: Call, id: string, version: string) =>
      read<PatientVersion>(ask(call, "/patients/{id}/versions/{version}", `${one(id)}/versions/${encodeURIComponent(version)}`)),
    history: (call: Call, id: string, query: URLSearchParams) =>
      read<HistoryPage>(ask(call, "/patients/{id}/history", `${one(id)}/history`, { query })),
    changes: (call: Call, query: URLSearchParams) => read<ChangesPage>(ask(call, "/patients/changes", "/patients/changes", { query })),
    search: (call: Call, body: object) => read<Page>(ask(call, "/patients:search", "/patients:search", { method: "POST", body })),
    async match(call: Call, written: Written, limit: number): Promise<Candidate[]> {
      const request = { method: "POST", query: new URLSearchParams({ limit: String(limit) }), body: written.body };
      try {
        return (await read<{ candidates: Candidate[] }>(ask(call, "/patients:match", "/patients:match", request))).candidates;
      } catch (error) {
        throw byElements(error, written);
      }
    },
    create: (call: Call, written: Written, headers: Headers = {}) =>
      // FHIR has no answer for "perhaps the same person", so a create does not ask. Duplicates are listed later.
      write(written, (body) =>
        ask(call, "/patients", "/patients", { method: "POST", query: new URLSearchParams("duplicates=allow"), headers, body }),
      ),
    replace: (call: Call, id: string, written: Written, headers: Headers = {}) =>
      write(written, (body) => ask(call, "/patients/{id}", one(id), { method: "PUT", headers, body: wholeBodyOf(body) })),
    async batch(call: Call, operations: Operation[]): Promise<OperationResult[]> {
      const answer = ask(call, "/patients:batch", "/patients:batch", { method: "POST", body: { operations } });
      return (await read<{ results: OperationResult[] }>(answer)).results;
    },
    async remove(call: Call, id: string, headers: Headers = {}): Promise<void> {
      await ask(call, "/patients/{id}", one(id), { method: "DELETE", headers });
    },
  };
}
