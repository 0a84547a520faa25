/** The names of users, for everybody who works here: who shared a record, who changed it, who looked at it. */
import { createRoute, z } from "@hono/zod-openapi";
import { AppError } from "@pm/kit/errors";
import type { RestApp } from "@pm/kit/http/rest";
import { errorAnswers, jsonAnswer } from "@pm/kit/http/schemas";
import { exampleId, noStore } from "../http/schemas.ts";
import type { AuthDatabase } from "../tables.ts";
import { namesOf } from "./store.ts";

const uuid = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}";
const pattern = `^${uuid}(,${uuid}){0,199}$`;
const ids = z
  .string()
  .regex(new RegExp(pattern), "must be ids of users, at most 200, separated by commas")
  .transform((text) => text.split(","))
  .openapi({ type: "string", pattern, description: "Ids of users, at most 200, separated by commas.", example: exampleId });

const People = z
  .object({ items: z.array(z.object({ id: z.string(), name: z.string() })) })
  .openapi("People", { example: { items: [{ id: exampleId, name: "Florence Nightingale" }] } });

const listPeopleRoute = createRoute({
  operationId: "listPeople",
  tags: ["Users"],
  method: "get",
  path: "/auth/people",
  summary: "Read the names of users by their ids",
  description: "For every caller with a scope. Ids of nobody are left out; somebody who has given no name has an empty one.",
  request: { query: z.strictObject({ ids }) },
  responses: { 200: jsonAnswer(People, "Ids and names"), ...errorAnswers("permission_denied") },
});

export function registerPeople({ operation }: RestApp, db: AuthDatabase): void {
  operation(listPeopleRoute, async (c) => {
    // Whoever has signed up and has no role yet does not work here.
    if (c.get("caller").scopes.size === 0) throw new AppError("permission_denied", "This needs a role. Ask an administrator for one.");
    return c.json({ items: await namesOf(db, c.req.valid("query").ids) }, 200, noStore);
  });
}
