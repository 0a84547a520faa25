/** Answers with resources: media type, version in the headers, and the forms in which callers may ask for them. */
import { z } from "@hono/zod-openapi";
import { AppError } from "@pm/kit/errors";
import { preferredType } from "@pm/kit/http/accept";
import type { RestContext } from "@pm/kit/http/rest";
import type { FhirResource, Meta, OperationOutcome } from "fhir/r4.js";
import { subset } from "./bundle.ts";
import { etagOf, isKnown, preferencesOf } from "./conditions.ts";
import { mediaType } from "./outcome.ts";
import { readSearch } from "./search-parameters.ts";

/** Where the API begins, at the gateway and here. */
export const root = "/fhir/R4";

/** Extensions and code systems of our own begin with it. */
export const ours = "https://patient-management.example/fhir";

type Typed = { resourceType: string };

/** A resource as OpenAPI documents show it. What it consists of is described by the specification of FHIR. */
export const resourceSchema = <Type extends string, Example extends Typed>(type: Type, example: Example) =>
  z
    .looseObject({ resourceType: z.literal(type) })
    .openapi(type, { description: `http://hl7.org/fhir/R4/${type.toLowerCase()}.html`, example });

/** The id in a path (http://hl7.org/fhir/R4/datatypes.html#id). What can be none is the id of nothing. */
export const idOf = (example: string) => z.object({ id: z.string().openapi({ pattern: "^[A-Za-z0-9.-]{1,64}$", example }) });

export const BundleSchema = resourceSchema("Bundle", {
  resourceType: "Bundle",
  type: "searchset",
  total: 0,
  link: [{ relation: "self", url: "https://example.com/fhir/R4/Patient?family=Lovelace" }],
});

export const fhirAnswer = <Schema extends z.ZodType>(schema: Schema, description: string) => ({
  description,
  content: { "application/fhir+json": { schema } },
});

/** A body that is sent as FHIR's JSON or as plain JSON. */
export const fhirBody = <Schema extends z.ZodType>(schema: Schema) => ({
  required: true,
  content: { "application/fhir+json": { schema }, "application/json": { schema } },
});

const offered = ["application/fhir+json", "application/json", "text/json"] as const;
const formats = new Set<string>(["json", ...offered]);

/** @throws AppError not_acceptable unless the caller takes JSON, by `_format` or `Accept` */
export function requireJson(c: RestContext): void {
  const format = c.req.queries("_format")?.[0]?.split(";")[0]?.replace(" ", "+").trim();
  if (format !== undefined ? formats.has(format) : preferredType(c, offered) !== undefined) return;
  throw new AppError("not_acceptable", "Only JSON is spoken here. Send Accept: application/fhir+json, or _format=json.");
}

type Answer = { status?: number; headers?: Record<string, string> };

/** A resource as an answer. Its type is that of no route, because Hono only knows the types of plain JSON. */
export function answerWith(c: RestContext, resource: FhirResource, { status = 200, headers = {} }: Answer = {}): never {
  const pretty = c.req.queries("_pretty")?.[0] === "true" ? 2 : undefined;
  // Bytes, because Node is slow to write a long text with a letter beyond Latin-1.
  const body = Buffer.from(JSON.stringify(resource, undefined, pretty));
  return c.body(body, status as 200, { "content-type": mediaType, ...headers }) as never;
}

type Versioned = FhirResource & { meta?: Meta | undefined };

const versionHeaders = ({ meta }: Versioned) => ({
  ...(meta?.versionId !== undefined && { etag: etagOf(meta.versionId) }),
  ...(meta?.lastUpdated !== undefined && { "last-modified": new Date(meta.lastUpdated).toUTCString() }),
});

/** The parameters in the address of a request. A whole `URL` would cost more to build. */
export function queryOf(c: RestContext): URLSearchParams {
  const { url } = c.req;
  return new URLSearchParams(url.includes("?") ? url.slice(url.indexOf("?")) : "");
}

/** A resource in the form that `_elements` or `_summary` asks for. */
export const formOf = <Resource extends FhirResource>(c: RestContext, resource: Resource): Resource =>
  subset(resource, readSearch(queryOf(c), {}, "lenient"));

/** A resource that was read, or 304 if the caller has this version. */
export function answerRead(c: RestContext, resource: Versioned): never {
  const headers = versionHeaders(resource);
  const { versionId, lastUpdated } = resource.meta ?? {};
  if (versionId !== undefined && lastUpdated !== undefined && isKnown(c, versionId, lastUpdated))
    return c.body(null, 304, headers) as never;
  return answerWith(c, resource, { headers });
}

/** A resource that was written, in the form of the caller's `Prefer: return=…`. */
export function answerWritten(c: RestContext, base: string, resource: Versioned, status: 200 | 201): never {
  const { resourceType, id, meta } = resource;
  const headers = {
    ...versionHeaders(resource),
    location: `${base}/${resourceType}/${id}/_history/${meta?.versionId}`,
  };
  const wanted = preferencesOf(c).return;
  if (wanted === "minimal") return c.body(null, status, headers) as never;
  if (wanted === "representation") return answerWith(c, resource, { status, headers });
  const text = `${resourceType}/${id} is stored as version ${meta?.versionId}.`;
  const outcome: OperationOutcome = {
    resourceType: "OperationOutcome",
    issue: [{ severity: "information", code: "informational", details: { text } }],
  };
  return answerWith(c, outcome, { status, headers });
}
