/** Resources that can be read and searched, and not written: their routes, their pages and what they include. */
import { createRoute, z } from "@hono/zod-openapi";
import { AppError, invalidFields } from "@pm/kit/errors";
import type { RestApp, RestContext } from "@pm/kit/http/rest";
import { errorAnswers } from "@pm/kit/http/schemas";
import type { Bundle, FhirResource } from "fhir/r4.js";
import { searchset } from "./bundle.ts";
import { type Call, callOf } from "./calls.ts";
import { type Capability, capability } from "./capability.ts";
import { preferencesOf } from "./conditions.ts";
import { answerRead, answerWith, BundleSchema, fhirAnswer, idOf, queryOf, requireJson, resourceSchema, root } from "./resource.ts";
import {
  type Definitions,
  describeParameters,
  describeSearch,
  ignoreOrRefuse,
  readSearch,
  type Search,
  unsortedControls,
} from "./search-parameters.ts";

/** A page of what a search finds. `next` is the cursor of the next page. */
export type Page = { matches: FhirResource[]; next?: string | undefined };
export const nothing: Page = { matches: [] };

/** Reads a resource of a type that others refer to. */
export type Readers = Record<string, (call: Call, id: string) => Promise<FhirResource>>;

export type Readable<Type extends FhirResource["resourceType"] = FhirResource["resourceType"]> = {
  type: Type;
  example: Extract<FhirResource, { resourceType: Type }>;
  documentation: string;
  definitions: Definitions;
  /** By the parameter of `_include`, such as `subject`: the references in an element. */
  includes: Record<string, (resource: Extract<FhirResource, { resourceType: Type }>) => (string | undefined)[]>;
  read: (call: Call, id: string) => Promise<FhirResource>;
  search: (call: Call, search: Search) => Promise<Page>;
};

/** For a resource of one type, whose elements the compiler knows inside. */
export const readable = <Type extends FhirResource["resourceType"]>(one: Readable<Type>): Readable => one as unknown as Readable;

export const describe = ({ type, example, definitions, documentation, includes }: Readable): Capability =>
  capability(type, ["read", "search-type"], {
    documentation,
    versioning: example.meta?.versionId === undefined ? "no-version" : "versioned",
    searchParam: describeSearch(definitions),
    ...(Object.keys(includes).length > 0 && { searchInclude: Object.keys(includes).map((name) => `${type}:${name}`) }),
  });

/** @param base the URL of this API, as clients call it */
export function registerReadable({ operation }: RestApp, base: string, readers: Readers, one: Readable): void {
  const { type, definitions } = one;
  const readRoute = createRoute({
    operationId: `read${type}`,
    method: "get",
    path: `${root}/${type}/{id}`,
    tags: [type],
    summary: `Read one ${type}`,
    request: { params: idOf(one.example.id ?? "") },
    responses: { 200: fhirAnswer(resourceSchema(type, one.example), `The ${type}`), ...errorAnswers("not_found", "not_acceptable") },
  });
  const description = `${one.documentation} Pages by the link \`next\`.`;
  const responses = { 200: fhirAnswer(BundleSchema, "A page, as a Bundle"), ...errorAnswers("invalid_argument", "not_acceptable") };
  const searchRoute = createRoute({
    operationId: `search${type}`,
    method: "get",
    path: `${root}/${type}`,
    tags: [type],
    parameters: describeParameters(definitions, unsortedControls),
    summary: `Search ${type}`,
    description,
    responses,
  });
  const formRoute = createRoute({
    operationId: `search${type}ByForm`,
    method: "post",
    path: `${root}/${type}/_search`,
    tags: [type],
    summary: `Search ${type}, with the parameters in the body`,
    description,
    request: {
      body: {
        required: false,
        content: { "application/x-www-form-urlencoded": { schema: z.looseObject({}).openapi({ example: { _id: one.example.id ?? "" } }) } },
      },
    },
    responses,
  });

  async function found(c: RestContext, parameters: Iterable<[string, string]>): Promise<Bundle> {
    const search = readSearch(parameters, definitions, preferencesOf(c).handling);
    requireUnsorted(search);
    ignoreOrRefuse(search, search.revinclude.map((one) => `_revinclude=${one}`)); // biome-ignore format: one thing
    const call = callOf(c);
    const url = `${base}/${type}`;
    if (search.count === 0 || search.summary === "count")
      return searchset(base, url, search, { matches: [], total: await countOf(one, call, search) });
    const { matches, next } = await one.search(call, search);
    const included = await includedIn(matches, { call, search, one, readers });
    const total = search.cursor === undefined && next === undefined ? matches.length : undefined;
    return searchset(base, url, search, { matches, included, total, next });
  }

  operation(readRoute, async (c) => {
    requireJson(c);
    return answerRead(c, await one.read(callOf(c), c.req.valid("param").id));
  });
  operation(searchRoute, async (c) => {
    requireJson(c);
    return answerWith(c, await found(c, queryOf(c)));
  });
  operation(formRoute, async (c) => {
    requireJson(c);
    return answerWith(c, await found(c, [...queryOf(c), ...new URLSearchParams(await c.req.text())]));
  });
}

function requireUnsorted({ sort }: Search): void {
  if (sort.length > 0) throw invalidFields([{ path: "_sort", message: "is not known here; the newest come first" }]);
}

/** Counting reads what is counted, so it ends somewhere. */
const maxCounted = 10_000;

/** How many there are; undefined if they are too many to count. */
async function countOf({ search: run }: Readable, call: Call, asked: Search): Promise<number | undefined> {
  let counted = 0;
  for (let cursor: string | undefined; counted < maxCounted; ) {
    const { matches, next } = await run(call, { ...asked, count: 200, ...(cursor !== undefined && { cursor }) });
    counted += matches.length;
    if (next === undefined) return counted;
    cursor = next;
  }
  return undefined;
}

type Including = { call: Call; search: Search; one: Readable; readers: Readers };

/** The resources to which the matches refer, as `_include` names them. One that the caller may not see is left out. */
async function includedIn(matches: FhirResource[], { call, search, one, readers }: Including): Promise<FhirResource[]> {
  const references = search.include.flatMap((text) => {
    const [type, name = "", target] = text.split(":");
    const include = type === one.type && Object.hasOwn(one.includes, name) ? one.includes[name] : undefined;
    if (!include) ignoreOrRefuse(search, [`_include=${text}`]);
    return include
      ? matches.flatMap(include).filter((each) => each !== undefined && (target === undefined || each.startsWith(`${target}/`)))
      : [];
  });
  const found = await Promise.all(
    [...new Set(references)].map(async (reference = "") => {
      const [type = "", id = ""] = reference.split("/");
      return readers[type]?.(call, id).catch(unseen);
    }),
  );
  return found.filter((resource) => resource !== undefined);
}

function unseen(error: unknown): undefined {
  return error instanceof AppError && error.code === "permission_denied" ? undefined : unlessAbsent(error);
}

/** Throws every error but that of what is not there for the caller: a search leaves that out, a read does not. */
export function unlessAbsent(error: unknown): undefined {
  if (error instanceof AppError && (error.code === "not_found" || error.code === "gone")) return;
  throw error;
}
