/** What an operator does: dead letters, rebuilds, the consistency check. Every change leaves an audit entry. */
import { createRoute, z } from "@hono/zod-openapi";
import type { RestApp, RestContext } from "@pm/kit/http/rest";
import type { DeadLetter, DeadLetters } from "@pm/kit/kafka/dead-letters";
import type { Rebuilds } from "../rebuild/rebuild.ts";
import { ConsistencySchema, DeadLetterSchema, DeadLettersSchema, RebuildSchema, ReplaySchema } from "../reports/schemas.ts";
import { type AnalyticsDatabase, insertAuditEntry } from "../rollups/store.ts";
import type { Consistency } from "./consistency.ts";

/** Notes who did what. */
export type Audit = (entry: { actor: string; action: string; subject: string; requestId: string; details?: object }) => Promise<void>;

export function createAudit(database: AnalyticsDatabase): Audit {
  return async ({ actor, action, subject, requestId, details = {} }) => {
    await insertAuditEntry(database, [actor, action, subject, requestId, details]);
  };
}

const id = z.object({
  id: z
    .string()
    .regex(/^\d{1,18}$/, "must be a number")
    .openapi({ example: "1" }),
});
const json = <T extends z.ZodType>(schema: T, description: string) => ({ description, content: { "application/json": { schema } } });

const listDeadLetters = createRoute({
  operationId: "listDeadLetters",
  method: "get",
  path: "/analytics/dead-letters",
  tags: ["Operation"],
  summary: "Events that could not be counted, newest first",
  request: {
    query: z.strictObject({
      state: z.enum(["waiting", "replayed", "discarded"]).optional(),
      topic: z.string().max(200).optional(),
      limit: z.coerce.number().int().min(1).max(200).default(50),
      cursor: z
        .string()
        .regex(/^\d{1,18}$/, "must be a cursor from an answer")
        .optional(),
    }),
  },
  responses: { 200: json(DeadLettersSchema, "The dead letters") },
});
const getDeadLetter = createRoute({
  operationId: "getDeadLetter",
  method: "get",
  path: "/analytics/dead-letters/{id}",
  tags: ["Operation"],
  summary: "One of them, with its payload",
  request: { params: id },
  responses: { 200: json(DeadLetterSchema, "The dead letter") },
});
const replayDeadLetter = createRoute({
  operationId: "replayDeadLetter",
  method: "post",
  path: "/analytics/dead-letters/{id}:replay",
  tags: ["Operation"],
  summary: "Count it after all, with all that wait for the same key, first to last",
  request: { params: id },
  responses: { 200: json(ReplaySchema, "How many were counted") },
});
const discardDeadLetter = createRoute({
  operationId: "discardDeadLetter",
  method: "post",
  path: "/analytics/dead-letters/{id}:discard",
  tags: ["Operation"],
  summary: "Give it up, so that those behind it can be replayed",
  request: { params: id },
  responses: { 204: { description: "It is given up" } },
});
const replayDeadLetters = createRoute({
  operationId: "replayDeadLetters",
  method: "post",
  path: "/analytics/dead-letters:replay",
  tags: ["Operation"],
  summary: "Count all that wait, after what was in their way is repaired",
  request: { query: z.strictObject({ topic: z.string().max(200).optional() }) },
  responses: { 200: json(ReplaySchema, "How many were counted, and how many wait still") },
});
const rebuild = createRoute({
  operationId: "rebuild",
  method: "post",
  path: "/analytics:rebuild",
  tags: ["Operation"],
  summary: "Make the roll-ups anew from every event that was ever seen; reports go on meanwhile",
  responses: { 202: json(RebuildSchema, "It has begun; see Location for how far it is") },
});
const getRebuild = createRoute({
  operationId: "getRebuild",
  method: "get",
  path: "/analytics/rebuilds/{id}",
  tags: ["Operation"],
  summary: "How far a rebuild is",
  request: { params: id },
  responses: { 200: json(RebuildSchema, "The rebuild") },
});
const checkConsistency = createRoute({
  operationId: "checkConsistency",
  method: "get",
  path: "/analytics/consistency",
  tags: ["Reports"],
  summary: "Whether what is counted here is what patient and billing have",
  request: { query: z.strictObject({}) },
  responses: { 200: json(ConsistencySchema, "What was compared") },
});

export function registerAdmin(
  { operation }: RestApp,
  {
    deadLetters,
    rebuilds,
    consistency,
    audit,
    wakeRebuilder,
  }: { deadLetters: DeadLetters; rebuilds: Rebuilds; consistency: Consistency; audit: Audit; wakeRebuilder: () => void },
): void {
  const note = (c: RestContext, action: string, subject: string, details: object = {}) =>
    audit({ actor: c.get("caller").id, action, subject, requestId: c.get("requestId"), details });

  operation(listDeadLetters, async (c) => {
    const { cursor, limit, ...filter } = c.req.valid("query");
    const letters = await deadLetters.list({ ...filter, before: cursor, limit: limit + 1 });
    const items = letters.slice(0, limit).map(toJson);
    const last = items.at(-1);
    return c.json({ items, ...(letters.length > limit && last && { nextCursor: last.id }) }, 200);
  });
  operation(getDeadLetter, async (c) => {
    const { payload, ...letter } = await deadLetters.get(c.req.valid("param").id);
    return c.json({ ...toJson(letter), payload: payload.toString("base64") }, 200);
  });
  operation(replayDeadLetter, async (c) => {
    const { id } = c.req.valid("param");
    await note(c, "dead-letter.replayed", id);
    const replayed = await deadLetters.replay(id);
    return c.json({ replayed, waiting: await deadLetters.waiting() }, 200);
  });
  operation(discardDeadLetter, async (c) => {
    const { id } = c.req.valid("param");
    await deadLetters.discard(id);
    await note(c, "dead-letter.discarded", id);
    return c.body(null, 204);
  });
  operation(replayDeadLetters, async (c) => {
    const { topic } = c.req.valid("query");
    await note(c, "dead-letters.replayed", topic ?? "all topics");
    return c.json(await deadLetters.replayAll(topic), 200);
  });
  operation(rebuild, async (c) => {
    const started = await rebuilds.request();
    await note(c, "rollups.rebuild-requested", started.id);
    wakeRebuilder();
    return c.json(started, 202, { location: `/analytics/rebuilds/${started.id}` });
  });
  operation(getRebuild, async (c) => c.json(await rebuilds.get(c.req.valid("param").id), 200));
  operation(checkConsistency, async (c) => c.json(await consistency.check(), 200, { "cache-control": "no-store" }));
}

function toJson(letter: DeadLetter) {
  const { eventTime, failedAt, settledAt, ...rest } = letter;
  return { ...rest, eventTime: eventTime.toISOString(), failedAt: failedAt.toISOString(), settledAt: settledAt?.toISOString() ?? null };
}
