/** The REST operation that does many writes at once. */
import { createRoute, z } from "@hono/zod-openapi";
import { entityTags } from "@pm/kit/http/etag";
import type { RestApp } from "@pm/kit/http/rest";
import { errorAnswers, jsonAnswer, jsonBody } from "@pm/kit/http/schemas";
import { callOf } from "../caller.ts";
import type { createBatches } from "./batch.ts";
import { idempotencyKey, toBody } from "./request.ts";
import { examplePatient, exampleRecord, PatientSchema } from "./schemas.ts";

const maxOperations = 100;

const target = {
  id: z.string().max(100).openapi({ format: "uuid" }),
  ifMatch: z
    .string()
    .max(1_000)
    .regex(entityTags, 'must be an ETag in its quotes ("4"), several of them with commas between, or *')
    .optional()
    .openapi({ description: "The ETag of the version that is changed. If the patient has another one now, the answer is 412." }),
};
/** A body as that of the operation alone. A reference, since the schema is that of another request. */
const bodyOf = (name: "PatientCreate" | "PatientReplace" | "PatientPatch") =>
  z.record(z.string(), z.unknown()).openapi({ allOf: [{ $ref: `#/components/schemas/${name}` }] });
const OperationSchema = z.discriminatedUnion("method", [
  z.strictObject({ method: z.literal("create"), body: bodyOf("PatientCreate") }),
  z.strictObject({ method: z.literal("replace"), ...target, body: bodyOf("PatientReplace") }),
  z.strictObject({ method: z.literal("patch"), ...target, body: bodyOf("PatientPatch") }),
  z.strictObject({ method: z.literal("delete"), ...target }),
]);

const { id } = examplePatient;
const otherId = "0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e90";
const BatchSchema = z.strictObject({ operations: z.array(OperationSchema).min(1).max(maxOperations) }).openapi("PatientBatch", {
  example: {
    operations: [
      { method: "create", body: exampleRecord },
      { method: "patch", id, ifMatch: '"1"', body: { sex: "female" } },
      { method: "delete", id: otherId, ifMatch: '"3"' },
    ],
  },
});
const BatchResultsSchema = z
  .object({
    results: z.array(
      z.object({
        status: z.int().openapi({ description: "As that of the operation alone: 200, 201 or 204." }),
        id: z.uuid(),
        version: z.int(),
        patient: PatientSchema.optional().openapi({
          description: "As it is now; missing after a deletion. A repeated answer has those whom the caller may still see.",
        }),
      }),
    ),
  })
  .openapi("PatientBatchResults", {
    example: {
      results: [
        { status: 201, id, version: 1, patient: examplePatient },
        { status: 204, id: otherId, version: 4 },
      ],
    },
  });

const batchPatients = createRoute({
  operationId: "batchPatients",
  method: "post",
  path: "/patients:batch",
  tags: ["Patients"],
  summary: "Write many patients, all or none",
  description: `Up to ${maxOperations} operations in one transaction, with their results in order. Each is written as it would be alone, with its version,
audit entry and event, and one patient has at most one operation. Deletions are done first, then creations, then changes, so that an
operation may take the identifier of a patient whom another one deletes. Deleting one who is deleted already changes nothing. If an operation cannot be done, none is: \`metadata.operation\` is
its place, and the paths of \`errors\` begin with it. Nobody looks for duplicates; ask \`POST /patients:match\` before. The answer that is
repeated for an idempotency key has the versions that were written then.`,
  request: {
    headers: z.object({
      "idempotency-key": idempotencyKey.openapi({
        description: "The same key with the same body gives the first answer again; with another body it is 422. Kept for a day.",
      }),
    }),
    body: jsonBody(BatchSchema),
  },
  responses: {
    200: jsonAnswer(BatchResultsSchema, "What each operation did"),
    ...errorAnswers(
      ...(["not_found", "already_exists", "failed_precondition", "aborted", "idempotency_key_reused", "resource_exhausted"] as const),
    ),
  },
});

export function registerBatches({ operation }: RestApp, batches: ReturnType<typeof createBatches>): void {
  operation(batchPatients, async (c) => {
    const { results, repeated } = await batches.run(callOf(c), c.req.valid("json").operations, c.req.valid("header")["idempotency-key"]);
    const body = { results: results.map(({ patient, ...result }) => ({ ...result, ...(patient && { patient: toBody(patient) }) })) };
    return c.json(body, 200, repeated ? { "idempotency-replayed": "true" } : {});
  });
}
