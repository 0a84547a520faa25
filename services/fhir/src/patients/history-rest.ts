/** The versions of patients (http://hl7.org/fhir/R4/http.html#history). */
import { createRoute, z } from "@hono/zod-openapi";
import type { RestApp, RestContext } from "@pm/kit/http/rest";
import { errorAnswers } from "@pm/kit/http/schemas";
import { historyBundle } from "../protocol/bundle.ts";
import { callOf } from "../protocol/calls.ts";
import { answerRead, answerWith, BundleSchema, fhirAnswer, formOf, queryOf, requireJson, root } from "../protocol/resource.ts";
import { describeParameters, readSearch, sinceOf } from "../protocol/search-parameters.ts";
import type { createHistory, History, HistoryQuery } from "./history.ts";
import { toFhir } from "./mapping.ts";
import { PatientSchema, params, tags } from "./rest.ts";

const definitions = { _since: { type: "date", documentation: "Only versions from this instant on." } } as const;
const parameters = describeParameters(definitions, ["_count", "_cursor"]);

const readPatientVersion = createRoute({
  operationId: "readPatientVersion",
  method: "get",
  path: `${root}/Patient/{id}/_history/{version}`,
  tags,
  summary: "Read a version of a patient",
  request: { params: params.extend({ version: z.string().openapi({ pattern: "^[1-9][0-9]{0,15}$", example: "1" }) }) },
  responses: { 200: fhirAnswer(PatientSchema, "The patient as they were"), ...errorAnswers("not_found", "gone", "not_acceptable") },
});

const readPatientHistory = createRoute({
  operationId: "readPatientHistory",
  method: "get",
  path: `${root}/Patient/{id}/_history`,
  tags,
  parameters,
  summary: "Read the versions of a patient, the newest first",
  request: { params },
  responses: { 200: fhirAnswer(BundleSchema, "A page of versions"), ...errorAnswers("not_found", "not_acceptable", "invalid_argument") },
});

const readHistoryOfPatients = createRoute({
  operationId: "readHistoryOfPatients",
  method: "get",
  path: `${root}/Patient/_history`,
  tags,
  parameters: describeParameters(definitions, ["_count", "_sort", "_cursor"]),
  summary: "Follow the versions of all patients",
  description: `The newest first. Nothing is missing from before the Bundle's \`meta.lastUpdated\`, whatever was being written: send it as the
next \`_since\`. \`_sort=_lastUpdated\` for the oldest first, as FHIR R5 has it.`,
  responses: { 200: fhirAnswer(BundleSchema, "A page of versions"), ...errorAnswers("not_acceptable", "invalid_argument") },
});

type Asked = { query: HistoryQuery; understood: [string, string][] };

function askedOf(c: RestContext): Asked {
  const search = readSearch(queryOf(c), definitions, "lenient");
  const { count, cursor, sort, understood } = search;
  const since = sinceOf(search);
  const oldestFirst = sort.some(({ name, descending }) => name === "_lastUpdated" && !descending);
  const query = {
    count: Math.max(count, 1),
    oldestFirst,
    ...(since && { since: since.toISOString() }),
    ...(cursor !== undefined && { cursor }),
  };
  return { query, understood };
}

/** @param base the URL of this API, as clients call it */
export function registerHistory(
  { operation }: RestApp,
  { base, history }: { base: string; history: ReturnType<typeof createHistory> },
): void {
  function answer(c: RestContext, path: string, { query, understood }: Asked, { versions, next, lastUpdated }: History) {
    const asked = { asked: understood, cursor: query.cursor, next, versions };
    const bundle = historyBundle(base, `${base}/${path}`, asked);
    return answerWith(c, { ...bundle, ...(lastUpdated !== undefined && { meta: { lastUpdated } }) });
  }

  operation(readHistoryOfPatients, async (c) => {
    requireJson(c);
    const asked = askedOf(c);
    return answer(c, "Patient/_history", asked, await history.ofAll(callOf(c), asked.query));
  });

  operation(readPatientHistory, async (c) => {
    requireJson(c);
    const { id } = c.req.valid("param");
    const asked = askedOf(c);
    return answer(c, `Patient/${id}/_history`, asked, await history.ofPatient(callOf(c), id, asked.query));
  });

  operation(readPatientVersion, async (c) => {
    requireJson(c);
    const { id, version } = c.req.valid("param");
    return answerRead(c, formOf(c, toFhir(await history.version(callOf(c), id, version))));
  });
}
