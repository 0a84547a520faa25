/** The REST operations on the history of patients. */
import { createRoute, z } from "@hono/zod-openapi";
import type { RestApp } from "@pm/kit/http/rest";
import { errorAnswers, jsonAnswer } from "@pm/kit/http/schemas";
import { callOf } from "../caller.ts";
import type { createHistory, PastVersion } from "./history.ts";
import { HistorySchema, PatientVersionSchema } from "./history-schemas.ts";
import { cursor, limit, params } from "./request.ts";
import { listsOf } from "./views.ts";

const readPatientHistory = createRoute({
  operationId: "readPatientHistory",
  method: "get",
  path: "/patients/{id}/history",
  tags: ["History"],
  summary: "Read the versions of a patient: who changed what, and when",
  request: { params, query: z.strictObject({ limit, cursor }) },
  responses: { 200: jsonAnswer(HistorySchema, "The newest versions first"), ...errorAnswers("not_found") },
});

const readPatientVersion = createRoute({
  operationId: "readPatientVersion",
  method: "get",
  path: "/patients/{id}/versions/{version}",
  tags: ["History"],
  summary: "Read a version of a patient as it was",
  description: `The whole record, whatever was changed since. The versions of a deleted patient stay readable, and those of a merged one at
its own id; \`mergedInto\` in the last of them has the survivor. 410 if the version has no content: \`reason\` is \`DELETED\` if it is the one
by which the patient was deleted, \`ERASED\` if its content was erased.`,
  request: {
    params: params.extend({
      version: z.string().openapi({ param: { name: "version", in: "path" }, pattern: "^[1-9][0-9]{0,15}$", example: "1" }),
    }),
  },
  responses: { 200: jsonAnswer(PatientVersionSchema, "The record, with its version as ETag"), ...errorAnswers("not_found", "gone") },
});

/** A version as answers show it. */
const toBody = ({ id, version, action, by, record, createdAt, at, mergedInto }: PastVersion) => ({
  id,
  ...record,
  ...listsOf(record),
  version,
  createdAt: createdAt.toISOString(),
  updatedAt: at.toISOString(),
  ...(mergedInto && { mergedInto }),
  action,
  by,
});

export function registerHistory({ operation }: RestApp, history: ReturnType<typeof createHistory>): void {
  operation(readPatientHistory, async (c) => {
    const { items, ...next } = await history.read(callOf(c), c.req.valid("param").id, c.req.valid("query"));
    return c.json({ items: items.map((item) => ({ ...item, at: item.at.toISOString() })), ...next }, 200);
  });

  operation(readPatientVersion, async (c) => {
    const { id, version } = c.req.valid("param");
    const found = await history.version(callOf(c), id, version);
    return c.json(toBody(found), 200, { etag: `"${found.version}"` });
  });
}
