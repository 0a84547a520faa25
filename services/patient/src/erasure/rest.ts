/** The REST operations that erase patients, and those of legal holds. */
import { createRoute } from "@hono/zod-openapi";
import type { RestApp } from "@pm/kit/http/rest";
import { errorAnswers, jsonAnswer, jsonBody } from "@pm/kit/http/schemas";
import { callOf } from "../caller.ts";
import { params } from "../patients/request.ts";
import type { Certificate, Erasures } from "./erasures.ts";
import { ErasePatientSchema, ErasurePreviewSchema, ErasureSchema, LegalHoldSchema, LegalHoldWriteSchema } from "./schemas.ts";
import type { HoldRow } from "./store.ts";

const tags = ["Erasure"];

const erasePatient = createRoute({
  operationId: "erasePatient",
  method: "post",
  path: "/patients/{id}:erase",
  tags,
  summary: "Erase a patient",
  description: `For administrators who have logged in with a second factor. Removes from every store what identifies the patient; amounts and
counts stay. It cannot be undone. 409 names what the law makes the clinic keep: an open balance, invoices and a record that are too young,
a legal hold. With \`restrict\` the rest goes now. Send it again to try at once what is still held.`,
  request: { params, body: jsonBody(ErasePatientSchema) },
  responses: {
    200: jsonAnswer(ErasurePreviewSchema, "With `dryRun`: what is held"),
    202: jsonAnswer(ErasureSchema, "The erasure, which goes on by itself; `GET /patients/{id}/erasure` says how far it is"),
    ...errorAnswers("not_found", "failed_precondition"),
  },
});

const readErasure = createRoute({
  operationId: "readErasure",
  method: "get",
  path: "/patients/{id}/erasure",
  tags,
  summary: "Read the certificate of an erasure: what was removed, where and when",
  request: { params },
  responses: { 200: jsonAnswer(ErasureSchema, "The certificate"), ...errorAnswers("not_found") },
});

const readLegalHold = createRoute({
  operationId: "readLegalHold",
  method: "get",
  path: "/patients/{id}/hold",
  tags,
  summary: "Read the legal hold on a patient",
  request: { params },
  responses: { 200: jsonAnswer(LegalHoldSchema, "The hold"), ...errorAnswers("not_found") },
});

const placeLegalHold = createRoute({
  operationId: "placeLegalHold",
  method: "put",
  path: "/patients/{id}/hold",
  tags,
  summary: "Place a legal hold on a patient, or replace it",
  description: "Nothing of the patient can be erased while it is in force.",
  request: { params, body: jsonBody(LegalHoldWriteSchema) },
  responses: { 200: jsonAnswer(LegalHoldSchema, "The hold"), ...errorAnswers("not_found", "failed_precondition") },
});

const endLegalHold = createRoute({
  operationId: "endLegalHold",
  method: "delete",
  path: "/patients/{id}/hold",
  tags,
  summary: "End the legal hold on a patient",
  description: "An erasure that waits for it goes on.",
  request: { params },
  responses: { 204: { description: "Ended" }, ...errorAnswers("not_found") },
});

const toErasure = ({ requestedAt, completedAt, waiting, removed, ...certificate }: Certificate) => ({
  ...certificate,
  ...(waiting && { waiting: { ...waiting, since: waiting.since.toISOString() } }),
  requestedAt: requestedAt.toISOString(),
  ...(completedAt && { completedAt: completedAt.toISOString() }),
  removed: removed.map(({ at, ...removal }) => ({ ...removal, at: at.toISOString() })),
});
const toHold = ({ reason, placed_by: placedBy, placed_at }: HoldRow) => ({ reason, placedBy, placedAt: placed_at.toISOString() });

export function registerErasures({ operation }: RestApp, erasures: Erasures): void {
  operation(erasePatient, async (c) => {
    const { id } = c.req.valid("param");
    const { dryRun, ...asked } = c.req.valid("json");
    if (dryRun) return c.json(await erasures.preview(callOf(c), id), 200);
    return c.json(toErasure(await erasures.erase(callOf(c), id, asked)), 202);
  });

  operation(readErasure, async (c) => c.json(toErasure(await erasures.certificate(callOf(c), c.req.valid("param").id)), 200));

  operation(readLegalHold, async (c) => c.json(toHold(await erasures.readHold(callOf(c), c.req.valid("param").id)), 200));

  operation(placeLegalHold, async (c) => {
    const hold = await erasures.placeHold(callOf(c), c.req.valid("param").id, c.req.valid("json").reason);
    return c.json(toHold(hold), 200);
  });

  operation(endLegalHold, async (c) => {
    await erasures.endHold(callOf(c), c.req.valid("param").id);
    return c.body(null, 204);
  });
}
