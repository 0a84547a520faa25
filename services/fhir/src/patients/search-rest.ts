/** The search for patients (http://hl7.org/fhir/R4/search.html). */
import { createRoute, z } from "@hono/zod-openapi";
import type { RestApp, RestContext } from "@pm/kit/http/rest";
import { errorAnswers } from "@pm/kit/http/schemas";
import { searchset } from "../protocol/bundle.ts";
import { callOf } from "../protocol/calls.ts";
import { preferencesOf } from "../protocol/conditions.ts";
import { answerWith, BundleSchema, fhirAnswer, queryOf, requireJson, root } from "../protocol/resource.ts";
import { describeParameters, readSearch } from "../protocol/search-parameters.ts";
import { patientSearch } from "./criteria.ts";
import { tags } from "./rest.ts";
import type { createPatientSearch } from "./search.ts";

const description = `Pages by the link \`next\`, which keeps its place while others write; that of a form has none of its criteria. Unknown parameters are ignored, and the answer says so;
with \`Prefer: handling=strict\` they are 400.`;
const responses = { 200: fhirAnswer(BundleSchema, "A page of patients"), ...errorAnswers("invalid_argument", "not_acceptable") };

const searchPatients = createRoute({
  operationId: "searchPatients",
  method: "get",
  path: `${root}/Patient`,
  tags,
  parameters: describeParameters(patientSearch),
  summary: "Search for patients",
  description,
  responses,
});

const searchPatientsByForm = createRoute({
  operationId: "searchPatientsByForm",
  method: "post",
  path: `${root}/Patient/_search`,
  tags,
  summary: "Search for patients, with the parameters in the body",
  description,
  request: {
    body: {
      required: false,
      content: { "application/x-www-form-urlencoded": { schema: z.looseObject({}).openapi({ example: { family: "Lovelace" } }) } },
    },
  },
  responses,
});

/** @param base the URL of this API, as clients call it */
export function registerPatientSearch(
  { operation }: RestApp,
  { base, search }: { base: string; search: ReturnType<typeof createPatientSearch> },
): void {
  async function answer(c: RestContext, given: Iterable<[string, string]>, isForm = false) {
    const asked = readSearch(given, patientSearch, preferencesOf(c).handling);
    const { lastUpdated, ...found } = await search(callOf(c), asked, isForm);
    const bundle = searchset(base, `${base}/Patient`, asked, { ...found, isCarried: isForm });
    return answerWith(c, { ...bundle, ...(lastUpdated !== undefined && { meta: { lastUpdated } }) });
  }

  operation(searchPatients, (c) => {
    requireJson(c);
    return answer(c, queryOf(c));
  });

  operation(searchPatientsByForm, async (c) => {
    requireJson(c);
    return answer(c, [...queryOf(c), ...new URLSearchParams(await c.req.text())], true);
  });
}
