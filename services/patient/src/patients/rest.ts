/** The REST operations on patients: route table and handlers. */
import { z } from "@hono/zod-openapi";
import type { RestApp } from "@pm/kit/http/rest";
import type { Patient } from "../tables.ts";
import type { createHistory } from "./history.ts";
import { type Lists, type Sort, sorts } from "./list.ts";
import type { Patients } from "./patients.ts";
import { callOf, cursor, filters, filtersOf, toBody } from "./request.ts";
import {
  HistorySchema,
  IdsSchema,
  PatientCreateSchema,
  PatientPageSchema,
  PatientPatchSchema,
  PatientReplaceSchema,
  PatientSchema,
  SharingSchema,
  SharingWriteSchema,
  TotalsSchema,
} from "./schemas.ts";
import type { createSharing } from "./sharing.ts";
import type { createTotals } from "./totals.ts";

export type PatientRules = {
  patients: Patients;
  lists: Lists;
  history: ReturnType<typeof createHistory>;
  sharing: ReturnType<typeof createSharing>;
  totals: ReturnType<typeof createTotals>;
};

const json = <S extends z.ZodType>(schema: S) => ({ content: { "application/json": { schema } } });
const answer = <S extends z.ZodType>(schema: S, description: string) => ({ description, ...json(schema) });
const withTag = (patient: Patient) => ({ etag: `"${patient.version}"` });

