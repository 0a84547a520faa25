/**
 * Bulk Data (https://hl7.org/fhir/uv/bulkdata/STU2/export.html) over exports as of one moment. Its files are streams
 * that are made when they are read, so an export is complete as soon as it is asked for. What was asked for stands in
 * its address, because this service keeps nothing.
 */
import { AppError, type FieldError, invalidFields } from "@pm/kit/errors";
import type { Bundle, FhirResource } from "fhir/r4.js";
import { toFhir } from "../patients/mapping.ts";
import type { Patient } from "../patients/patient.ts";
import { toHints } from "../protocol/outcome.ts";
import { formatParameters, instantOf } from "../protocol/search-parameters.ts";
import type { Export } from "./client.ts";

/** The resources that each patient of an export becomes, by their type. */
const resourcesOf: Record<string, (patient: Patient) => FhirResource[]> = {
  Patient: (patient) => [toFhir(patient)],
};
export const exportedTypes = Object.keys(resourcesOf);

/** The files that an export may have. */
export const fileNames = [...exportedTypes, "deletions", "outcomes"];

export const ndjson = "application/fhir+ndjson";
const formats = new Set([ndjson, "application/ndjson", "ndjson"]);

/**
 * What was asked for. `request` is the address of the request below the base, with its parameters; `notExported` are
 * the types that are asked for and not exported.
 */
export type Asked = { request: string; types: string[]; notExported: string[]; since: string | undefined };

/** Parameters that narrow an export, which a caller may ask this server to ignore by `handling=lenient`. */
const unsupported = ["_elements", "_typeFilter", "includeAssociatedData", "patient", "organizeOutputBy", "allowPartialManifests", "_until"];

/**
 * Reads the parameters of a kick-off request.
 * @param path that of the request below the base
 * @throws AppError invalid_argument
 */
export function readRequest(path: string, given: URLSearchParams, handling: "strict" | "lenient"): Asked {
  const wrong: FieldError[] = [];
  const types = given.getAll("_type").flatMap((text) => text.split(",")).filter(Boolean); // biome-ignore format: one list
  const notExported = types.filter((type) => !exportedTypes.includes(type));
  if (notExported.length > 0 && handling !== "lenient") {
    const message = `has types that are not exported here; use ${exportedTypes.join(", ")}, or send Prefer: handling=lenient to have them left out`;
    wrong.push({ path: "_type", message });
  }
  // A client may leave a plus as it is, and in a query it means a space.
  const [format = ndjson, sinceText] = ["_outputFormat", "_since"].map((name) => given.get(name)?.replace(" ", "+"));
  if (!formats.has(format)) wrong.push({ path: "_outputFormat", message: `must be ${[...formats].join(", ")}` });
  const since = sinceText === undefined ? undefined : instantOf(sinceText);
  if (sinceText !== undefined && !since)
    wrong.push({ path: "_since", message: "must be an instant with its time zone, such as 2026-01-28T09:30:00Z" });
  for (const name of given.keys()) {
    if (["_type", "_outputFormat", "_since"].includes(name) || formatParameters.has(name) || handling === "lenient") continue;
    const hint = unsupported.includes(name) ? "is not supported" : "is not known";
    wrong.push({ path: name, message: `${hint}; leave it out, or send Prefer: handling=lenient to have it ignored` });
  }
  if (wrong.length > 0) throw invalidFields(wrong);
  const query = given.toString();
  const request = query === "" ? path : `${path}?${query}`;
  const exported = types.length === 0 ? exportedTypes : exportedTypes.filter((type) => types.includes(type));
  return { request, types: exported, notExported, since: since?.toISOString() };
}

/** The address at which a client asks whether an export is complete. */
export const statusUrl = (base: string, { exportId }: Export, { request }: Asked): string =>
  `${base}/exports/${exportId}?${new URLSearchParams({ request })}`;

/** What the address of a request may be, below the base. */
export const requestPattern = "^(Patient/|Group/[A-Za-z0-9_.-]{1,64}/)?\\$export(\\?[\\s\\S]*)?$";

/** What was asked for, by that address. */
export function readStatus(request: string): Asked {
  const [path = "", query] = request.split("?", 2);
  if (!new RegExp(requestPattern).test(request))
    throw invalidFields([{ path: "request", message: "is part of the address that Content-Location of $export gave; send it as it was" }]);
  return readRequest(path, new URLSearchParams(query), "lenient");
}

/** The manifest of a complete export. Deletions are listed for a client that has an export from before. */
export function manifestOf(base: string, { exportId, cutoff, since }: Export, { request, types, notExported }: Asked) {
  const file = (name: string) => `${base}/exports/${exportId}/${name}`;
  return {
    transactionTime: cutoff,
    request: `${base}/${request}`,
    requiresAccessToken: true,
    output: types.map((type) => ({ type, url: file(type) })),
    deleted: since === undefined || !types.includes("Patient") ? [] : [{ type: "Bundle", url: file("deletions") }],
    error: notExported.length === 0 ? [] : [{ type: "OperationOutcome", url: file("outcomes") }],
  };
}

/** What is told about types that were asked for and are not exported. */
export const outcomesFile = `${JSON.stringify(toHints([`Only ${exportedTypes.join(", ")} are exported.`], "information"))}\n`;

/** How the lines of a file are made of the lines of its stream. */
export function fileOf(name: string): { stream: "patients" | "deletions"; toResources: (line: string) => FhirResource[] } {
  if (name === "deletions") return { stream: "deletions", toResources: (line) => [toDeletion(JSON.parse(line))] };
  const toResources = Object.hasOwn(resourcesOf, name) ? resourcesOf[name] : undefined;
  if (!toResources) throw new AppError("not_found", "An export has no such file.");
  return { stream: "patients", toResources: (line) => toResources(JSON.parse(line)) };
}

const toDeletion = ({ id, deletedAt }: { id: string; deletedAt: string }): Bundle => ({
  resourceType: "Bundle",
  type: "transaction",
  meta: { lastUpdated: deletedAt },
  entry: [{ request: { method: "DELETE", url: `Patient/${id}` } }],
});
