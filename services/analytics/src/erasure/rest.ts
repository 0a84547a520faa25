/** What an erasure has removed here, for the certificate of patient-service. The gateway has no route to it. */
import { createRoute, z } from "@hono/zod-openapi";
import { AppError } from "@pm/kit/errors";
import type { RestApp } from "@pm/kit/http/rest";
import { errorAnswers, jsonAnswer } from "@pm/kit/http/schemas";
import type { AnalyticsDatabase } from "../tables.ts";
import { findErasure } from "./store.ts";

const example = "0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f";
const patientId = z.uuid().openapi({ example });

const eventId = z.uuid().optional().openapi({
  description: "The event by which the patient was erased. 404 until it is applied, also if an earlier one was.",
  example: "0193b3f0-9d2b-7c1f-8e4a-5b6c7d8e9f02",
});

const ErasureSchema = z
  .object({
    patientId,
    erasureId: z.uuid(),
    erasedAt: z.iso.datetime(),
    removed: z.record(z.string(), z.int()).openapi({
      description: "Rows by what they are: events and dead letters that have lost demographics, and roll-ups that have changed.",
    }),
  })
  .openapi("ErasureHere", {
    example: {
      patientId: example,
      erasureId: "0193b3f0-9d2b-7c1f-8e4a-5b6c7d8e9f01",
      erasedAt: "2026-05-20T09:30:00.480Z",
      removed: { events: 2, deadLetters: 0, copiesOfDeadLetters: 0, rollups: 14 },
    },
  });

const readErasure = createRoute({
  operationId: "readErasure",
  method: "get",
  path: "/erasures/{patientId}",
  tags: ["Erasure"],
  summary: "Read what was removed of a patient who was erased",
  request: { params: z.object({ patientId }), query: z.object({ eventId }) },
  responses: { 200: jsonAnswer(ErasureSchema, "What was removed, and when"), ...errorAnswers("not_found") },
});

export function registerErasures({ operation }: RestApp, { db }: { db: AnalyticsDatabase }): void {
  operation(readErasure, async (c) => {
    const row = await findErasure(db, c.req.valid("param").patientId, c.req.valid("query").eventId);
    if (!row) throw new AppError("not_found", "This patient is not erased here.");
    const { patient_id, erasure_id, erased_at, removed } = row;
    return c.json({ patientId: patient_id, erasureId: erasure_id, erasedAt: erased_at.toISOString(), removed }, 200);
  });
}
