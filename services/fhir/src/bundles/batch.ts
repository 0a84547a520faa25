/**
 * Batches: each entry is a request of its own, with an outcome of its own
 * (http://hl7.org/fhir/R4/http.html#transaction).
 */
import type { BundleEntry, BundleEntryRequest, BundleEntryResponse, FhirResource, OperationOutcome } from "fhir/r4.js";
import { root } from "../protocol/resource.ts";

/** Sends a request to this API, as the caller. `path` has its root and its query. */
export type Send = (method: string, path: string, headers: Headers, resource?: object) => Promise<Response>;

/** What a request of an entry may be about: a resource, and no export. */
const isServed = (path: string): boolean => /^[A-Z][A-Za-z]*([/?]|$)/.test(path) && !/\/(\$|%24)export([/?]|$)/.test(path);

/** The path of a request as it will be sent, with `..` and the like resolved; undefined unless it is served. */
export function pathOf(given: string): string | undefined {
  const url = given.replace(/^\//, "");
  // A URL that begins so is relative, so it has no host.
  if (!isServed(url)) return;
  const { pathname, search } = new URL(url, `http://this${root}/`);
  const path = `${pathname}${search}`;
  return path.startsWith(`${root}/`) && isServed(path.slice(root.length + 1)) ? path : undefined;
}

const headerOf = { ifMatch: "if-match", ifNoneMatch: "if-none-match", ifModifiedSince: "if-modified-since", ifNoneExist: "if-none-exist" };

/** @throws TypeError for a text that no header can have */
function headersOf(request: BundleEntryRequest): Headers {
  const headers = new Headers();
  for (const [field, header] of Object.entries(headerOf)) {
    const value = request[field as keyof typeof headerOf];
    if (value !== undefined) headers.set(header, value);
  }
  return headers;
}

/** In the words of HTTP: instants are dates, and what a query can have encoded is encoded. */
function inHttp(request: BundleEntryRequest): BundleEntryRequest {
  const { ifModifiedSince: since, ifNoneExist: query } = request;
  return {
    ...request,
    ...(since !== undefined && { ifModifiedSince: new Date(since).toUTCString() }),
    ...(query !== undefined && { ifNoneExist: query.replace(/[^!-~]+/g, encodeURIComponent) }),
  };
}

/**
 * Carries out the request of an entry. It does not throw, because the entries before were carried out already.
 * @param onFailure is told what went wrong here
 */
export async function carryOut({ request, resource }: BundleEntry, send: Send, onFailure: (error: unknown) => void): Promise<BundleEntry> {
  const path = request && pathOf(request.url);
  if (!request || path === undefined)
    return refused("The url of a request must begin with a type of resource, such as Patient/1, and must not be an export.");
  let headers: Headers;
  try {
    headers = headersOf(inHttp(request));
  } catch {
    return refused("ifMatch, ifNoneMatch and ifNoneExist must be text that a header of HTTP can have.");
  }
  try {
    const hasBody = request.method !== "GET" && request.method !== "DELETE";
    return await entryOf(await send(request.method, path, headers, hasBody ? resource : undefined));
  } catch (error) {
    onFailure(error);
    return failed;
  }
}

async function entryOf(response: Response): Promise<BundleEntry> {
  const text = await response.text();
  const body = text === "" ? undefined : (JSON.parse(text) as FhirResource);
  const isError = response.status >= 400;
  return {
    ...(body && !isError && { resource: body }),
    response: { ...responseOf(response), ...(body && isError && { outcome: body }) },
  };
}

const outcomeOf = (code: "invalid" | "exception", text: string): OperationOutcome => ({
  resourceType: "OperationOutcome",
  issue: [{ severity: "error", code, details: { text } }],
});
const refused = (text: string): BundleEntry => ({ response: { status: "400 Bad Request", outcome: outcomeOf("invalid", text) } });
const failed: BundleEntry = {
  response: { status: "500 Internal Server Error", outcome: outcomeOf("exception", "Internal error. Try again.") },
};

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
export const statusLine = (status: number): string => [status, reasons[status]].filter(Boolean).join(" ");
