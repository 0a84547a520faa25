/** The accounts of all users over HTTP, for administrators. */
import { createRoute, z } from "@hono/zod-openapi";
import type { AuditTrail } from "@pm/kit/audit/trail";
import { invalidFields } from "@pm/kit/errors";
import { type RestApp, type RestContext, requestContext } from "@pm/kit/http/rest";
import { errorAnswers, jsonAnswer, jsonBody } from "@pm/kit/http/schemas";
import { plainTextPattern } from "@pm/kit/plain-text";
import type { ContextOf } from "../client-address.ts";
import {
  Email,
  EndedSessions,
  exampleId,
  exampleTeamId,
  exampleTime,
  idParams,
  listQuery,
  Name,
  NewPassword,
  noContent,
  noStore,
  PersonName,
  pageOf,
  RoleName,
} from "../http/schemas.ts";
import type { Sessions } from "../sessions/sessions.ts";
import type { SessionRow } from "../sessions/store.ts";
import type { UserRow } from "../users/store.ts";
import type { Invitations } from "./invitations.ts";
import type { Users } from "./users.ts";

const tags = ["Users"];

const exampleUser = {
  id: exampleId,
  email: "florence@example.com",
  name: "Florence Nightingale",
  roles: ["user"],
  state: "active" as const,
  secondFactor: true,
  teams: [exampleTeamId],
  createdAt: exampleTime,
  updatedAt: exampleTime,
};
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
  .openapi("User", { example: exampleUser });

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
    password: NewPassword.optional().openapi({ description: "Without a password, the user gets an invitation by mail." }),
  })
  .openapi("NewUser", { example: { email: "florence@example.com", name: "Florence Nightingale", roles: ["user"] } });
const UserUpdate = z
  .strictObject({ email: Email.optional(), name: PersonName.optional(), roles: Roles.optional() })
  .openapi({ example: { roles: ["user", "analyst"] } });

const exampleSession = { id: exampleId, address: "203.0.113.7", userAgent: "Mozilla/5.0 (X11; Linux x86_64)", lastUsedAt: exampleTime };
const UserSessions = z
  .object({
    items: z.array(z.object({ id: z.string(), address: z.string(), userAgent: z.string(), lastUsedAt: z.iso.datetime() })),
  })
  .openapi({ example: { items: [exampleSession] } });

const listUsersRoute = createRoute({
  operationId: "listUsers",
  tags,
  method: "get",
  path: "/auth/users",
  summary: "List and search users, in the order in which they were created",
  request: {
    query: z.object({
      ...listQuery,
      q: Name.min(1)
        .max(200)
        .optional()
        .openapi({ pattern: plainTextPattern, description: "Part of the e-mail address or the name.", example: "night" }),
      role: RoleName.optional(),
      state: z.enum(["active", "invited", "disabled"]).optional(),
      teamId: z.uuid().optional().openapi({ example: exampleTeamId }),
    }),
  },
  responses: { 200: jsonAnswer(pageOf(User, exampleUser), "A page of users") },
});

const createUserRoute = createRoute({
  operationId: "createUser",
  tags,
  method: "post",
  path: "/auth/users",
  summary: "Create an account with any roles",
  request: { body: jsonBody(NewUser) },
  responses: { 201: jsonAnswer(User, "The account"), ...errorAnswers("already_exists", "failed_precondition") },
});

const getUserRoute = createRoute({
  operationId: "getUser",
  tags,
  method: "get",
  path: "/auth/users/{id}",
  summary: "Read an account",
  request: { params: idParams },
  responses: { 200: jsonAnswer(User, "The account"), ...errorAnswers("not_found") },
});

const updateUserRoute = createRoute({
  operationId: "updateUser",
  tags,
  method: "patch",
  path: "/auth/users/{id}",
  summary: "Change the e-mail address, the name or the roles of a user",
  description: "New roles and a new address end the user's sessions.",
  request: { params: idParams, body: jsonBody(UserUpdate) },
  responses: { 200: jsonAnswer(User, "The account"), ...errorAnswers("not_found", "already_exists", "failed_precondition") },
});

const disableUserRoute = createRoute({
  operationId: "disableUser",
  tags,
  method: "post",
  path: "/auth/users/{id}:disable",
  summary: "Disable an account and end its sessions in all services",
  request: { params: idParams },
  responses: { 200: jsonAnswer(User, "The account"), ...errorAnswers("not_found", "failed_precondition") },
});

const enableUserRoute = createRoute({
  operationId: "enableUser",
  tags,
  method: "post",
  path: "/auth/users/{id}:enable",
  summary: "Let a disabled account sign in again",
  request: { params: idParams },
  responses: { 200: jsonAnswer(User, "The account"), ...errorAnswers("not_found") },
});

