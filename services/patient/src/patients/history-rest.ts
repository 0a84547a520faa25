/** The REST operations on the history of patients. */
import { createRoute, z } from "@hono/zod-openapi";
import { pageCursor, pageLimit } from "@pm/kit/http/paging";
import type { RestApp } from "@pm/kit/http/rest";
import { errorAnswers, jsonAnswer } from "@pm/kit/http/schemas";
import { callOf } from "../caller.ts";
import { sincePattern } from "./changes.ts";
import { type createFeed, type FeedEntry, feedOrders } from "./feed.ts";
import type { createHistory, PastVersion } from "./history.ts";
import { HistorySchema, PatientChangesSchema, PatientVersionSchema } from "./history-schemas.ts";
import { params } from "./request.ts";
import { listsOf } from "./views.ts";

const before = z.coerce
  .number()
  .int()
  .min(1)
  .max(1e15)
  .optional()
  .openapi({ description: "Only versions with a lower number. With `limit=1`, the one before.", example: 4 });
const readPatientHistory = createRoute({
  operationId: "readPatientHistory",
  method: "get",
  path: "/patients/{id}/history",
  tags: ["History"],
  summary: "Read the versions of a patient: who changed what, and when",
  request: { params, query: z.strictObject({ limit: pageLimit(), cursor: pageCursor(), before }) },
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

const place = z.string().max(100).openapi({ pattern: sincePattern }).optional();
const followPatients = createRoute({
  operationId: "followPatients",
  method: "get",
  path: "/patients/changes",
  tags: ["History"],
  summary: "Follow every version of all patients",
  description: `The versions of the patients that you may see, also of those who were deleted, in the order of the transactions that wrote
them. An answer ends before the oldest write in flight, so that none is left out. Two versions of one patient may be in the wrong order
if they were written at the same moment: the higher number is the later. You get the versions of a patient that is shared with you
later only with a \`since\` from before they were made, and none of a patient that you may not see any more.`,
  request: {
    query: z.strictObject({
      since: place.openapi({
        description: "The first ones: an instant from which on they were made, or `until` of the answer before. By default the very first.",
        example: "2026-01-28T09:30:00Z",
      }),
      until: place.openapi({ description: "The last ones: an instant before which they were made, or `until` of an answer." }),
      order: z.enum(feedOrders).default("oldest").openapi({ description: "Which ones come first." }),
      limit: pageLimit(),
      cursor: pageCursor(),
    }),
  },
  responses: { 200: jsonAnswer(PatientChangesSchema, "A page of versions") },
});

/** A version as answers show it. */
const toBody = ({ id, version, action, by, record, createdAt, at, mergedInto, replaces }: PastVersion) => ({
  id,
  ...record,
  ...listsOf(record),
  version,
  createdAt: createdAt.toISOString(),
  updatedAt: at.toISOString(),
  ...(mergedInto && { mergedInto }),
  ...(replaces?.length && { replaces }),
  action,
  by,
});

function toFeedBody(entry: FeedEntry) {
  const { id, version, action, at, by } = entry;
  if (!entry.record) return { id, version, action: action === "erased" ? action : ("deleted" as const), deletedAt: at.toISOString(), by };
  const { otherId } = entry;
  const other = otherId === undefined ? {} : action === "merged" ? { mergedPatientId: otherId } : { unmergedPatientId: otherId };
  return { ...toBody(entry), ...other };
}

export type HistoryRules = { history: ReturnType<typeof createHistory>; feed: ReturnType<typeof createFeed> };

export function registerHistory({ operation }: RestApp, { history, feed }: HistoryRules): void {
  operation(followPatients, async (c) => {
    const { items, completeUntil, ...rest } = await feed(callOf(c), c.req.valid("query"));
    return c.json({ items: items.map(toFeedBody), ...rest, completeUntil: completeUntil.toISOString() }, 200);
  });

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
