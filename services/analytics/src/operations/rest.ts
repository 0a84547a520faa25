/**
 * What operators do: dead letters, rebuilds, and the consistency check. Every change and every look at dead letters
 * leaves an audit entry.
 */
import { createRoute, z } from "@hono/zod-openapi";
import { insertAuditEntries } from "@pm/kit/audit/audit";
import type { AuditTrail } from "@pm/kit/audit/trail";
import { pageCursor, pageLimit, toPage } from "@pm/kit/http/paging";
import { type RestApp, type RestContext, requestContext } from "@pm/kit/http/rest";
import { errorAnswers, jsonAnswer } from "@pm/kit/http/schemas";
import type { DeadLetter, DeadLetters } from "@pm/kit/kafka/dead-letters";
import type { Queries } from "@pm/kit/postgres/transaction";
import { isUuid } from "@pm/kit/uuid";
import type { Rebuilds } from "../rebuild/rebuild.ts";
import type { Consistency } from "./consistency.ts";
import { ConsistencySchema, DeadLetterSchema, DeadLettersSchema, RebuildSchema, ReplaySchema } from "./schemas.ts";

const tags = ["Operations"];
const params = z.object({
  id: z
    .string()
    .regex(/^\d{1,18}$/, "must be a number")
    .openapi({ example: "1" }),
});
/** Kafka's own rule for names of topics. */
const topic = z
  .string()
  .regex(/^[a-zA-Z0-9._-]{1,249}$/, "must be the name of a topic, such as patient.v1")
  .optional()
  .openapi({ example: "patient.v1", description: "Only dead letters of this topic." });

const listDeadLetters = createRoute({
  operationId: "listDeadLetters",
  method: "get",
  path: "/analytics/dead-letters",
  tags,
  summary: "List events that could not be counted",
  description: "Newest first. An event of a key that has a dead letter waits behind it as another one.",
  request: {
    query: z.strictObject({
      state: z.enum(["waiting", "replayed", "discarded"]).optional().openapi({ example: "waiting" }),
      topic,
      limit: pageLimit(),
      cursor: pageCursor(z.string().regex(/^\d{1,18}$/, "must be the nextCursor of an answer")),
    }),
  },
  responses: { 200: jsonAnswer(DeadLettersSchema, "A page of dead letters") },
});
const getDeadLetter = createRoute({
  operationId: "getDeadLetter",
  method: "get",
  path: "/analytics/dead-letters/{id}",
  tags,
  summary: "Read a dead letter with its payload",
  request: { params },
  responses: { 200: jsonAnswer(DeadLetterSchema, "The dead letter"), ...errorAnswers("not_found") },
});
const replayDeadLetter = createRoute({
  operationId: "replayDeadLetter",
  method: "post",
  path: "/analytics/dead-letters/{id}:replay",
  tags,
  summary: "Count the dead letters of a key",
  description: "Counts all dead letters that wait for the key of this one, first to last, and stops at the first that fails again.",
  request: { params },
  responses: { 200: jsonAnswer(ReplaySchema, "What was counted"), ...errorAnswers("not_found", "failed_precondition") },
});
const discardDeadLetter = createRoute({
  operationId: "discardDeadLetter",
  method: "post",
  path: "/analytics/dead-letters/{id}:discard",
  tags,
  summary: "Give up a dead letter",
  description: "It is never counted. The dead letters behind it can then be replayed.",
  request: { params },
  responses: { 204: { description: "It is given up" }, ...errorAnswers("not_found", "failed_precondition") },
});
const replayDeadLetters = createRoute({
  operationId: "replayDeadLetters",
  method: "post",
  path: "/analytics/dead-letters:replay",
  tags,
  summary: "Count all dead letters that wait",
  description: "For when the cause is repaired. A key that fails again does not hold up the others.",
  request: { query: z.strictObject({ topic }) },
  responses: { 200: jsonAnswer(ReplaySchema, "What was counted") },
});
const rebuild = createRoute({
  operationId: "rebuild",
  method: "post",
  path: "/analytics:rebuild",
  tags,
  summary: "Build the roll-ups again from all events",
  description: "Reports continue meanwhile. `Location` says where to read the progress.",
  responses: { 202: jsonAnswer(RebuildSchema, "The rebuild that was requested"), ...errorAnswers("failed_precondition") },
});
const getRebuild = createRoute({
  operationId: "getRebuild",
  method: "get",
  path: "/analytics/rebuilds/{id}",
  tags,
  summary: "Read the progress of a rebuild",
  request: { params },
  responses: { 200: jsonAnswer(RebuildSchema, "The rebuild"), ...errorAnswers("not_found") },
});
const checkConsistency = createRoute({
  operationId: "checkConsistency",
  method: "get",
  path: "/analytics/consistency",
  tags,
  summary: "Compare the numbers with patient and billing",
  description: "Waits for up to 3 s for a moment at which all events are counted.",
  request: { query: z.strictObject({}) },
  responses: { 200: jsonAnswer(ConsistencySchema, "What was compared") },
});