const sendUserLinkRoute = createRoute({
  operationId: "sendUserLink",
  tags,
  method: "post",
  path: "/auth/users/{id}:sendLink",
  summary: "Mail an invitation again, or a link for choosing a new password",
  request: { params: idParams },
  responses: { ...noContent("The link is sent."), ...errorAnswers("not_found", "failed_precondition") },
});

const listUserSessionsRoute = createRoute({
  operationId: "listUserSessions",
  tags,
  method: "get",
  path: "/auth/users/{id}/sessions",
  summary: "List the sessions of a user",
  request: { params: idParams },
  responses: { 200: jsonAnswer(UserSessions, "The sessions, the last used first"), ...errorAnswers("not_found") },
});

const endUserSessionsRoute = createRoute({
  operationId: "endUserSessions",
  tags,
  method: "post",
  path: "/auth/users/{id}:endSessions",
  summary: "End all sessions of a user",
  request: { params: idParams },
  responses: { 200: jsonAnswer(EndedSessions, "The sessions have ended in all services."), ...errorAnswers("not_found") },
});

const removeUserSecondFactorRoute = createRoute({
  operationId: "removeUserSecondFactor",
  tags,
  method: "post",
  path: "/auth/users/{id}:removeSecondFactor",
  summary: "Remove the second factor of a user who has lost the device and the recovery codes",
  description: "Check the user's identity first, as carefully as when they got the account. It ends the user's sessions and mails them.",
  request: { params: idParams },
  responses: { 200: jsonAnswer(User, "The account"), ...errorAnswers("not_found") },
});

export function registerUsers(
  { operation }: RestApp,
  options: { users: Users; invitations: Invitations; sessions: Sessions; audit: AuditTrail; contextOf: ContextOf },
): void {
  const { users, invitations, sessions, audit, contextOf } = options;

  const recordRead = (c: RestContext, subject: string, details = {}) =>
    audit.record({ ...requestContext(c), action: "sensitive_read", subject, details });

  operation(listUsersRoute, async (c) => {
    const { limit, cursor, ...filter } = c.req.valid("query");
    const { items, ...next } = await users.list(filter, { limit, cursor });
    await recordRead(c, "users", { ids: items.map(({ id }) => id) });
    return c.json({ items: items.map(toUser), ...next }, 200, noStore);
  });
  operation(createUserRoute, async (c) => {
    const { role, roles = role && [role], ...rest } = c.req.valid("json");
    if (!roles) throw invalidFields([{ path: "roles", message: "is required; name at least one role" }]);
    const id = await invitations.createUser({ ...rest, roles }, contextOf(c));
    return c.json(toUser(await users.get(id)), 201, { ...noStore, location: `/auth/users/${id}` });
  });
  operation(getUserRoute, async (c) => {
    const user = await users.get(c.req.valid("param").id);
    await recordRead(c, user.id);
    return c.json(toUser(user), 200, noStore);
  });
  operation(updateUserRoute, async (c) =>
    c.json(toUser(await users.update(c.req.valid("param").id, c.req.valid("json"), contextOf(c))), 200, noStore),
  );
  operation(disableUserRoute, async (c) => c.json(toUser(await users.disable(c.req.valid("param").id, contextOf(c))), 200, noStore));
  operation(enableUserRoute, async (c) => c.json(toUser(await users.enable(c.req.valid("param").id, contextOf(c))), 200, noStore));
  operation(sendUserLinkRoute, async (c) => {
    await invitations.sendLink(c.req.valid("param").id, contextOf(c));
    return c.body(null, 204);
  });
  operation(listUserSessionsRoute, async (c) => {
    const { id } = await users.get(c.req.valid("param").id);
    const rows = await sessions.list(id);
    await recordRead(c, id, { sessions: rows.map((row) => row.id) });
    return c.json({ items: rows.map(toSession) }, 200, noStore);
  });
  operation(endUserSessionsRoute, async (c) =>
    c.json({ ended: await users.endSessions(c.req.valid("param").id, contextOf(c)) }, 200, noStore),
  );
  operation(removeUserSecondFactorRoute, async (c) =>
    c.json(toUser(await users.removeSecondFactor(c.req.valid("param").id, contextOf(c))), 200, noStore),
  );
}

function toUser({ id, email, name, roles, state, second_factor, teams, created_at, updated_at }: UserRow) {
  const times = { createdAt: created_at.toISOString(), updatedAt: updated_at.toISOString() };
  return { id, email, name, roles, state, secondFactor: second_factor, teams, ...times };
}

function toSession({ id, address, user_agent, last_used_at }: SessionRow) {
  return { id, address, userAgent: user_agent, lastUsedAt: last_used_at.toISOString() };
}
