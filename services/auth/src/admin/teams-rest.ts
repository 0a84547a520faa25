/** Teams over HTTP: administrators make them; whoever shares a patient finds them. */
import { createRoute, z } from "@hono/zod-openapi";
import type { RestApp, RestContext } from "@pm/kit/http/rest";
import {
  actorOf,
  idParams,
  jsonAnswer,
  jsonBody,
  listQuery,
  noContent,
  noStore,
  type OriginOf,
  pageOf,
  plainText,
} from "../http/schemas.ts";
import type { TeamRow } from "../users/store.ts";
import type { Teams } from "./teams.ts";

const Team = z.object({ id: z.string(), name: z.string(), members: z.int(), createdAt: z.iso.datetime() }).openapi("Team");
const TeamName = z.strictObject({ name: plainText.min(1).max(100) });
const toTeam = ({ id, name, members, created_at }: TeamRow) => ({ id, name, members, createdAt: created_at.toISOString() });

export function registerTeams({ operation }: RestApp, { teams, originOf }: { teams: Teams; originOf: OriginOf }): void {
  const by = (c: RestContext) => actorOf(c, originOf);

  operation(
    createRoute({
      operationId: "listTeams",
      method: "get",
      path: "/auth/teams",
      summary: "List teams",
      request: { query: z.object(listQuery) },
      responses: { 200: jsonAnswer(pageOf(Team), "A page") },
    }),
    async (c) => {
      const { items, nextCursor } = await teams.list(c.req.valid("query"));
      return c.json({ items: items.map(toTeam), ...(nextCursor !== undefined && { nextCursor }) }, 200, noStore);
    },
  );
  operation(
    createRoute({
      operationId: "createTeam",
      method: "post",
      path: "/auth/teams",
      summary: "Make a team",
      request: { body: jsonBody(TeamName) },
      responses: { 201: jsonAnswer(Team, "The team") },
    }),
    async (c) => {
      const team = await teams.create(c.req.valid("json").name, by(c));
      return c.json(toTeam(team), 201, { ...noStore, location: `/auth/teams/${team.id}` });
    },
  );
  operation(
    createRoute({
      operationId: "getTeam",
      method: "get",
      path: "/auth/teams/{id}",
      summary: "One team; its members are GET /auth/users?teamId=…",
      request: { params: idParams },
      responses: { 200: jsonAnswer(Team, "The team") },
    }),
    async (c) => c.json(toTeam(await teams.get(c.req.valid("param").id)), 200, noStore),
  );
  operation(
    createRoute({
      operationId: "renameTeam",
      method: "patch",
      path: "/auth/teams/{id}",
      summary: "Rename a team",
      request: { params: idParams, body: jsonBody(TeamName) },
      responses: { 200: jsonAnswer(Team, "The team") },
    }),
    async (c) => c.json(toTeam(await teams.rename(c.req.valid("param").id, c.req.valid("json").name, by(c))), 200, noStore),
  );
  operation(
    createRoute({
      operationId: "deleteTeam",
      method: "delete",
      path: "/auth/teams/{id}",
      summary: "Delete a team and end its members' sessions",
      request: { params: idParams },
      responses: noContent("Deleted"),
    }),
    async (c) => {
      await teams.remove(c.req.valid("param").id, by(c));
      return c.body(null, 204);
    },
  );
  const memberParams = z.object({ id: z.uuid("is not an id"), userId: z.uuid("is not an id") });
  operation(
    createRoute({
      operationId: "addTeamMember",
      method: "put",
      path: "/auth/teams/{id}/members/{userId}",
      summary: "Put a user into a team",
      description: "Tokens name the team from their next refresh on, within five minutes.",
      request: { params: memberParams },
      responses: noContent("The user is in the team."),
    }),
    async (c) => {
      const { id, userId } = c.req.valid("param");
      await teams.addMember(id, userId, by(c));
      return c.body(null, 204);
    },
  );
  operation(
    createRoute({
      operationId: "removeTeamMember",
      method: "delete",
      path: "/auth/teams/{id}/members/{userId}",
      summary: "Take a user out of a team and end his sessions",
      request: { params: memberParams },
      responses: noContent("The user is not in the team."),
    }),
    async (c) => {
      const { id, userId } = c.req.valid("param");
      await teams.removeMember(id, userId, by(c));
      return c.body(null, 204);
    },
  );
}
