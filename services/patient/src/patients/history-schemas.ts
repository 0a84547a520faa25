/** What callers get of the history of patients. */
import { z } from "@hono/zod-openapi";
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
    nextCursor: z.string().optional(),
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
