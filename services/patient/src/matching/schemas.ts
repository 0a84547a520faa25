/** What callers get of candidates and of the work list. */
import { z } from "@hono/zod-openapi";
import { nextCursor } from "@pm/kit/http/paging";
import { exampleRecord, PatientSchema } from "../patients/schemas.ts";
import { grades, pairStates } from "../tables.ts";

const grade = z.enum(grades).openapi({
  description:
    "`certain`: an identifier of one system is the same, or of 1,000 pairs with such a score at least 999 are one person; `probable`: 990; `possible`: 900.",
});
const score = z.number().openapi({ description: "How much more likely one person is than two, as a power of two." });

const exampleReasons = [
  { field: "family", level: "same", weight: 8.1 },
  { field: "dateOfBirth", level: "transposed", weight: 9.4 },
];

const CandidateSchema = z.object({
  patient: PatientSchema,
  score,
  grade,
  reasons: z
    .array(z.object({ field: z.string(), level: z.string(), weight: z.number() }))
    .openapi({ description: "What each field says: how alike it is, and its part of the score." }),
});

const examplePatient = {
  id: "0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f",
  ...exampleRecord,
  names: [{ id: "1", text: exampleRecord.name, given: exampleRecord.firstName, family: exampleRecord.lastName }],
  version: 1,
  createdAt: "2026-01-28T09:30:00.000Z",
  updatedAt: "2026-01-28T09:30:00.000Z",
  billing: { status: "pending" as const },
};
const otherPatient = { ...examplePatient, id: "0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e90", dateOfBirth: "1987-12-04" };

export const CandidatesSchema = z
  .object({
    candidates: z.array(CandidateSchema).openapi({ description: "The best first." }),
    model: z.string().openapi({ description: "The version of the weights." }),
  })
  .openapi("Candidates", {
    example: {
      candidates: [{ patient: examplePatient, score: 21.3, grade: "certain" as const, reasons: exampleReasons }],
      model: "2026-11-28",
    },
  });

const PairSchema = z.object({
  id: z.uuid(),
  score,
  grade,
  state: z.enum(pairStates),
  patients: z.array(PatientSchema).length(2),
});

export const PairPageSchema = z.object({ items: z.array(PairSchema), nextCursor }).openapi("DuplicatePage", {
  example: {
    items: [
      {
        id: "3f0c5c1e-6a3c-4a53-9f6c-1f2b3c4d5e70",
        score: 21.3,
        grade: "certain" as const,
        state: "open" as const,
        patients: [examplePatient, otherPatient],
      },
    ],
  },
});

export const DecidedPairSchema = z
  .object({ id: z.uuid(), state: z.enum(pairStates) })
  .openapi("DecidedPair", { example: { id: "3f0c5c1e-6a3c-4a53-9f6c-1f2b3c4d5e70", state: "not_the_same" as const } });
