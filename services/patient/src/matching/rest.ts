/** The operations that find records of one person. */
import { createRoute, z } from "@hono/zod-openapi";
import { pageCursor, pageLimit } from "@pm/kit/http/paging";
import type { RestApp } from "@pm/kit/http/rest";
import { errorAnswers, jsonAnswer, jsonBody } from "@pm/kit/http/schemas";
import { callOf } from "../caller.ts";
import { PatientMatchSchema } from "../patients/body-schemas.ts";
import { toBody } from "../patients/request.ts";
import { pairStates } from "../tables.ts";
import type { WorkList } from "./duplicates.ts";
import type { Candidate, Matching } from "./matching.ts";
import { CandidatesSchema, DecidedPairSchema, PairPageSchema } from "./schemas.ts";

const tags = ["Duplicates"];

const matchPatients = createRoute({
  operationId: "matchPatients",
  method: "post",
  path: "/patients:match",
  tags,
  summary: "Find who may be the same person as somebody",
  description: `Compares names (also swapped, short or misspelled), dates, addresses, numbers and identifiers, and says what each field
speaks for. Only patients whom you may see are compared. Nothing is stored.`,
  request: { query: z.strictObject({ limit: z.coerce.number().int().min(1).max(50).default(10) }), body: jsonBody(PatientMatchSchema) },
  responses: { 200: jsonAnswer(CandidatesSchema, "The candidates") },
});

const listDuplicates = createRoute({
  operationId: "listDuplicates",
  method: "get",
  path: "/patients/duplicates",
  tags,
  summary: "List pairs of records that may be of one person",
  description: `The best pairs first, of those of which you may see both records. A job compares patients a few seconds after they are
written. Nothing is merged by itself.`,
  request: { query: z.strictObject({ limit: pageLimit(), cursor: pageCursor(), state: z.enum(pairStates).default("open") }) },
  responses: { 200: jsonAnswer(PairPageSchema, "A page of pairs") },
});

const dismissDuplicate = createRoute({
  operationId: "dismissDuplicate",
  method: "post",
  path: "/patients/duplicates/{id}:dismiss",
  tags,
  summary: "Say that two records are not of one person",
  description: "This is remembered for ever, whatever becomes of the records. It needs write access to both.",
  request: { params: z.object({ id: z.string().openapi({ format: "uuid", example: "3f0c5c1e-6a3c-4a53-9f6c-1f2b3c4d5e70" }) }) },
  responses: { 200: jsonAnswer(DecidedPairSchema, "The pair"), ...errorAnswers("not_found", "failed_precondition") },
});

const rounded = (number: number) => Math.round(number * 100) / 100;

export const toCandidate = ({ patient, score, grade, reasons }: Candidate) => ({
  patient: toBody(patient),
  score: rounded(score),
  grade,
  reasons: reasons.map(({ weight, ...reason }) => ({ ...reason, weight: rounded(weight) })),
});

export function registerMatching({ operation }: RestApp, { matching, workList }: { matching: Matching; workList: WorkList }): void {
  operation(matchPatients, async (c) => {
    const candidates = await matching.match(callOf(c), c.req.valid("json"), c.req.valid("query").limit);
    return c.json({ candidates: candidates.map(toCandidate), model: matching.version }, 200);
  });

  operation(listDuplicates, async (c) => {
    const { items, ...next } = await workList.page(callOf(c), c.req.valid("query"));
    const shown = items.map(({ patients, score, ...pair }) => ({ ...pair, score: rounded(score), patients: patients.map(toBody) }));
    return c.json({ items: shown, ...next }, 200);
  });

  operation(dismissDuplicate, async (c) => c.json(await workList.dismiss(callOf(c), c.req.valid("param").id), 200));
}
