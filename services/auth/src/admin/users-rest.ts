/** Accounts over HTTP, for administrators. */
import { createRoute, z } from "@hono/zod-openapi";
import { invalidFields } from "@pm/kit/errors";
import type { RestApp, RestContext } from "@pm/kit/http/rest";
import {
  actorOf,
  Email,
  idParams,
  jsonAnswer,
  jsonBody,
  listQuery,
  NewPassword,
  noContent,
  noStore,
  type OriginOf,
  PersonName,
  pageOf,
  plainText,
  RoleName,
} from "../http/schemas.ts";
import type { Sessions } from "../sessions/sessions.ts";
import type { UserRow } from "../users/store.ts";
import type { Users } from "./users.ts";

const User = z
  .object({
    id: z.string(),
    email: z.string(),
    name: z.string(),
    roles: z.array(z.string()),
    state: z.enum(["active", "invited", "disabled"]),
    secondFactor: z.boolean(),
    teams: z.array(z.string()),
    createdAt: z.iso.datetime(),
    updatedAt: z.iso.datetime(),
  })
  .openapi("User");
const Roles = z
  .array(RoleName)
  .min(1, "must name at least one role")
  .transform((roles) => [...new Set(roles)]);
const NewUser = z
  .object({
    email: Email,
    name: PersonName.default(""),
    roles: Roles.optional(),
    role: RoleName.optional().openapi({ description: "The same as `roles` with one entry." }),
    password: NewPassword.optional().openapi({ description: "Without it, an invitation is sent." }),
  })
  .openapi("NewUser");

function toUser({ id, email, name, roles, state, second_factor, teams, created_at, updated_at }: UserRow) {
  const times = { createdAt: created_at.toISOString(), updatedAt: updated_at.toISOString() };
  return { id, email, name, roles, state, secondFactor: second_factor, teams, ...times };
}

export function registerUsers({ operation }: RestApp, options: { users: Users; sessions: Sessions; originOf: OriginOf }): void {
  const { users, sessions, originOf } = options;
  const by = (c: RestContext) => actorOf(c, originOf);

  operation(
    createRoute({
      operationId: "listUsers",
      method: "get",
      path: "/auth/users",
      summary: "List and search users, in the order in which they were made",
      request: {
        query: z.object({
          ...listQuery,
          q: plainText.min(1).max(200).optional().openapi({ description: "Part of the e-mail address or name." }),
          role: RoleName.optional(),
          state: z.enum(["active", "invited", "disabled"]).optional(),
          teamId: z.uuid("is not an id").optional(),
        }),
      },
      responses: { 200: jsonAnswer(pageOf(User), "A page") },
    }),
    async (c) => {
      const { limit, cursor, ...filter } = c.req.valid("query");
      const { items, nextCursor } = await users.list(filter, { limit, cursor });
      return c.json({ items: items.map(toUser), ...(nextCursor !== undefined && { nextCursor }) }, 200, noStore);
    },
  );
  operation(
    createRoute({
      operationId: "createUser",
      method: "post",
      path: "/auth/users",
      summary: "Make an account with any roles",
      request: { body: jsonBody(NewUser) },
      responses: { 201: jsonAnswer(User, "The account") },
    }),
    async (c) => {
      const { email, name, roles, role, password } = c.req.valid("json");
      const given = roles ?? (role && [role]);
      if (!given) throw invalidFields([{ path: "roles", message: "is missing; name at least one role" }]);
      const user = await users.create({ email, name, roles: given, password }, by(c));
      return c.json(toUser(user), 201, { ...noStore, location: `/auth/users/${user.id}` });
    },
  );
  operation(
    createRoute({
      operationId: "getUser",
      method: "get",
      path: "/auth/users/{id}",
      summary: "One user",
      request: { params: idParams },
      responses: { 200: jsonAnswer(User, "The account") },
    }),
    async (c) => c.json(toUser(await users.get(c.req.valid("param").id)), 200, noStore),
  );
  operation(
    createRoute({
      operationId: "updateUser",
      method: "patch",
      path: "/auth/users/{id}",
      summary: "Change address, name or roles",
      description: "New roles and a new address end the user's sessions.",
      request: {
        params: idParams,
        body: jsonBody(z.strictObject({ email: Email.optional(), name: PersonName.optional(), roles: Roles.optional() })),
      },
      responses: { 200: jsonAnswer(User, "The account") },
    }),
    async (c) => c.json(toUser(await users.update(c.req.valid("param").id, c.req.valid("json"), by(c))), 200, noStore),
  );
  operation(
    createRoute({
      operationId: "disableUser",
      method: "post",
      path: "/auth/users/{id}:disable",
      summary: "Disable an account and end its sessions everywhere",
      request: { params: idParams },
      responses: { 200: jsonAnswer(User, "The account") },
    }),
    async (c) => c.json(toUser(await users.disable(c.req.valid("param").id, by(c))), 200, noStore),
  );
  operation(
    createRoute({
      operationId: "enableUser",
      method: "post",
      path: "/auth/users/{id}:enable",
      summary: "Let a disabled account sign in again",
      request: { params: idParams },
      responses: { 200: jsonAnswer(User, "The account") },
    }),
    async (c) => c.json(toUser(await users.enable(c.req.valid("param").id, by(c))), 200, noStore),
  );
  operation(
    createRoute({
      operationId: "sendUserLink",
      method: "post",
      path: "/auth/users/{id}:sendLink",
      summary: "Send an invitation again, or a link for choosing a new password",
      request: { params: idParams },
      responses: noContent("Sent"),
    }),
    async (c) => {
      await users.sendLink(c.req.valid("param").id, by(c));
      return c.body(null, 204);
    },
  );
  operation(
    createRoute({
      operationId: "listUserSessions",
      method: "get",
      path: "/auth/users/{id}/sessions",
      summary: "Where a user is signed in",
      request: { params: idParams },
      responses: {
        200: jsonAnswer(
          z.object({
            items: z.array(z.object({ id: z.string(), address: z.string(), userAgent: z.string(), lastUsedAt: z.iso.datetime() })),
          }),
          "The sessions",
        ),
      },
    }),
    async (c) => {
      const { id } = await users.get(c.req.valid("param").id);
      const rows = await sessions.list(id);
      const items = rows.map((row) => ({
        id: row.id,
        address: row.address,
        userAgent: row.user_agent,
        lastUsedAt: row.last_used_at.toISOString(),
      }));
      return c.json({ items }, 200, noStore);
    },
  );
  operation(
    createRoute({
      operationId: "endUserSessions",
      method: "post",
      path: "/auth/users/{id}:endSessions",
      summary: "Sign a user out everywhere",
      request: { params: idParams },
      responses: { 200: jsonAnswer(z.object({ ended: z.int() }), "How many sessions have ended") },
    }),
    async (c) => c.json({ ended: await users.endSessions(c.req.valid("param").id, by(c)) }, 200, noStore),
  );
  operation(
    createRoute({
      operationId: "removeUserSecondFactor",
      method: "post",
      path: "/auth/users/{id}:removeSecondFactor",
      summary: "Remove the second factor of a user who lost the device and the recovery codes",
      description: "After his identity was checked as carefully as when he got the account. Ends his sessions; he is told by mail.",
      request: { params: idParams },
      responses: { 200: jsonAnswer(User, "The account") },
    }),
    async (c) => c.json(toUser(await users.removeSecondFactor(c.req.valid("param").id, by(c))), 200, noStore),
  );
}
