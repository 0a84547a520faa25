/** The interactions on one patient (http://hl7.org/fhir/R4/http.html). */
import { createRoute, z } from "@hono/zod-openapi";
import type { RestApp, RestContext } from "@pm/kit/http/rest";
import { errorAnswers } from "@pm/kit/http/schemas";
import type * as fhir from "fhir/r4.js";
import type { Operation } from "rfc6902";
import { callOf } from "../protocol/calls.ts";
import { capability } from "../protocol/capability.ts";
import { conditionOf, conditionPattern, ifMatchOf, ifNoneExistOf } from "../protocol/conditions.ts";
import {
  answerRead,
  answerWritten,
  fhirAnswer,
  fhirBody,
  formOf,
  idOf,
  queryOf,
  requireJson,
  resourceSchema,
  root,
} from "../protocol/resource.ts";
import { describeSearch } from "../protocol/search-parameters.ts";
import { patientSearch } from "./criteria.ts";
import { examplePatient, toFhir } from "./mapping.ts";
import { PatchSchema } from "./patching.ts";
import type { PatientRules, Stored } from "./patients.ts";
import { link, provenance, relatedPerson } from "./search.ts";

export const PatientSchema = resourceSchema("Patient", examplePatient);
export const tags = ["Patient"];
export const params = idOf(examplePatient.id ?? "");
const written = fhirAnswer(PatientSchema, "The patient as they are now, in the form of `Prefer: return=…`");
const failures = errorAnswers("not_found", "gone", "already_exists", "aborted", "unprocessable", "not_acceptable", "resource_exhausted");
const identifier = z.string().openapi({
  ...{ pattern: conditionPattern, description: "`system|value`: the only condition that is taken.", example: "urn:oid:1.2.36|4711" },
});
const condition = z.looseObject({ identifier });

const readPatient = createRoute({
  operationId: "readPatient",
  method: "get",
  path: `${root}/Patient/{id}`,
  tags,
  summary: "Read a patient",
  description: "One who was merged into another one says so by `link`. With `If-None-Match` or `If-Modified-Since`, 304 if it is known.",
  request: { params },
  responses: {
    200: fhirAnswer(PatientSchema, "The patient, with its version as ETag"),
    ...errorAnswers("not_found", "gone", "not_acceptable"),
  },
});

const createPatient = createRoute({
  operationId: "createPatient",
  method: "post",
  path: `${root}/Patient`,
  tags,
  summary: "Create a patient",
  description: "With `If-None-Exist: identifier=system|value`, only if nobody has the identifier; 200 with the one who has it.",
  request: { body: fhirBody(PatientSchema) },
  responses: { 201: written, 200: fhirAnswer(PatientSchema, "The patient who has the identifier already"), ...failures },
});

const updatePatient = createRoute({
  operationId: "updatePatient",
  method: "put",
  path: `${root}/Patient/{id}`,
  tags,
  summary: "Replace a patient",
  request: { params, body: fhirBody(PatientSchema) },
  responses: { 200: written, ...failures },
});

const updatePatientWhere = createRoute({
  operationId: "updatePatientWhere",
  method: "put",
  path: `${root}/Patient`,
  tags,
  summary: "Replace the patient with an identifier, or create them",
  request: { query: condition, body: fhirBody(PatientSchema) },
  responses: { 200: written, 201: written, ...failures },
});

const patchPatient = createRoute({
  operationId: "patchPatient",
  method: "patch",
  path: `${root}/Patient/{id}`,
  tags,
  summary: "Change a patient by a JSON Patch",
  request: { params, body: { required: true, content: { "application/json-patch+json": { schema: PatchSchema } } } },
  responses: { 200: written, ...failures },
});

const deletePatient = createRoute({
  operationId: "deletePatient",
  method: "delete",
  path: `${root}/Patient/{id}`,
  tags,
  summary: "Delete a patient",
  description: "204 too if they are deleted already. 410 for administrators if the patient's erasure waits for a hold: the record stays.",
  request: { params },
  responses: { 204: { description: "Deleted" }, ...errorAnswers("not_found", "gone", "aborted") },
});

const deletePatientWhere = createRoute({
  operationId: "deletePatientWhere",
  method: "delete",
  path: `${root}/Patient`,
  tags,
  summary: "Delete the patient with an identifier",
  description: "204 too if nobody has it. With `If-Match`, 412 if nobody has it, or if the version is another one.",
  request: { query: condition },
  responses: { 204: { description: "Deleted" }, ...errorAnswers("not_found", "aborted") },
});

export const patientCapability = capability(
  "Patient",
  ["read", "vread", "update", "patch", "delete", "history-instance", "history-type", "create", "search-type"],
  {
    supportedProfile: ["http://hl7.org/fhir/us/core/StructureDefinition/us-core-patient|5.0.1"],
    readHistory: true,
    updateCreate: false,
    conditionalCreate: true,
    conditionalRead: "full-support",
    conditionalUpdate: true,
    conditionalDelete: "single",
    searchParam: describeSearch(patientSearch),
    searchInclude: [link],
    searchRevInclude: [provenance, relatedPerson],
  },
);

const conditionIn = (c: RestContext) => conditionOf(queryOf(c));

/** @param base the URL of this API, as clients call it */
export function registerPatients({ operation }: RestApp, { base, patients }: { base: string; patients: PatientRules }): void {
  const answer = (c: RestContext, { patient, isNew }: Stored) => answerWritten(c, base, toFhir(patient), isNew ? 201 : 200);
  // `readPatient` in `writing.ts` checks what it is.
  const bodyOf = (c: { req: { valid: (target: "json") => unknown } }) => c.req.valid("json") as fhir.Patient;

  operation(readPatient, async (c) => {
    requireJson(c);
    return answerRead(c, formOf(c, toFhir(await patients.get(callOf(c), c.req.valid("param").id))));
  });

  operation(createPatient, async (c) => {
    requireJson(c);
    const ifNoneExist = c.req.header("if-none-exist");
    if (ifNoneExist === undefined) return answer(c, await patients.create(callOf(c), bodyOf(c)));
    const unlessThere = ifNoneExistOf(ifNoneExist);
    return answer(c, await patients.createUnlessThere(callOf(c), bodyOf(c), unlessThere));
  });

  operation(updatePatient, async (c) => {
    requireJson(c);
    return answer(c, await patients.update(callOf(c), c.req.valid("param").id, bodyOf(c), ifMatchOf(c)));
  });

  operation(updatePatientWhere, async (c) => {
    requireJson(c);
    return answer(c, await patients.updateWhere(callOf(c), conditionIn(c), bodyOf(c), ifMatchOf(c)));
  });

  operation(patchPatient, async (c) => {
    requireJson(c);
    const operations = c.req.valid("json") as unknown as Operation[];
    return answer(c, await patients.patch(callOf(c), c.req.valid("param").id, operations, ifMatchOf(c)));
  });

  operation(deletePatient, async (c) => {
    await patients.remove(callOf(c), c.req.valid("param").id, ifMatchOf(c));
    return c.body(null, 204);
  });

  operation(deletePatientWhere, async (c) => {
    await patients.removeWhere(callOf(c), conditionIn(c), ifMatchOf(c));
    return c.body(null, 204);
  });
}
