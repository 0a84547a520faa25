/** What callers send and get about erasures and legal holds. */
import { z } from "@hono/zod-openapi";
import { plainText } from "@pm/kit/http/schemas";
import { plainTextPattern } from "@pm/kit/plain-text";
import { holdKinds } from "./holds.ts";

const reason = plainText.min(1).max(500).openapi({ pattern: plainTextPattern });
const patientId = z.uuid().openapi({ example: "0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f" });

export const ErasePatientSchema = z
  .strictObject({
    reason: reason.openapi({
      description: "Why. It stays in the certificate, so it must not name the patient.",
      example: "Asked for by letter of 12 May 2026",
    }),
    restrict: z.boolean().default(false).openapi({
      description:
        "If something is held: erase the rest now, let only administrators read what is held, and erase it when the last hold ends.",
    }),
    dryRun: z.boolean().default(false).openapi({ description: "Only tells what is held." }),
  })
  .openapi("EraseRequest");

const HoldsSchema = z.array(
  z.object({
    kind: z.enum(holdKinds),
    message: z.string(),
    until: z.iso.date().optional().openapi({ description: "The day on which it ends by itself." }),
  }),
);
const exampleHold = { kind: "record" as const, message: "has to be kept until 2036-01-28 (RECORD_RETENTION_YEARS)", until: "2036-01-28" };

export const ErasurePreviewSchema = z
  .object({ patientId, holds: HoldsSchema })
  .openapi("ErasurePreview", { example: { patientId: "0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f", holds: [exampleHold] } });

export const ErasureSchema = z
  .object({
    id: z.uuid(),
    patientId,
    state: z.enum(["restricted", "erasing", "erased"]).openapi({
      description: "`restricted`: something is held. `erasing`: nothing is held, and not everything is erased yet.",
    }),
    reason: z.string(),
    requestedBy: z.string(),
    requestedAt: z.iso.datetime(),
    completedAt: z.iso.datetime().optional(),
    holds: HoldsSchema,
    waiting: z
      .object({
        since: z.iso.datetime(),
        attempts: z.int().openapi({ description: "How often the services were asked since." }),
        for: z.array(z.object({ service: z.enum(["patient", "billing", "analytics"]), reason: z.string() })),
      })
      .optional()
      .openapi({
        description: "The services that have not done their part yet, and why. They are asked again and again.",
        example: {
          since: "2026-05-20T09:30:01.120Z",
          attempts: 3,
          for: [{ service: "analytics", reason: "has not applied the event yet" }],
        },
      }),
    removed: z
      .array(
        z.object({ service: z.enum(["patient", "billing", "analytics"]), at: z.iso.datetime(), counts: z.record(z.string(), z.int()) }),
      )
      .openapi({
        description:
          "What was removed from the stores of each service, and when. Analytics is told by an event, and has an entry as soon as it has applied it.",
      }),
  })
  .openapi("Erasure", {
    example: {
      id: "0193b3f0-9d2b-7c1f-8e4a-5b6c7d8e9f01",
      patientId: "0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f",
      state: "erased",
      reason: "Asked for by letter of 12 May 2026",
      requestedBy: "5f0c5c1e-6a3c-4a53-9f6c-1f2b3c4d5e6f",
      requestedAt: "2026-05-20T09:30:00.000Z",
      completedAt: "2026-05-20T09:30:01.120Z",
      holds: [],
      removed: [
        { service: "patient", at: "2026-05-20T09:30:00.000Z", counts: { records: 1, grants: 2, searchWords: 1 } },
        { service: "patient", at: "2026-05-20T09:30:00.000Z", counts: { versions: 4 } },
        { service: "billing", at: "2026-05-20T09:30:01.120Z", counts: { accounts: 1, transactions: 3 } },
        { service: "analytics", at: "2026-05-20T09:30:00.480Z", counts: { events: 2, rollups: 14 } },
      ],
    },
  });

const exampleReason = "Court order 4 C 12/26";
export const LegalHoldWriteSchema = z.strictObject({ reason: reason.openapi({ example: exampleReason }) }).openapi("LegalHoldRequest");

export const LegalHoldSchema = z.object({ reason: z.string(), placedBy: z.string(), placedAt: z.iso.datetime() }).openapi("LegalHold", {
  example: { reason: exampleReason, placedBy: "5f0c5c1e-6a3c-4a53-9f6c-1f2b3c4d5e6f", placedAt: "2026-05-20T09:30:00.000Z" },
});