const params = z.object({
  id: z.string().openapi({ param: { name: "id", in: "path" }, format: "uuid", example: "0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f" }),
});
const ifMatch = z.object({
  "if-match": z
    .string()
    .max(1_000)
    .optional()
    .openapi({ description: "The ETag of the version that you change; 412 where it is another one by now.", example: '"1"' }),
});
export function registerPatients({ operation }: RestApp, { patients, lists, history, sharing, totals }: PatientRules): void {
  operation(
    {
      operationId: "readPatientTotals",
      method: "get",
      path: "/patients:totals",
      summary: "Count patients, for consistency checks",
      responses: { 200: answer(TotalsSchema, "How many there are") },
    },
    async (c) => c.json(await totals.totals(), 200),
  );

  operation(
    {
      operationId: "listPatientIds",
      method: "get",
      path: "/patients:ids",
      summary: "List the ids of all patients, for consistency checks",
      request: { query: z.strictObject({ limit: z.coerce.number().int().min(1).max(10_000).default(1_000), cursor }) },
      responses: { 200: answer(IdsSchema, "Ids, deleted patients included") },
    },
    async (c) => c.json(await totals.ids(c.req.valid("query")), 200),
  );

  operation(
    {
      operationId: "listPatients",
      method: "get",
      path: "/patients",
      summary: "List and search patients",
      description: "Pages by cursor: a later page costs what the first one costs, and records that come and go shift nothing.",
      request: {
        query: z.strictObject({
          limit: z.coerce.number().int().min(1).max(200).default(50),
          cursor,
          sort: z
            .enum(sorts as [Sort, ...Sort[]])
            .default("createdAt")
            .openapi({ description: "`-` in front: descending." }),
          ...filters,
        }),
      },
      responses: { 200: answer(PatientPageSchema, "A page of patients") },
    },
    async (c) => {
      const page = await lists.page(callOf(c), filtersOf(c.req.valid("query")));
      return c.json({ ...page, items: page.items.map(toBody) }, 200);
    },
  );

  operation(
    {
      operationId: "createPatient",
      method: "post",
      path: "/patients",
      summary: "Register a patient",
      description:
        "Opens a billing account too. Where billing does not answer at once, `billing.status` is `pending`, and becomes `active` by itself.",
      request: {
        headers: z.object({
          "idempotency-key": z.string().min(1).max(200).optional().openapi({
            description: "The same key with the same body gives the first answer again, with another body 422. Kept for a day.",
          }),
        }),
        body: { required: true, ...json(PatientCreateSchema) },
      },
      responses: { 201: answer(PatientSchema, "The patient; its address is in `Location`") },
    },
    async (c) => {
      const patient = await patients.create(callOf(c), c.req.valid("json"), c.req.valid("header")["idempotency-key"]);
      const replayed = patient.repeated && { "idempotency-replayed": "true" };
      return c.json(toBody(patient), 201, { location: `/patients/${patient.id}`, ...withTag(patient), ...replayed });
    },
  );

  operation(
    {
      operationId: "restorePatient",
      method: "post",
      path: "/patients/{id}:restore",
      summary: "Restore a deleted patient",
      description: "409 where another patient has its e-mail by now. A patient that is not deleted stays as it is.",
      request: { params, headers: ifMatch },
      responses: { 200: answer(PatientSchema, "The patient") },
    },
    async (c) => {
      const patient = await patients.restore(callOf(c), c.req.valid("param").id, c.req.valid("header")["if-match"]);
      return c.json(toBody(patient), 200, withTag(patient));
    },
  );

  operation(
    {
      operationId: "getPatient",
      method: "get",
      path: "/patients/{id}",
      summary: "Read a patient",
      request: { params },
      responses: { 200: answer(PatientSchema, "The patient, with its version as ETag") },
    },
    async (c) => {
      const patient = await patients.get(callOf(c), c.req.valid("param").id);
      return c.json(toBody(patient), 200, withTag(patient));
    },
  );

  operation(
    {
      operationId: "replacePatient",
      method: "put",
      path: "/patients/{id}",
      summary: "Replace a patient's record",
      request: { params, headers: ifMatch, body: { required: true, ...json(PatientReplaceSchema) } },
      responses: { 200: answer(PatientSchema, "The patient as it is now") },
    },
    async (c) => {
      const patient = await patients.replace(callOf(c), c.req.valid("param").id, c.req.valid("json"), c.req.valid("header")["if-match"]);
      return c.json(toBody(patient), 200, withTag(patient));
    },
  );

  operation(
    {
      operationId: "patchPatient",
      method: "patch",
      path: "/patients/{id}",
      summary: "Change parts of a patient's record",
      request: {
        params,
        headers: ifMatch,
        body: {
          required: true,
          content: { "application/merge-patch+json": { schema: PatientPatchSchema }, "application/json": { schema: PatientPatchSchema } },
        },
      },
      responses: { 200: answer(PatientSchema, "The patient as it is now") },
    },
    async (c) => {
      const patient = await patients.patch(callOf(c), c.req.valid("param").id, c.req.valid("json"), c.req.valid("header")["if-match"]);
      return c.json(toBody(patient), 200, withTag(patient));
    },
  );

  operation(
    {
      operationId: "deletePatient",
      method: "delete",
      path: "/patients/{id}",
      summary: "Delete a patient",
      description: "The record is kept with its history, can be restored, and gives its e-mail free.",
      request: { params, headers: ifMatch },
      responses: { 204: { description: "Deleted" } },
    },
    async (c) => {
      await patients.remove(callOf(c), c.req.valid("param").id, c.req.valid("header")["if-match"]);
      return c.body(null, 204);
    },
  );

  operation(
    {
      operationId: "readPatientHistory",
      method: "get",
      path: "/patients/{id}/history",
      summary: "Read every version of a patient: who, when, what",
      request: { params, query: z.strictObject({ limit: z.coerce.number().int().min(1).max(200).default(50), cursor }) },
      responses: { 200: answer(HistorySchema, "The newest versions first") },
    },
    async (c) => {
      const { items, ...next } = await history.read(callOf(c), c.req.valid("param").id, c.req.valid("query"));
      return c.json({ items: items.map((item) => ({ ...item, at: item.at.toISOString() })), ...next }, 200);
    },
  );

  operation(
    {
      operationId: "readPatientAccess",
      method: "get",
      path: "/patients/{id}/access",
      summary: "Read with whom a patient is shared",
      request: { params },
      responses: { 200: answer(SharingSchema, "Users and teams") },
    },
    async (c) => c.json(await sharing.read(callOf(c), c.req.valid("param").id), 200),
  );

  operation(
    {
      operationId: "replacePatientAccess",
      method: "put",
      path: "/patients/{id}/access",
      summary: "Share a patient with users and teams",
      description: "Replaces the whole list. Whoever registered the patient sees it always.",
      request: { params, body: { required: true, ...json(SharingWriteSchema) } },
      responses: { 200: answer(SharingSchema, "Users and teams as they are now") },
    },
    async (c) => c.json(await sharing.replace(callOf(c), c.req.valid("param").id, c.req.valid("json")), 200),
  );
}
