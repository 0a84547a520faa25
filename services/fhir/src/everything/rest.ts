/**
 * The operation that gives all that is known of a patient (http://hl7.org/fhir/R4/patient-operation-everything.html).
 */
import { createRoute } from "@hono/zod-openapi";
import type { RestApp, RestContext } from "@pm/kit/http/rest";
import { errorAnswers } from "@pm/kit/http/schemas";
import { params, tags } from "../patients/rest.ts";
import { searchset } from "../protocol/bundle.ts";
import { callOf } from "../protocol/calls.ts";
import { preferencesOf } from "../protocol/conditions.ts";
import { readParameters } from "../protocol/parameters.ts";
import { answerWith, BundleSchema, fhirAnswer, queryOf, requireJson, resourceSchema, root } from "../protocol/resource.ts";
import { describeParameters, ignoreOrRefuse, readSearch, type Search, sinceOf } from "../protocol/search-parameters.ts";
import { type Asked, type createEverything, type EverythingType, everythingTypes } from "./everything.ts";

const definitions = {
  _type: { type: "token", documentation: `Types of resources, with commas between: ${everythingTypes.join(", ")}.` },
  _since: { type: "date", documentation: "Only what changed from this instant on. What does not say when it changed is always there." },
} as const;

const description = `The patient first, then their contacts, accounts, charges, invoices and payments, and who made their versions. Pages by
the link \`next\`. What the caller may not read is left out, and an OperationOutcome in the Bundle says so.`;
const responses = {
  200: fhirAnswer(BundleSchema, "A page, as a Bundle"),
  ...errorAnswers("not_found", "gone", "invalid_argument", "not_acceptable"),
};

const readEverything = createRoute({
  operationId: "readEverything",
  method: "get",
  path: `${root}/Patient/{id}/$everything`,
  tags,
  parameters: describeParameters(definitions, ["_count"]),
  summary: "Read all that is known of a patient",
  description,
  request: { params },
  responses,
});

const InputSchema = resourceSchema("Parameters", {
  resourceType: "Parameters",
  parameter: [{ name: "_type", valueCode: "Patient" }],
});
const readEverythingByForm = createRoute({
  operationId: "readEverythingByForm",
  method: "post",
  path: `${root}/Patient/{id}/$everything`,
  tags,
  summary: "Read all that is known of a patient, with the parameters in the body",
  description,
  request: {
    params,
    body: { required: false, content: { "application/fhir+json": { schema: InputSchema }, "application/json": { schema: InputSchema } } },
  },
  responses,
});

function askedOf(search: Search): Asked {
  const asked = search.criteria.filter(({ name }) => name === "_type").flatMap(({ values }) => values);
  const isServed = (type: string): type is EverythingType => (everythingTypes as string[]).includes(type);
  const inclusions = [...search.include.map((one) => `_include=${one}`), ...search.revinclude.map((one) => `_revinclude=${one}`)];
  const sorts = search.sort.map(({ name }) => `_sort=${name}`);
  ignoreOrRefuse(search, [...asked.filter((type) => !isServed(type)).map((type) => `_type=${type}`), ...inclusions, ...sorts]);
  const types = asked.length > 0 ? asked.filter(isServed) : everythingTypes;
  return { types, since: sinceOf(search), count: Math.max(search.count, 1), cursor: search.cursor };
}

type Parts = { base: string; everything: ReturnType<typeof createEverything> };

/** `base` is the URL of this API, as clients call it. */
export function registerEverything({ operation }: RestApp, { base, everything }: Parts): void {
  async function answer(c: RestContext, id: string, input: [string, string][] = []) {
    requireJson(c);
    const search = readSearch([...queryOf(c), ...input], definitions, preferencesOf(c).handling);
    const { matches, notes, next } = await everything(callOf(c), id, askedOf(search));
    return answerWith(c, searchset(base, `${base}/Patient/${id}/$everything`, search, { matches, notes, next }));
  }

  operation(readEverything, (c) => answer(c, c.req.valid("param").id));

  operation(readEverythingByForm, (c) => {
    const given = readParameters(c.req.valid("json") ?? {}, { _type: "valueCode", _since: "valueInstant", _count: "valueInteger" });
    return answer(
      c,
      c.req.valid("param").id,
      given.map(({ name, value }) => [name, String(value)]),
    );
  });
}
