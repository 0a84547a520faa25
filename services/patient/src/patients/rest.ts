/** The REST operations on patients. */
import { createRoute, z } from "@hono/zod-openapi";
import { pageCursor, pageLimit } from "@pm/kit/http/paging";
import type { RestApp } from "@pm/kit/http/rest";
import { errorAnswers, jsonAnswer, jsonBody, plainText } from "@pm/kit/http/schemas";
import { plainTextPattern } from "@pm/kit/plain-text";
import { type Call, callOf } from "../caller.ts";
import { duplicateModes, type Patient } from "../tables.ts";
import { PatientCreateSchema, PatientPatchSchema, PatientReplaceSchema, PatientRestoreSchema } from "./body-schemas.ts";
import { type Lists, sorts } from "./list.ts";
import type { Patients } from "./patients.ts";
import { filters, filtersOf, idempotencyKey, ifMatch, params, toBody, toPageBody } from "./request.ts";
import {
  PatientPageSchema,
  PatientSchema,
  RegisteredPatientSchema,
  SharingSchema,
  SharingWriteSchema,
  TransferredSchema,
  TransferSchema,
} from "./schemas.ts";
import type { createSharing } from "./sharing.ts";

export type PatientRules = {
  patients: Patients;
  lists: Lists;
  sharing: ReturnType<typeof createSharing>;
  /** Opens a record to somebody of the clinical staff who says why. */
  openInEmergency: (call: Call, patientId: string, reason: string) => Promise<void>;
};

const listPatients = createRoute({
  operationId: "listPatients",
  method: "get",
  path: "/patients",
  tags: ["Patients"],
  summary: "List and search patients",
  description:
    "Pages by cursor. A later page costs what the first one costs, and patients that are added or deleted meanwhile do not shift it.",
  request: {
    query: z.strictObject({
      limit: pageLimit(),
      cursor: pageCursor(),
      sort: z
        .enum(sorts)
        .optional()
        .openapi({
          description: `With \`-\` in front: descending. By default the order of creation; a search then shows whole words before words
that only begin as they were asked. Words that are nearly right come last in any order.`,
        }),
      count: z.enum(["exact"]).optional().openapi({ description: "Adds `total` to the first page." }),
      ...filters,
    }),
  },
  responses: { 200: jsonAnswer(PatientPageSchema, "A page of patients") },
});

const createPatient = createRoute({
  operationId: "createPatient",
  method: "post",
  path: "/patients",
  tags: ["Patients"],
  summary: "Register a patient",
  description:
    "Opens a billing account too. If billing does not answer at once, `billing.status` is `pending` and becomes `active` by itself. 429 if you met too many addresses of patients whom you may not see.",
  request: {
    query: z.strictObject({
      duplicates: z
        .enum(duplicateModes)
        .default("warn")
        .openapi({
          description: `What becomes of somebody who may be registered already, as far as you may see: \`warn\` creates them, and
\`possibleDuplicates\` says how many there are; \`refuse\` is 409 with the candidates; \`allow\` does not look.`,
        }),
    }),
    headers: z.object({
      "idempotency-key": idempotencyKey.openapi({
        description: "The same key with the same body gives the first answer again; with another body it is 422. Kept for a day.",
      }),
    }),
    body: jsonBody(PatientCreateSchema),
  },
  responses: {
    201: jsonAnswer(RegisteredPatientSchema, "The patient. `Location` has its address."),
    ...errorAnswers("already_exists", "idempotency_key_reused", "resource_exhausted"),
  },
});

const getPatient = createRoute({
  operationId: "getPatient",
  method: "get",
  path: "/patients/{id}",
  tags: ["Patients"],
  summary: "Read a patient",
  description: `The id of a record that was merged leads to its survivor: \`mergedFrom\` is the id that was asked for, and \`Content-Location\`
has the survivor's. With \`X-Emergency-Reason\`, clinical staff (role user) read a record that nobody has shared with them. It is open to
them for reading for four hours. Auditors read who, when and why.`,
  request: {
    params,
    headers: z.object({
      "x-emergency-reason": plainText.min(10).max(500).optional().openapi({
        pattern: plainTextPattern,
        description: "Why the record must be opened now, in words.",
        example: "Unconscious in the emergency room, allergies unknown",
      }),
    }),
  },
  responses: { 200: jsonAnswer(PatientSchema, "The patient, with its version as ETag"), ...errorAnswers("not_found") },
});

const replacePatient = createRoute({
  operationId: "replacePatient",
  method: "put",
  path: "/patients/{id}",
  tags: ["Patients"],
  summary: "Replace a patient's record",
  request: { params, headers: ifMatch, body: jsonBody(PatientReplaceSchema) },
  responses: {
    200: jsonAnswer(PatientSchema, "The patient as it is now"),
    ...errorAnswers("not_found", "already_exists", "aborted", "resource_exhausted"),
  },
});

const patchPatient = createRoute({
  operationId: "patchPatient",
  method: "patch",
  path: "/patients/{id}",
  tags: ["Patients"],
  summary: "Change parts of a patient's record",
  request: {
    params,
    headers: ifMatch,
    body: {
      required: true,
      content: { "application/merge-patch+json": { schema: PatientPatchSchema }, "application/json": { schema: PatientPatchSchema } },
    },
  },
  responses: {
    200: jsonAnswer(PatientSchema, "The patient as it is now"),
    ...errorAnswers("not_found", "already_exists", "aborted", "resource_exhausted"),
  },
});

