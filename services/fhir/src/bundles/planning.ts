/** What the entries of a transaction write: each is one operation of patient-service, or none. */
import { AppError, type FieldError } from "@pm/kit/errors";
import { decodeJson } from "@pm/kit/text";
import type * as fhir from "fhir/r4.js";
import type { Operation as PatchOperation } from "rfc6902";
import { bodyOf, type Operation, wholeBodyOf } from "../patients/client.ts";
import { toFhir } from "../patients/mapping.ts";
import { PatchSchema, patched } from "../patients/patching.ts";
import type { Patient } from "../patients/patient.ts";
import {
  asUpdateOfNobody,
  type Identifier,
  type Named,
  type PatientRules,
  requireIdentifier,
  requireIdOfUrl,
  requireNoVersion,
  requireSamePatient,
  rewrite,
} from "../patients/patients.ts";
import { readPatient, type Written } from "../patients/writing.ts";
import type { Call } from "../protocol/calls.ts";
import { conditionOf, ifNoneExistOf, toIfMatch } from "../protocol/conditions.ts";
import { unprocessable } from "../protocol/outcome.ts";
import { pathOf } from "./batch.ts";
import { type References, withReferences } from "./references.ts";

/** An entry that writes, whom it is about, and the version that its caller takes for the current one. */
type Write = {
  index: number;
  entry: fhir.BundleEntry;
  id?: string | undefined;
  condition?: Identifier | undefined;
  current?: Patient | undefined;
  ifMatch?: string | undefined;
};
/** `written` is for the paths of errors. An entry has no operation if its patient exists, or none is to be deleted. */
type Change = { operation?: Operation; written?: Written };
export type Plan = Write & Change;

/** The errors of an entry begin with its place. */
export function asErrorOfEntry(index: number, error: unknown): unknown {
  if (!(error instanceof AppError)) return error;
  const place = `Bundle.entry[${index}]`;
  const inBundle = ({ path, message }: FieldError): FieldError => {
    if (/^Patient\b/.test(path)) return { path: path.replace("Patient", `${place}.resource`), message };
    return { path: /^(request|resource|fullUrl)\b/.test(path) ? `${place}.${path}` : place, message };
  };
  const errors = error.options.errors?.map(inBundle) ?? [{ path: place, message: error.message }];
  const message = errors.map((one) => `${one.path}: ${one.message}`).join("; ");
  return new AppError(error.code, message, { ...error.options, errors, cause: error });
}

const wrong = (path: string, message: string): AppError => unprocessable([{ path, message }]);

const form = /^\/?Patient(?:\/(?<id>[A-Za-z0-9.-]{1,64}))?(?:\?(?<query>.*))?$/;

/** The id or the condition of an entry's url. */
function addressOf({ method, url }: fhir.BundleEntryRequest): { id?: string | undefined; condition?: Identifier | undefined } {
  const groups = form.exec(url)?.groups;
  if (!groups) throw wrong("request.url", "must be Patient, Patient/[id] or Patient?identifier=…: nothing else is written here");
  const { id, query } = groups;
  if (method === "POST") {
    if (id === undefined && query === undefined) return {};
    throw wrong("request.url", "must be Patient, without an id or a query; a condition belongs in ifNoneExist");
  }
  if (id !== undefined && query === undefined) return { id };
  if (id === undefined && query !== undefined && method !== "PATCH") return { condition: conditionOf(new URLSearchParams(query)) };
  throw wrong("request.url", method === "PATCH" ? "must be Patient/[id]" : "must be Patient/[id] or Patient?identifier=system|value");
}

function patientOf({ resource }: fhir.BundleEntry): fhir.Patient {
  if (resource?.resourceType === "Patient") return resource as fhir.Patient;
  throw wrong("resource", "must be a Patient");
}

/** A patch is no resource, so a Bundle has it in a Binary. */
function patchOf({ resource }: fhir.BundleEntry): PatchOperation[] {
  const { data } = (resource?.resourceType === "Binary" ? resource : {}) as { data?: unknown };
  try {
    return PatchSchema.parse(JSON.parse(decodeJson(Buffer.from(String(data), "base64")))) as unknown as PatchOperation[];
  } catch {
    throw wrong("resource", "must be a Binary whose data is a JSON Patch of at most 1,000 operations, in base64");
  }
}

/** An entry that writes, before its patient was looked for. */
function writeOf(index: number, entry: fhir.BundleEntry): Write {
  const request = entry.request as fhir.BundleEntryRequest;
  const { method, ifNoneExist } = request;
  const { id, condition = method === "POST" && ifNoneExist !== undefined ? ifNoneExistOf(ifNoneExist) : undefined } = addressOf(request);
  const ifMatch = request.ifMatch === undefined ? undefined : toIfMatch(request.ifMatch, "request.ifMatch");
  return { index, entry, id, condition, ifMatch };
}

