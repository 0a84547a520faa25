/** The operation that finds records of one person. */
import { createRoute } from "@hono/zod-openapi";
import { invalidFields } from "@pm/kit/errors";
import type { RestApp } from "@pm/kit/http/rest";
import { errorAnswers } from "@pm/kit/http/schemas";
import type { Bundle, Patient } from "fhir/r4.js";
import { examplePatient } from "../patients/mapping.ts";
import { tags } from "../patients/rest.ts";
import { callOf } from "../protocol/calls.ts";
import type { Operation } from "../protocol/capability.ts";
import { inParameter, type Kinds, oneOf, readParameters } from "../protocol/parameters.ts";
import { answerWith, BundleSchema, fhirAnswer, fhirBody, requireJson, resourceSchema, root } from "../protocol/resource.ts";
import type { createMatch, Match, MatchRequest } from "./match.ts";

export const matchOperation: Operation = {
  resource: "Patient",
  name: "match",
  definition: "http://hl7.org/fhir/OperationDefinition/Patient-match",
};

const gradeUrl = "http://hl7.org/fhir/StructureDefinition/match-grade";
const kinds: Kinds = { resource: "resource", onlyCertainMatches: "valueBoolean", count: "valueInteger" };

const { id: _id, meta: _meta, ...person } = examplePatient;
const MatchSchema = resourceSchema("Parameters", {
  resourceType: "Parameters",
  parameter: [
    { name: "resource", resource: person },
    { name: "onlyCertainMatches", valueBoolean: false },
  ],
});

const matchPatient = createRoute({
  operationId: "matchPatient",
  method: "post",
  path: `${root}/Patient/$match`,
  tags,
  summary: "Find who may be the same person as somebody",
  description: `The best first, of the patients whom the caller may see: \`search.score\` says how likely it is one person, and the extension
\`match-grade\` is \`certain\`, \`probable\` or \`possible\`. With \`onlyCertainMatches\`, the one certain match, and nobody if there are
several. \`count\` is at most 50. Nothing is stored.`,
  request: { body: fhirBody(MatchSchema) },
  responses: {
    200: fhirAnswer(BundleSchema, "The matches, as a Bundle"),
    ...errorAnswers("invalid_argument", "unprocessable", "not_acceptable"),
  },
});

function requestOf(body: object): MatchRequest & { path: string } {
  const given = readParameters(body, kinds);
  const resource = oneOf(given, "resource");
  if (!resource) throw invalidFields([{ path: "Parameters.parameter", message: "must have a resource: the patient to look for" }]);
  const count = oneOf(given, "count");
  if (count && Number(count.value) < 1) throw invalidFields([{ path: count.path, message: "must be 1 or more" }]);
  return {
    resource: resource.value as Patient,
    path: resource.path,
    onlyCertain: oneOf(given, "onlyCertainMatches")?.value === true,
    count: count && Number(count.value),
  };
}

const toBundle = (base: string, matches: Match[]): Bundle => ({
  resourceType: "Bundle",
  type: "searchset",
  total: matches.length,
  // FHIR permits no empty lists.
  ...(matches.length > 0 && {
    entry: matches.map(({ patient, score, grade }) => ({
      fullUrl: `${base}/Patient/${patient.id}`,
      resource: patient,
      search: { extension: [{ url: gradeUrl, valueCode: grade }], mode: "match" as const, score },
    })),
  }),
});

/** @param base the URL of this API, as clients call it */
export function registerMatch({ operation }: RestApp, { base, match }: { base: string; match: ReturnType<typeof createMatch> }): void {
  operation(matchPatient, async (c) => {
    requireJson(c);
    const { path, ...request } = requestOf(c.req.valid("json"));
    const matches = await match(callOf(c), request).catch((error: unknown) => {
      throw inParameter(error, "Patient", path);
    });
    return answerWith(c, toBundle(base, matches));
  });
}
