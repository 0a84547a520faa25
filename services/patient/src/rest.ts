/** The REST operations on patients: route table, schemas, handlers. */
import { z } from "@hono/zod-openapi";
import type { RestApp, RestContext } from "@pm/kit/rest";
import { PatientCreateSchema, PatientPageSchema, PatientSchema } from "./documents.ts";
import type { createLists } from "./lists.ts";
import { sorts } from "./lists.ts";
import type { Call, Patients } from "./patients.ts";
import type { Patient } from "./schema.ts";

function callOf(c: RestContext): Call {
  return { caller: c.get("caller"), requestId: c.get("requestId"), traceparent: c.get("traceparent") };
}

/** A patient as answers show it. */
export function toBody({ id, version, record, createdAt, updatedAt, accountId }: Patient) {
  return {
    id,
    ...record,
    version,
    createdAt: createdAt.toISOString(),
    updatedAt: updatedAt.toISOString(),
    billing: accountId === undefined ? { status: "pending" as const } : { status: "active" as const, accountId },
  };
}

const etag = (patient: Patient) => `"${patient.version}"`;

const IdParameter = z.object({
  id: z.string().openapi({ param: { name: "id", in: "path" }, format: "uuid", example: "0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f" }),
});
const idempotencyKey = z.string().min(1).max(200).optional().openapi({
  description: "The same key with the same body gives the first answer again; with another body it is 422. Kept for 24 hours.",
});

const json = <S extends z.ZodType>(schema: S) => ({ content: { "application/json": { schema } } });

export function registerPatients(
  { operation }: RestApp,
  { patients, lists }: { patients: Patients; lists: ReturnType<typeof createLists> },
): void {
  operation(
    {
      operationId: "listPatients",
      method: "get",
      path: "/patients",
      summary: "List patients",
      request: {
        query: z.strictObject({
          limit: z.coerce.number().int().min(1).max(200).default(50),
          cursor: z.string().max(2_000).optional(),
          sort: z.enum(sorts).default("createdAt"),
        }),
      },
      responses: { 200: { description: "A page of patients", ...json(PatientPageSchema) } },
    },
    async (c) => {
      const page = await lists.list(callOf(c), c.req.valid("query"));
      return c.json({ ...page, items: page.items.map(toBody) }, 200);
    },
  );

  operation(
    {
      operationId: "createPatient",
      method: "post",
      path: "/patients",
      summary: "Register a patient",
      request: {
        headers: z.object({ "idempotency-key": idempotencyKey }),
        body: { required: true, ...json(PatientCreateSchema) },
      },
      responses: { 201: { description: "The patient", ...json(PatientSchema) } },
    },
    async (c) => {
      const patient = await patients.create(callOf(c), c.req.valid("json"), c.req.valid("header")["idempotency-key"]);
      const headers = {
        location: `/patients/${patient.id}`,
        etag: etag(patient),
        ...(patient.repeated && { "idempotency-replayed": "true" }),
      };
      return c.json(toBody(patient), 201, headers);
    },
  );

  operation(
    {
      operationId: "getPatient",
      method: "get",
      path: "/patients/{id}",
      summary: "Read a patient",
      request: { params: IdParameter },
      responses: { 200: { description: "The patient", ...json(PatientSchema) } },
    },
    async (c) => {
      const patient = await patients.get(callOf(c), c.req.valid("param").id);
      return c.json(toBody(patient), 200, { etag: etag(patient) });
    },
  );
}
