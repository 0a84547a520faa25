/** What other services compare themselves with. Only services may call these operations. */
import { createRoute, z } from "@hono/zod-openapi";
import { pageCursor, pageLimit } from "@pm/kit/http/paging";
import type { RestApp } from "@pm/kit/http/rest";
import { jsonAnswer } from "@pm/kit/http/schemas";
import { IdsSchema, TotalsSchema } from "./schemas.ts";
import type { createTotals } from "./totals.ts";

const readPatientTotals = createRoute({
  operationId: "readPatientTotals",
  method: "get",
  path: "/patients:totals",
  tags: ["Internal"],
  summary: "Count patients, for consistency checks",
  responses: { 200: jsonAnswer(TotalsSchema, "The counts") },
});

const listPatientIds = createRoute({
  operationId: "listPatientIds",
  method: "get",
  path: "/patients:ids",
  tags: ["Internal"],
  summary: "List the ids of all patients, for consistency checks",
  request: { query: z.strictObject({ limit: pageLimit({ max: 10_000, byDefault: 1_000 }), cursor: pageCursor() }) },
  responses: { 200: jsonAnswer(IdsSchema, "Ids, with those of deleted patients") },
});

export function registerTotals({ operation }: RestApp, totals: ReturnType<typeof createTotals>): void {
  operation(readPatientTotals, async (c) => c.json(await totals.totals(), 200));
  operation(listPatientIds, async (c) => c.json(await totals.ids(c.req.valid("query")), 200));
}
