/** Batches: each entry is a request of its own, with an outcome of its own (http://hl7.org/fhir/R4/http.html#transaction). */
import type { BundleEntry, BundleEntryRequest, BundleEntryResponse, FhirResource, OperationOutcome } from "fhir/r4.js";

/** Sends a request to this API, as the caller. `url` is relative to its base. */
export type Send = (method: string, url: string, headers: Record<string, string>, resource?: object) => Promise<Response>;

/** What a request of an entry may be about: a resource, and no operation that answers with a stream. */
const isServed = (url: string): boolean => /^[A-Z][A-Za-z]*([/?]|$)/.test(url) && !/\/(\$|%24)export([?/]|$)/.test(url);

const headerOf = { ifMatch: "if-match", ifNoneMatch: "if-none-match", ifModifiedSince: "if-modified-since", ifNoneExist: "if-none-exist" };

function headersOf(request: BundleEntryRequest): Record<string, string> {
  const pairs = Object.entries(headerOf).map(([field, header]) => [header, request[field as keyof typeof headerOf]]);
  const headers = Object.fromEntries(pairs.filter(([, value]) => value !== undefined)) as Record<string, string>;
  const since = headers["if-modified-since"];
  // An instant in a Bundle, and a date of HTTP in a header.
  return since === undefined ? headers : { ...headers, "if-modified-since": new Date(since).toUTCString() };
}

/** Carries out the request of an entry. */
export async function carryOut({ request, resource }: BundleEntry, send: Send): Promise<BundleEntry> {
  const url = request?.url.replace(/^\//, "") ?? "";
  if (!request || !isServed(url))
    return refused("The url of a request must begin with a type of resource, such as Patient/1, and must not be an export.");
  const response = await send(request.method, url, headersOf(request), resource);
  const text = await response.text();
  const body = text === "" ? undefined : (JSON.parse(text) as FhirResource);
  const isError = response.status >= 400;
  return {
    ...(body && !isError && { resource: body }),
    response: { ...responseOf(response), ...(body && isError && { outcome: body }) },
  };
}

const refusal = (text: string): OperationOutcome => ({
  resourceType: "OperationOutcome",
  issue: [{ severity: "error", code: "invalid", details: { text } }],
});
const refused = (message: string): BundleEntry => ({ response: { status: "400 Bad Request", outcome: refusal(message) } });

function responseOf({ status, headers }: Response): BundleEntryResponse {
  const location = headers.get("location");
  const etag = headers.get("etag");
  const modified = headers.get("last-modified");
  return {
    status: statusLine(status),
    ...(location !== null && { location }),
    ...(etag !== null && { etag }),
    ...(modified !== null && { lastModified: new Date(modified).toISOString() }),
  };
}

const reasons: Record<number, string> = { 200: "OK", 201: "Created", 204: "No Content", 304: "Not Modified" };
const statusLine = (status: number): string => [status, reasons[status]].filter(Boolean).join(" ");