const deletePatient = createRoute({
  operationId: "deletePatient",
  method: "delete",
  path: "/patients/{id}",
  tags: ["Patients"],
  summary: "Delete a patient",
  description:
    "The record is kept with its history and can be restored. Its e-mail address and identifiers can be used by another patient.",
  request: { params, headers: ifMatch },
  responses: { 204: { description: "Deleted" }, ...errorAnswers("not_found", "aborted") },
});

const restorePatient = createRoute({
  operationId: "restorePatient",
  method: "post",
  path: "/patients/{id}:restore",
  tags: ["Patients"],
  summary: "Restore a deleted patient",
  description:
    "409 if another patient has its e-mail address or one of its identifiers now. Send the changes that solve it as a JSON merge patch: another e-mail, or identifiers without that one. A patient that is not deleted stays as it is.",
  request: {
    params,
    headers: ifMatch,
    body: {
      required: false,
      content: { "application/merge-patch+json": { schema: PatientRestoreSchema }, "application/json": { schema: PatientRestoreSchema } },
    },
  },
  responses: {
    200: jsonAnswer(PatientSchema, "The patient"),
    ...errorAnswers("not_found", "already_exists", "aborted", "resource_exhausted"),
  },
});

const readPatientAccess = createRoute({
  operationId: "readPatientAccess",
  method: "get",
  path: "/patients/{id}/access",
  tags: ["Sharing"],
  summary: "Read with whom a patient is shared",
  request: { params },
  responses: { 200: jsonAnswer(SharingSchema, "Users and teams"), ...errorAnswers("not_found") },
});

const replacePatientAccess = createRoute({
  operationId: "replacePatientAccess",
  method: "put",
  path: "/patients/{id}/access",
  tags: ["Sharing"],
  summary: "Share a patient with users and teams",
  description: "Replaces the lists. Only the owner, who always sees the patient, and administrators can do this.",
  request: { params, body: jsonBody(SharingWriteSchema) },
  responses: { 200: jsonAnswer(SharingSchema, "Users and teams, as they are now"), ...errorAnswers("not_found") },
});

const transferPatients = createRoute({
  operationId: "transferPatients",
  method: "post",
  path: "/patients:transfer",
  tags: ["Sharing"],
  summary: "Give all patients of a user to another user",
  description: `For administrators, when somebody leaves; it needs \`patient:all\` too. A request gives 500 patients, deleted ones included.
Send it again until \`remaining\` is 0; after an error it goes on where it stopped. The former owner no longer sees a patient, unless it is
shared with them.`,
  request: { body: jsonBody(TransferSchema) },
  responses: { 200: jsonAnswer(TransferredSchema, "How many patients have the new owner, and how many are left") },
});

const etag = (patient: Patient) => ({ etag: `"${patient.version}"` });

export function registerPatients({ operation }: RestApp, { patients, lists, sharing, openInEmergency }: PatientRules): void {
  operation(listPatients, async (c) => {
    return c.json(toPageBody(await lists.page(callOf(c), filtersOf(c.req.valid("query")))), 200);
  });

  operation(createPatient, async (c) => {
    const options = { key: c.req.valid("header")["idempotency-key"], duplicates: c.req.valid("query").duplicates };
    const { possibleDuplicates, repeated, ...patient } = await patients.create(callOf(c), c.req.valid("json"), options);
    const replayed = repeated && { "idempotency-replayed": "true" };
    return c.json({ ...toBody(patient), ...(possibleDuplicates !== undefined && { possibleDuplicates }) }, 201, {
      location: `/patients/${patient.id}`,
      ...etag(patient),
      ...replayed,
    });
  });

  operation(getPatient, async (c) => {
    const id = c.req.valid("param").id.toLowerCase();
    const reason = c.req.valid("header")["x-emergency-reason"];
    if (reason !== undefined) await openInEmergency(callOf(c), id, reason);
    const patient = await patients.get(callOf(c), id);
    if (patient.id === id) return c.json(toBody(patient), 200, etag(patient));
    const headers = { ...etag(patient), "content-location": `/patients/${patient.id}` };
    return c.json({ ...toBody(patient), mergedFrom: id }, 200, headers);
  });

  operation(replacePatient, async (c) => {
    const patient = await patients.replace(callOf(c), c.req.valid("param").id, c.req.valid("json"), c.req.valid("header")["if-match"]);
    return c.json(toBody(patient), 200, etag(patient));
  });

  operation(patchPatient, async (c) => {
    const patient = await patients.patch(callOf(c), c.req.valid("param").id, c.req.valid("json"), c.req.valid("header")["if-match"]);
    return c.json(toBody(patient), 200, etag(patient));
  });

  operation(deletePatient, async (c) => {
    await patients.remove(callOf(c), c.req.valid("param").id, c.req.valid("header")["if-match"]);
    return c.body(null, 204);
  });

  operation(restorePatient, async (c) => {
    const patient = await patients.restore(callOf(c), c.req.valid("param").id, c.req.valid("json"), c.req.valid("header")["if-match"]);
    return c.json(toBody(patient), 200, etag(patient));
  });

  operation(readPatientAccess, async (c) => c.json(await sharing.read(callOf(c), c.req.valid("param").id), 200));

  operation(replacePatientAccess, async (c) => c.json(await sharing.replace(callOf(c), c.req.valid("param").id, c.req.valid("json")), 200));

  operation(transferPatients, async (c) => c.json(await sharing.transfer(callOf(c), c.req.valid("json")), 200));
}
