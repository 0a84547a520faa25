/** The REST operations that merge two records of one person, and undo it. */
import { createRoute, z } from "@hono/zod-openapi";
import { AppError } from "@pm/kit/errors";
import type { RestApp } from "@pm/kit/http/rest";
import { errorAnswers, jsonAnswer, jsonBody } from "@pm/kit/http/schemas";
import { callOf } from "../caller.ts";
import { ifMatch, params, toBody } from "../patients/request.ts";
import type { Merging } from "./merging.ts";
import { MergedSchema, MergeSchema, UnmergedSchema, UnmergeSchema } from "./schemas.ts";

const mergePatients = createRoute({
  operationId: "mergePatients",
  method: "post",
  path: "/patients/{id}:merge",
  tags: ["Duplicates"],
  summary: "Merge another record of the same person into this one",
  description: `The record of the path stays, with its id. It gets the identifiers, names, phones, e-mails, addresses, languages and
contacts of the duplicate that it does not have, and whoever could see or change the duplicate may go on. The duplicate's id leads to it
from then on; writes to that id are 409 with the reason \`MERGED\` and the survivor's id. Needs write access to both records. Begin with
\`dryRun\`. A merge that is repeated is 409 \`MERGED\` and names this record. 409 with the reason \`TOO_MANY_ENTRIES\` if a list
would have more than twenty entries: remove some first.`,
  request: {
    params,
    headers: z.object({ "if-match": ifMatch.shape["if-match"].openapi({ description: "Required: the ETag of the survivor." }) }),
    body: jsonBody(MergeSchema),
  },
  responses: {
    200: jsonAnswer(MergedSchema, "The survivor, and who may see it now"),
    ...errorAnswers("not_found", "failed_precondition", "aborted", "precondition_required"),
  },
});

const unmergePatients = createRoute({
  operationId: "unmergePatients",
  method: "post",
  path: "/patients/{id}:unmerge",
  tags: ["Duplicates"],
  summary: "Undo a merge, because the records are of two people",
  description: `Both are records of their own again, each with the grants that it had. What was changed since the merge stays with the
record of the path; the answer names it. The two are never proposed as duplicates again. 409 with the reason if it cannot be undone:
\`EMAIL_TAKEN\` or \`IDENTIFIER_TAKEN\` if another patient has what the duplicate would get back, \`MERGED_BEFORE\` if another merge
has to be undone first, \`NOT_MERGED\`.`,
  request: { params, headers: ifMatch, body: jsonBody(UnmergeSchema) },
  responses: {
    200: jsonAnswer(UnmergedSchema, "Both records"),
    ...errorAnswers("not_found", "already_exists", "failed_precondition", "aborted", "resource_exhausted"),
  },
});

export function registerMerging({ operation }: RestApp, merging: Merging): void {
  operation(mergePatients, async (c) => {
    const version = c.req.valid("header")["if-match"];
    if (version === undefined)
      throw new AppError("precondition_required", "If-Match: is required. Send the ETag of the record that is to stay.");
    const merged = await merging.merge(callOf(c), c.req.valid("param").id, c.req.valid("json"), version);
    const { patient } = merged;
    return c.json({ ...merged, patient: toBody(patient) }, 200, merged.dryRun ? {} : { etag: `"${patient.version}"` });
  });

  operation(unmergePatients, async (c) => {
    const { duplicateId } = c.req.valid("json");
    const unmerged = await merging.unmerge(callOf(c), c.req.valid("param").id, duplicateId, c.req.valid("header")["if-match"]);
    const { patient, restored, changedSince } = unmerged;
    const headers = { etag: `"${patient.version}"` };
    return c.json({ patient: toBody(patient), restored: toBody(restored), changedSince }, 200, headers);
  });
}
