/**
 * Transactions (http://hl7.org/fhir/R4/http.html#transaction). What the entries write is one request to
 * patient-service, which does all of it or nothing. Reads follow in `rest.ts`.
 */
import { AppError } from "@pm/kit/errors";
import type * as fhir from "fhir/r4.js";
import type { OperationResult, Patients } from "../patients/client.ts";
import { toFhir } from "../patients/mapping.ts";
import { maxTries, type PatientRules } from "../patients/patients.ts";
import type { Call } from "../protocol/calls.ts";
import { etagOf, type Preferences } from "../protocol/conditions.ts";
import { toHints } from "../protocol/outcome.ts";
import { statusLine } from "./batch.ts";
import { asErrorOfEntry, createPlanning, type Plan } from "./planning.ts";

export type Transactions = ReturnType<typeof createTransactions>;

/** @param base the URL of this API, as clients call it */
export function createTransactions({ base, patients, rules }: { base: string; patients: Patients; rules: PatientRules }) {
  const planAll = createPlanning(rules);

  /**
   * Whether another request won a race whose winner decides what the entry does. Then all entries are planned again.
   */
  async function hasLost(call: Call, { operation, condition, entry }: Plan, error: AppError): Promise<boolean> {
    if (error.code === "already_exists") return operation?.method === "create" && !!condition && !!(await rules.find(call, condition));
    return error.code === "aborted" && entry.request?.ifMatch === undefined;
  }

  /** The error of the whole as that of the entry which cannot be done. */
  async function entryError(call: Call, { index, operation, written }: Plan, error: AppError): Promise<unknown> {
    const id = operation && "id" in operation ? operation.id : undefined;
    if (error.code === "not_found" && id !== undefined)
      return asErrorOfEntry(index, await rules.goneIfDeleted(call, id, error).catch((found: unknown) => found));
    const { errors, ...options } = error.options;
    const inResource = errors?.map(({ path, message }) => {
      const field = path.replace(/^operations\[\d+\]\.?(body\.?)?/, "");
      return { path: written?.pathOf(field) ?? "", message };
    });
    // The resource is well formed, so what is wrong in it is a rule.
    const code = error.code === "invalid_argument" && written ? "unprocessable" : error.code;
    const message = error.message.replace(/^operations\[\d+\]: /, "");
    return asErrorOfEntry(index, new AppError(code, message, { ...options, ...(inResource && { errors: inResource }), cause: error }));
  }

  async function writeAll(call: Call, entries: fhir.BundleEntry[]): Promise<[Plan, Done][]> {
    for (let tries = 1; ; tries++) {
      const plans = await planAll(call, entries);
      const writes = plans.flatMap((plan) => (plan.operation ? [{ plan, operation: plan.operation }] : []));
      try {
        const operations = writes.map(({ operation }) => operation);
        const results = operations.length > 0 ? await patients.batch(call, operations) : [];
        const byIndex = new Map(writes.map(({ plan }, at) => [plan.index, results[at] as OperationResult]));
        return plans.map((plan) => [plan, byIndex.get(plan.index) ?? foundBy(plan)]);
      } catch (error) {
        const plan = writes[placeIn(error) ?? -1]?.plan;
        if (!(error instanceof AppError) || !plan) throw error;
        if (tries < maxTries && (await hasLost(call, plan, error))) continue;
        throw await entryError(call, plan, error);
      }
    }
  }

  return {
    /**
     * Writes what the entries of a transaction write, all or nothing.
     * @returns the answers to these entries, by their places
     * @throws AppError that names the entry which cannot be done
     */
    async write(call: Call, entries: fhir.BundleEntry[], wanted: Preferences["return"]): Promise<Map<number, fhir.BundleEntry>> {
      const done = await writeAll(call, entries);
      return new Map(done.map(([{ index }, result]) => [index, answerOf(base, result, wanted)]));
    },
  };
}

/** What was done by an entry, or was so already. */
type Done = Omit<OperationResult, "id" | "version"> & { id?: string; version?: number };

/**
 * An entry without an operation: the patient of a conditional create was there already, or nobody was to be deleted.
 */
const foundBy = ({ current }: Plan): Done =>
  current ? { status: 200, id: current.id, version: current.version, patient: current } : { status: 204 };

/** Which operation patient-service names. */
function placeIn(error: unknown): number | undefined {
  if (!(error instanceof AppError)) return undefined;
  const { metadata, errors } = error.options;
  const place = metadata?.operation ?? /^operations\[(\d+)\]/.exec(errors?.[0]?.path ?? "")?.[1];
  return place === undefined ? undefined : Number(place);
}

function answerOf(base: string, { status, id, version, patient }: Done, wanted: Preferences["return"]): fhir.BundleEntry {
  const response: fhir.BundleEntryResponse = { status: statusLine(status), ...(version !== undefined && { etag: etagOf(version) }) };
  if (!patient) return { response };
  const resource = toFhir(patient);
  const hint = toHints([`Patient/${id} is stored as version ${version}.`], "information");
  return {
    ...(wanted === "representation" && { fullUrl: `${base}/Patient/${id}`, resource }),
    response: {
      ...response,
      location: `${base}/Patient/${id}/_history/${version}`,
      lastModified: patient.updatedAt,
      ...(wanted === "OperationOutcome" && { outcome: hint }),
    },
  };
}
