/** What callers send and get where records are merged and unmerged. */
import { z } from "@hono/zod-openapi";
import { examplePatient, FieldChangesSchema, PatientSchema, SharingSchema } from "../patients/schemas.ts";
import { keepable } from "./records.ts";

const duplicateId = z.uuid().openapi({ description: "The record that is to lead to this one, or does." });
const exampleDuplicate = "0193b3f0-9d2f-7a41-8c1a-6e9d2f3a4b5c";
const whose = z.enum(["this", "that"]);

export const MergeSchema = z
  .strictObject({
    duplicateId,
    duplicateVersion: z.int().min(1).openapi({ description: "The version of the duplicate that you have seen." }),
    keep: z
      .strictObject(Object.fromEntries(keepable.map((field) => [field, whose.optional()])) as Record<Field, z.ZodOptional<typeof whose>>)
      .optional()
      .openapi({
        description: `Whose value stays where both records have one: \`this\` is the survivor's, and the default; \`that\` is the
duplicate's. What only one has stays. Of \`name\`, \`phoneNumber\`, \`email\` and \`address\` it is the one that comes first; the
other one stays in the list.`,
      }),
    dryRun: z.boolean().optional().openapi({ description: "Shows what would be, and changes nothing." }),
  })
  .openapi("Merge", { example: { duplicateId: exampleDuplicate, duplicateVersion: 3, keep: { phoneNumber: "that" } } });
type Field = (typeof keepable)[number];

export const UnmergeSchema = z.strictObject({ duplicateId }).openapi("Unmerge", { example: { duplicateId: exampleDuplicate } });

const readers = { users: ["7f9c2ba4-e88f-4b3a-a6c5-3f1d2b4c5a69"], teams: [] as string[] };
const exampleAccess = { users: [], teams: ["cardiology"], readers };
const owner = "0b7e4c1d-5a2f-4c8e-9f3b-6d1a2c3b4e5f";
const { registeredBy: _registeredBy, owner: _owner, ...principals } = SharingSchema.shape;

export const MergedSchema = z
  .object({
    dryRun: z.boolean(),
    patient: PatientSchema.openapi({ description: "The survivor after the merge." }),
    conflicts: z
      .array(z.object({ field: z.string(), this: z.string(), that: z.string(), kept: whose }))
      .openapi({ description: "The fields of which both records have a value, each another one, and whose stays." }),
    access: SharingSchema.openapi({ description: "With whom the survivor is shared after the merge." }),
    added: z.object(principals).openapi({
      description: "Who may see or change the survivor and could not before: those with whom the duplicate was shared, and its owner.",
    }),
  })
  .openapi("Merged", {
    example: {
      dryRun: false,
      patient: { ...examplePatient, version: 2 },
      conflicts: [{ field: "phoneNumber", this: "+12175550123", that: "+12175550144", kept: "that" }],
      access: { registeredBy: owner, owner, ...exampleAccess },
      added: exampleAccess,
    },
  });

export const UnmergedSchema = z
  .object({
    patient: PatientSchema.openapi({ description: "The record that had taken in the other one." }),
    restored: PatientSchema.openapi({ description: "The record that is on its own again." }),
    changedSince: FieldChangesSchema.openapi({
      description: "What was changed since the merge. It stays with the first record, and may belong to either: look through it.",
    }),
  })
  .openapi("Unmerged", {
    example: {
      patient: { ...examplePatient, version: 4 },
      restored: { ...examplePatient, id: exampleDuplicate, version: 3 },
      changedSince: [{ field: "generalPractitioner", to: "Dr. Elizabeth Blackwell" }],
    },
  });
