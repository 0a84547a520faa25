/** The list of records that were opened in an emergency, for auditors. */
import { createRoute, z } from "@hono/zod-openapi";
import { nextCursor, pageCursor, pageLimit, toPage } from "@pm/kit/http/paging";
import { type RestApp, requestContext } from "@pm/kit/http/rest";
import { jsonAnswer } from "@pm/kit/http/schemas";
import type { PatientDatabase } from "../database.ts";
import { type Emergency, listEmergencies } from "./store.ts";

const EmergenciesSchema = z
  .object({
    items: z.array(
      z.object({
        emergencyId: z.uuid().openapi({ example: "0193b3f0-a1b2-7c3d-8e4f-5a6b7c8d9e0f" }),
        patientId: z.uuid().openapi({ example: "0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f" }),
        userId: z.string().openapi({ example: "0193b3f0-91d4-7c3e-8a5b-1f2e3d4c5b6a" }),
        reason: z.string().openapi({ example: "Unconscious in the emergency room, allergies unknown" }),
        openedAt: z.iso.datetime().openapi({ example: "2026-11-28T09:30:00.000Z" }),
        expiresAt: z.iso.datetime().openapi({ example: "2026-11-28T13:30:00.000Z" }),
        requestId: z.string().openapi({ example: "0b7e4c1d-5a2f-4c8e-9f3b-6d1a2c3b4e5f" }),
      }),
    ),
    nextCursor,
  })
  .openapi("Emergencies");

const listRoute = createRoute({
  operationId: "listEmergencies",
  method: "get",
  path: "/patients/emergencies",
  tags: ["Audit"],
  summary: "List the records that were opened in an emergency",
  description: "Who opened which record without a grant, why, and until when. The newest first.",
  request: {
    query: z.strictObject({ limit: pageLimit(), cursor: pageCursor(z.uuid()) }),
  },
  responses: { 200: jsonAnswer(EmergenciesSchema, "A page of emergencies") },
});

export function registerEmergencies({ operation }: RestApp, { db }: { db: PatientDatabase }): void {
  operation(listRoute, async (c) => {
    const { limit, cursor } = c.req.valid("query");
    const { actorId: actor, requestId } = requestContext(c);
    const found = await listEmergencies(db, { actor, requestId, before: cursor, limit: limit + 1 });
    return c.json(
      toPage(found.map(toBody), limit, ({ emergencyId }) => emergencyId),
      200,
    );
  });
}

function toBody({ id, patient_id, user_id, reason, request_id, opened_at, expires_at }: Emergency) {
  return {
    ...{ emergencyId: id, patientId: patient_id, userId: user_id, reason, requestId: request_id },
    ...{ openedAt: opened_at.toISOString(), expiresAt: expires_at.toISOString() },
  };
}
