/** Bundles of what a search or a history finds, with links to their pages (http://hl7.org/fhir/R4/bundle.html). */
import { AppError } from "@pm/kit/errors";
import type { Bundle, BundleEntry, BundleLink, FhirResource, OperationOutcome, OperationOutcomeIssue } from "fhir/r4.js";
import { toHints } from "./outcome.ts";
import type { Search } from "./search-parameters.ts";

const linkTo = (url: string, parameters: [string, string][]): string => {
  const query = new URLSearchParams(parameters).toString();
  return query === "" ? url : `${url}?${query}`;
};

/** The gateway takes 15 kB of headers: the address, the token and what clients and proxies add. */
const maxLink = 10_000;

type Asked = { understood: [string, string][]; cursor?: string | undefined };

/** A page's own link, and that of the next page. The cursor keeps its place while others write. */
function linksOf(url: string, { understood, cursor }: Asked, next: string | undefined, isCarried = false): BundleLink[] {
  const self = linkTo(url, cursor === undefined ? understood : [...understood, ["_cursor", cursor]]);
  if (next === undefined) return [{ relation: "self", url: self }];
  const kept = understood.filter(([name]) => !isCarried || keptWithCarriedSearch.has(name));
  const following = linkTo(url, [...kept, ["_cursor", next]]);
  if (following.length > maxLink) throw tooLongToPage();
  return [
    { relation: "self", url: self },
    { relation: "next", url: following },
  ];
}

/** The next page would have an address that no server takes. Nobody is to learn that in the middle of the pages. */
export function tooLongToPage(): AppError {
  const message = "The search has more than one page and is too long for the link to the next one. Send fewer values, or a higher _count.";
  return new AppError("invalid_argument", message, { errors: [{ path: "", message }] });
}

/**
 * Parameters that the next link keeps if its cursor carries the search. The others would put names into URLs, and so
 * into the logs of proxies.
 */
const keptWithCarriedSearch = new Set(["_count", "_total", "_summary", "_elements", "_include", "_revinclude"]);

const fullUrl = (base: string, { resourceType, id }: FhirResource) =>
  id === undefined ? {} : { fullUrl: `${base}/${resourceType}/${id}` };

type Found = {
  /** The resources that match, in their order. */
  matches: FhirResource[];
  /** Resources that belong to them, by `_include` or `_revinclude`. */
  included?: FhirResource[];
  total?: number | undefined;
  /** The cursor of the next page. */
  next?: string | undefined;
  /** Whether the cursor of the next page carries the criteria. */
  isCarried?: boolean;
  /** What the caller is told beside it. */
  notes?: OperationOutcomeIssue[];
};

/** @param url the address that was searched, without its query */
export function searchset(
  base: string,
  url: string,
  search: Search,
  { matches, included = [], total, next, isCarried = false, notes = [] }: Found,
): Bundle {
  const hints = toHints(search.ignored.map((name) => `${name} is not known here and was ignored.`));
  const outcome: OperationOutcome = { ...hints, issue: [...hints.issue, ...notes] };
  const entry: BundleEntry[] = [
    ...matches.map((resource) => ({ ...fullUrl(base, resource), resource: subset(resource, search), search: { mode: "match" as const } })),
    ...included.map((resource) => ({ ...fullUrl(base, resource), resource, search: { mode: "include" as const } })),
    ...(outcome.issue.length > 0 ? [{ resource: outcome, search: { mode: "outcome" as const } }] : []),
  ];
  return {
    resourceType: "Bundle",
    type: "searchset",
    ...(total !== undefined && search.total !== "none" && { total }),
    link: linksOf(url, search, next, isCarried),
    // FHIR permits no empty lists.
    ...(entry.length > 0 && { entry }),
  };
}

/** A version for a history: its resource, unless it was deleted by that version. */
export type Past = {
  type: string;
  id: string;
  version: number;
  at: string;
  made: "created" | "updated" | "deleted";
  resource?: FhirResource;
};

export function historyBundle(
  base: string,
  url: string,
  {
    asked,
    cursor,
    next,
    total,
    versions,
  }: { asked: [string, string][]; cursor?: string | undefined; next?: string | undefined; total?: number; versions: Past[] },
): Bundle {
  const methods = { created: "POST", updated: "PUT", deleted: "DELETE" } as const;
  const statuses = { created: "201", updated: "200", deleted: "204" };
  const entry = versions.map(
    ({ type, id, version, at, made, resource }): BundleEntry => ({
      fullUrl: `${base}/${type}/${id}`,
      ...(resource && { resource }),
      request: { method: methods[made], url: made === "created" ? type : `${type}/${id}` },
      response: { status: statuses[made], etag: `W/"${version}"`, lastModified: at },
    }),
  );
  return {
    resourceType: "Bundle",
    type: "history",
    ...(total !== undefined && { total }),
    link: linksOf(url, { understood: asked, cursor }, next),
    ...(entry.length > 0 && { entry }),
  };
}

/** What every form of a resource has. */
const always = new Set(["resourceType", "id", "meta"]);
const subsetted = { system: "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", code: "SUBSETTED" };

/** The elements of a resource that `_elements` or `_summary` asks for. A resource that lacks some says so. */
export function subset<Resource extends FhirResource>(
  resource: Resource,
  { elements, summary }: Pick<Search, "elements" | "summary">,
): Resource {
  const kept = keptOf(resource.resourceType, elements, summary);
  if (!kept) return resource;
  const fields = Object.entries(resource).filter(([name]) => always.has(name) || kept(name.replace(/^_/, "")));
  const { meta } = resource;
  return { ...Object.fromEntries(fields), meta: { ...meta, tag: [...(meta?.tag ?? []), subsetted] } } as Resource;
}

/** The elements that FHIR marks as part of a summary (Σ), for the types of this server that have others too. */
const inSummary: Record<string, string[]> = {
  Patient: [
    ...["identifier", "active", "name", "telecom", "gender", "birthDate", "deceasedBoolean", "deceasedDateTime", "address"],
    ...["managingOrganization", "link", "implicitRules"],
  ],
};

function keptOf(type: string, elements: string[], summary: Search["summary"]): ((name: string) => boolean) | undefined {
  if (elements.length > 0) return (name) => elements.includes(name) || elements.includes(`${type}.${name}`);
  if (summary === "data") return (name) => name !== "text";
  if (summary === "text") return (name) => name === "text";
  const known = inSummary[type];
  return summary === "true" && known ? (name) => known.includes(name) : undefined;
}
