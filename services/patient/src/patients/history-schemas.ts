/** What callers get of the history of patients. */
import { z } from "@hono/zod-openapi";
import { nextCursor } from "@pm/kit/http/paging";
import { examplePatient, FieldChangesSchema, PatientSchema } from "./schemas.ts";

const ActionSchema = z.enum(["registered", "imported", "updated", "deleted", "restored", "merged", "unmerged", "erased"]);
const by = z.string().openapi({ description: "The id of the user." });
const exampleUser = "7f9c2ba4-e88f-4b3a-a6c5-3f1d2b4c5a69";

const changeExample = { field: "email", from: "ada@example.com", to: "countess@example.com" };
export const HistorySchema = z
  .object({
    items: z.array(
      z.object({
        version: z.int(),
        action: ActionSchema,
        at: z.iso.datetime(),
        by,
        changes: FieldChangesSchema,
      }),
    ),
    nextCursor,
  })
  .openapi("PatientHistory", {
    example: {
      items: [
        {
          version: 2,
          action: "updated",
          at: "2026-01-29T10:00:00.000Z",
          by: exampleUser,
          changes: [changeExample],
        },
      ],
    },
  });

const { billing: _billing, ...exampleRecord } = examplePatient;
const exampleVersion = { ...exampleRecord, action: "registered" as const, by: exampleUser };
export const PatientVersionSchema = PatientSchema.omit({ billing: true, deletedAt: true, mergedFrom: true })
  .extend({ action: ActionSchema, by })
  .openapi("PatientVersion", { example: exampleVersion });

const DeletionSchema = z.strictObject({
  id: z.uuid(),
  version: z.int(),
  action: z.enum(["deleted", "erased"]),
  deletedAt: z.iso.datetime(),
  by,
});
const VersionSchema = PatientVersionSchema.extend({
  mergedPatientId: z.uuid().optional().openapi({ description: "With `merged`: the record that was merged into this one." }),
  unmergedPatientId: z.uuid().optional().openapi({ description: "With `unmerged`: the record that is one of its own again." }),
});
const exampleDeletion = {
  id: examplePatient.id,
  version: 2,
  action: "deleted" as const,
  deletedAt: "2026-01-29T10:00:00.000Z",
  by: exampleUser,
};
export const PatientChangesSchema = z
  .object({
    items: z.array(z.union([VersionSchema, DeletionSchema])).openapi({
      description: "Versions with their whole content. By `deleted` and `erased` a patient is gone, and they have none.",
    }),
    nextCursor,
    until: z.string().openapi({
      description: "Where this answer ends, exactly: send it as the next `since`. All pages of an answer have the same.",
    }),
    completeUntil: z.iso.datetime().openapi({
      description: `For clients that keep an instant instead: every version from before it is in this answer or in those before it. With it
as the next \`since\`, versions may be repeated, and none is left out.`,
    }),
  })
  .openapi("PatientChanges", {
    example: {
      items: [exampleVersion, exampleDeletion],
      until: "2026-01-29T10:00:01.123Z_88123_7551234567890123456.00000001",
      completeUntil: "2026-01-29T09:59:01.123Z",
    },
  });
