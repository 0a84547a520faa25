/** The interactions on patients (http://hl7.org/fhir/R4/http.html). */
import { createRoute, z } from "@hono/zod-openapi";
import type { RestApp } from "@pm/kit/http/rest";
import { errorAnswers } from "@pm/kit/http/schemas";
import { capability } from "../rest/capability.ts";
import { callOf } from "../rest/inner.ts";
import { answerRead, fhirAnswer, requireJson, resourceSchema, root } from "../rest/resource.ts";
import type { Patients } from "./client.ts";
import { examplePatient, toFhir } from "./mapping.ts";

const PatientSchema = resourceSchema("Patient", examplePatient);
const tags = ["Patient"];
const params = z.object({ id: z.string().openapi({ example: examplePatient.id }) });

const readPatient = createRoute({
  operationId: "readPatient",
  method: "get",
  path: `${root}/Patient/{id}`,
  tags,
  summary: "Read a patient",
  request: { params },
  responses: { 200: fhirAnswer(PatientSchema, "The patient, with its version as ETag"), ...errorAnswers("not_found", "not_acceptable") },
});

export const patientCapability = capability("Patient", ["read"]);

/** @param base the URL of this API, as clients call it */
export function registerPatients({ operation }: RestApp, { patients }: { base: string; patients: Patients }): void {
  operation(readPatient, async (c) => {
    requireJson(c);
    return answerRead(c, toFhir(await patients.get(callOf(c), c.req.valid("param").id)));
  });
}