/** Whether the entry writes the patient with its id, and so needs them. A deletion does not. */
const needsPatient = ({ entry, id }: Write): boolean => id !== undefined && entry.request?.method !== "DELETE";

export function createPlanning(rules: PatientRules) {
  /**
   * The entry with its patient. One who is not among those who were named may have come since, and else is an error.
   */
  async function withPatient(call: Call, write: Write, named: Named): Promise<Write> {
    const { entry, id = "", condition } = write;
    if (condition) {
      const current = named.holderOf(condition);
      return { ...write, id: current?.id, current };
    }
    if (!needsPatient(write)) return write;
    const read = () => (entry.request?.method === "PUT" ? rules.get(call, id).catch(asUpdateOfNobody) : rules.get(call, id));
    const current = named.withId(id) ?? (await read());
    return { ...write, id: current.id, current };
  }

  return async (call: Call, entries: fhir.BundleEntry[]): Promise<Plan[]> => {
    const drafts = entries.flatMap((entry, index) => {
      try {
        const { method, url } = entry.request as fhir.BundleEntryRequest;
        if (method !== "GET") return [writeOf(index, entry)];
        requireServed(url);
        return [];
      } catch (error) {
        throw asErrorOfEntry(index, error);
      }
    });
    const ids = drafts.filter(needsPatient).map(({ id = "" }) => id);
    const named = await rules.findAll(call, ids, drafts.flatMap(({ condition }) => condition ?? [])); // biome-ignore format: one thing
    const writes: Write[] = [];
    for (const draft of drafts) {
      try {
        writes.push(await withPatient(call, draft, named));
      } catch (error) {
        throw asErrorOfEntry(draft.index, error);
      }
    }
    requireDifferentPatients(writes);
    const references = referencesOf(writes, entries);
    return writes.map((write) => {
      try {
        return { ...write, ...changeOf(write, references) };
      } catch (error) {
        throw asErrorOfEntry(write.index, error);
      }
    });
  };
}

/** A read that can never be done is refused before anything is written. */
function requireServed(url: string): void {
  if (pathOf(url) === undefined)
    throw wrong("request.url", "must begin with a type of resource, such as Patient/1, and must not be an export");
}

/** The order of the entries decides nothing, so two writes of one patient would be ambiguous. */
function requireDifferentPatients(writes: Write[]): void {
  const first = new Map<string, number>();
  for (const { index, id, condition } of writes)
    for (const name of [id?.toLowerCase(), condition && JSON.stringify([condition.system, condition.value])]) {
      if (name === undefined) continue;
      const earlier = first.get(name);
      if (earlier !== undefined && earlier !== index)
        throw asErrorOfEntry(index, wrong("request.url", `concerns the same patient as Bundle.entry[${earlier}]; send one of them`));
      first.set(name, index);
    }
}

function referencesOf(writes: Write[], entries: fhir.BundleEntry[]): References {
  const references: References = new Map();
  const ids = new Map(writes.map(({ index, id }) => [index, id]));
  for (const [index, { fullUrl }] of entries.entries()) {
    if (fullUrl === undefined || !ids.has(index)) continue;
    if (references.has(fullUrl)) throw asErrorOfEntry(index, wrong("fullUrl", "is that of another entry too"));
    const id = ids.get(index);
    references.set(fullUrl, id === undefined ? undefined : `Patient/${id}`);
  }
  return references;
}

function changeOf({ entry, id, condition, current, ifMatch }: Write, references: References): Change {
  const method = entry.request?.method;
  const found = condition && current && `"${current.version}"`;
  if (method === "DELETE") {
    if (id !== undefined) return { operation: { method: "delete", id, ifMatch: ifMatch ?? found } };
    requireNoVersion(ifMatch);
    return {};
  }
  if (method === "PATCH" && current) {
    const written = rewrite(current, withReferences(patched(toFhir(current), patchOf(entry)), references));
    const operation = { method: "replace" as const, id: current.id, ifMatch: ifMatch ?? `"${current.version}"` };
    return { written, operation: { ...operation, body: wholeBodyOf(bodyOf(written)) } };
  }
  const resource = withReferences(patientOf(entry), references);
  if (condition) requireIdentifier(resource, condition);
  if (method === "POST" && current) return {};
  if (method === "PUT") {
    if (condition) requireSamePatient(resource, current, ifMatch);
    else requireIdOfUrl(resource, id ?? "");
  }
  const written = current ? rewrite(current, resource) : readPatient(resource);
  const body = bodyOf(written);
  if (!current) return { written, operation: { method: "create", body } };
  return { written, operation: { method: "replace", id: current.id, ifMatch: ifMatch ?? found, body: wholeBodyOf(body) } };
}
