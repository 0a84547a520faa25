/** Teams over HTTP. Administrators manage them; everybody who may share a patient with a team finds them. */
import { createRoute, z } from "@hono/zod-openapi";
import type { RestApp } from "@pm/kit/http/rest";
import { errorAnswers, jsonAnswer, jsonBody } from "@pm/kit/http/schemas";
import type { ContextOf } from "../client-address.ts";
import { exampleId, exampleTeamId, exampleTime, listQuery, Name, noContent, noStore, pageOf } from "../http/schemas.ts";
import type { TeamRow } from "../users/teams-store.ts";
import type { Teams } from "./teams.ts";

const tags = ["Teams"];

const exampleTeam = { id: exampleTeamId, name: "Ward 3", members: 12, createdAt: exampleTime };
const Team = z
  .object({ id: z.string(), name: z.string(), members: z.int(), createdAt: z.iso.datetime() })
  .openapi("Team", { example: exampleTeam });
const TeamName = z.strictObject({ name: Name.min(1).max(100) }).openapi({ example: { name: "Ward 3" } });
const toTeam = ({ id, name, members, created_at }: TeamRow) => ({ id, name, members, createdAt: created_at.toISOString() });

const teamParams = z.object({ id: z.uuid().openapi({ example: exampleTeamId }) });
const memberParams = teamParams.extend({ userId: z.uuid().openapi({ example: exampleId }) });

const listTeamsRoute = createRoute({
  operationId: "listTeams",
  tags,
  method: "get",
  path: "/auth/teams",
  summary: "List teams",
  request: { query: z.object(listQuery) },
  responses: { 200: jsonAnswer(pageOf(Team, exampleTeam), "A page of teams") },
});

const createTeamRoute = createRoute({
  operationId: "createTeam",
  tags,
  method: "post",
  path: "/auth/teams",
  summary: "Create a team",
  request: { body: jsonBody(TeamName) },
  responses: { 201: jsonAnswer(Team, "The team"), ...errorAnswers("already_exists") },
});

const getTeamRoute = createRoute({
  operationId: "getTeam",
  tags,
  method: "get",
  path: "/auth/teams/{id}",
  summary: "Read a team",
  description: "`GET /auth/users?teamId=…` lists its members.",
  request: { params: teamParams },
  responses: { 200: jsonAnswer(Team, "The team"), ...errorAnswers("not_found") },
});

const renameTeamRoute = createRoute({
  operationId: "renameTeam",
  tags,
  method: "patch",
  path: "/auth/teams/{id}",
  summary: "Rename a team",
  request: { params: teamParams, body: jsonBody(TeamName) },
  responses: { 200: jsonAnswer(Team, "The team"), ...errorAnswers("not_found", "already_exists") },
});

const deleteTeamRoute = createRoute({
  operationId: "deleteTeam",
  tags,
  method: "delete",
  path: "/auth/teams/{id}",
  summary: "Delete a team and end its members' sessions",
  request: { params: teamParams },
  responses: { ...noContent("The team is deleted."), ...errorAnswers("not_found") },
});

const addTeamMemberRoute = createRoute({
  operationId: "addTeamMember",
  tags,
  method: "put",
  path: "/auth/teams/{id}/members/{userId}",
  summary: "Add a user to a team",
  description: "The user's tokens name the team from their next refresh on, which is within five minutes.",
  request: { params: memberParams },
  responses: { ...noContent("The user is in the team."), ...errorAnswers("not_found") },
});

const removeTeamMemberRoute = createRoute({
  operationId: "removeTeamMember",
  tags,
  method: "delete",
  path: "/auth/teams/{id}/members/{userId}",
  summary: "Remove a user from a team and end the user's sessions",
  request: { params: memberParams },
  responses: { ...noContent("The user is not in the team."), ...errorAnswers("not_found") },
});

export function registerTeams({ operation }: RestApp, { teams, contextOf }: { teams: Teams; contextOf: ContextOf }): void {
  operation(listTeamsRoute, async (c) => {
    const { items, ...next } = await teams.list(c.req.valid("query"));
    return c.json({ items: items.map(toTeam), ...next }, 200, noStore);
  });
  operation(createTeamRoute, async (c) => {
    const team = await teams.create(c.req.valid("json").name, contextOf(c));
    return c.json(toTeam(team), 201, { ...noStore, location: `/auth/teams/${team.id}` });
  });
  operation(getTeamRoute, async (c) => c.json(toTeam(await teams.get(c.req.valid("param").id)), 200, noStore));
  operation(renameTeamRoute, async (c) =>
    c.json(toTeam(await teams.rename(c.req.valid("param").id, c.req.valid("json").name, contextOf(c))), 200, noStore),
  );
  operation(deleteTeamRoute, async (c) => {
    await teams.remove(c.req.valid("param").id, contextOf(c));
    return c.body(null, 204);
  });
  operation(addTeamMemberRoute, async (c) => {
    const { id, userId } = c.req.valid("param");
    await teams.addMember(id, userId, contextOf(c));
    return c.body(null, 204);
  });
  operation(removeTeamMemberRoute, async (c) => {
    const { id, userId } = c.req.valid("param");
    await teams.removeMember(id, userId, contextOf(c));
    return c.body(null, 204);
  });
}