type Shown = Pick<DeadLetter, "topic" | "key">;

/** The patient whose event a dead letter is. */
const patientOf = ({ topic, key }: Shown): string[] => (topic === "patient.v1" && isUuid(key) ? [key] : []);

export function registerOperations(
  { operation }: RestApp,
  parts: {
    audit: AuditTrail;
    deadLetters: DeadLetters;
    rebuilds: Rebuilds;
    consistency: Consistency;
    wakeRebuilder: () => void;
  },
): void {
  const { deadLetters, rebuilds, consistency, wakeRebuilder } = parts;
  const audit = (c: RestContext, action: string, subject: string, details = {}, letters: Shown[] = []) =>
    parts.audit.record({ ...requestContext(c), action, subject, details, patientIds: letters.flatMap(patientOf) });
  /** Writes an entry in the transaction of what it is about. */
  const auditWithin = (c: RestContext, action: string) => (tx: Queries, subject: string) =>
    insertAuditEntries(tx, [{ ...requestContext(c), action, subject }]);

  operation(listDeadLetters, async (c) => {
    const { cursor, limit, ...filter } = c.req.valid("query");
    const letters = await deadLetters.list({ ...filter, before: cursor, limit: limit + 1 });
    const page = toPage(letters.map(toJson), limit, ({ id }) => id);
    // The key of an event is the id of a patient or an account.
    await audit(c, "dead-letters.listed", filter.topic ?? "all topics", { ids: page.items.map(({ id }) => id) }, page.items);
    return c.json(page, 200);
  });
  operation(getDeadLetter, async (c) => {
    const { payload, ...letter } = await deadLetters.get(c.req.valid("param").id);
    await audit(c, "dead-letter.read", letter.id, {}, [letter]);
    return c.json({ ...toJson(letter), payload: payload.toString("base64") }, 200);
  });
  operation(replayDeadLetter, async (c) => {
    const { id } = c.req.valid("param");
    await audit(c, "dead-letter.replayed", id);
    const replayed = await deadLetters.replay(id);
    return c.json({ replayed, waiting: await deadLetters.waiting() }, 200);
  });
  operation(discardDeadLetter, async (c) => {
    const { id } = c.req.valid("param");
    await deadLetters.discard(id, (tx) => auditWithin(c, "dead-letter.discarded")(tx, id));
    return c.body(null, 204);
  });
  operation(replayDeadLetters, async (c) => {
    const { topic } = c.req.valid("query");
    await audit(c, "dead-letters.replayed", topic ?? "all topics");
    return c.json(await deadLetters.replayAll(topic), 200);
  });
  operation(rebuild, async (c) => {
    const requested = await rebuilds.request(auditWithin(c, "rollups.rebuild-requested"));
    wakeRebuilder();
    return c.json(requested, 202, { location: `/analytics/rebuilds/${requested.id}` });
  });
  operation(getRebuild, async (c) => c.json(await rebuilds.get(c.req.valid("param").id), 200));
  operation(checkConsistency, async (c) => c.json(await consistency.check(), 200, { "cache-control": "no-store" }));
}

function toJson({ eventTime, failedAt, settledAt, ...letter }: DeadLetter) {
  return { ...letter, eventTime: eventTime.toISOString(), failedAt: failedAt.toISOString(), settledAt: settledAt?.toISOString() ?? null };
}
