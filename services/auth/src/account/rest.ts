/** A user's own account over HTTP: profile, password, e-mail address, sessions. */

import { createRoute, z } from "@hono/zod-openapi";
import type { AuditTrail } from "@pm/kit/audit/trail";
import { AppError } from "@pm/kit/errors";
import { type RestApp, requestContext } from "@pm/kit/http/rest";
import { errorAnswers, jsonAnswer, jsonBody } from "@pm/kit/http/schemas";
import type { ContextOf } from "../client-address.ts";
import {
  Email,
  EndedSessions,
  exampleId,
  exampleTeamId,
  exampleTime,
  idParams,
  LinkToken,
  NewPassword,
  noContent,
  noStore,
  PersonName,
  Proof,
  SignedInAnswer,
  userOf,
} from "../http/schemas.ts";
import type { Sessions } from "../sessions/sessions.ts";
import type { SessionRow } from "../sessions/store.ts";
import type { UserRow } from "../users/store.ts";
import type { Accounts } from "./account.ts";

const tags = ["Account"];

const Me = z
  .object({
    id: z.string(),
    sub: z.string().openapi({ description: "The same as `id`, under the name that libraries for OAuth look for." }),
    email: z.string(),
    name: z.string(),
    roles: z.array(z.string()),
    scopes: z.array(z.string()),
    teams: z.array(z.string()),
    secondFactor: z.boolean(),
    createdAt: z.iso.datetime(),
  })
  .openapi("Me", {
    example: {
      id: exampleId,
      sub: exampleId,
      email: "ada.lovelace@example.com",
      name: "Ada Lovelace",
      roles: ["user"],
      scopes: ["patient:read", "patient:write"],
      teams: [exampleTeamId],
      secondFactor: true,
      createdAt: exampleTime,
    },
  });

const exampleSession = {
  id: "6f1c2b9e-3a5d-4e7f-8b10-2c4d6e8f0a1b",
  current: true,
  address: "203.0.113.7",
  userAgent: "Mozilla/5.0 (X11; Linux x86_64)",
  secondFactor: true,
  createdAt: exampleTime,
  lastUsedAt: exampleTime,
  expiresAt: "2026-02-04T09:30:00.000Z",
};
const Session = z
  .object({
    id: z.string(),
    current: z.boolean().openapi({ description: "Whether it is the session of the token that is sent." }),
    address: z.string(),
    userAgent: z.string(),
    secondFactor: z.boolean(),
    createdAt: z.iso.datetime(),
    lastUsedAt: z.iso.datetime(),
    expiresAt: z.iso.datetime(),
  })
  .openapi("Session", { example: exampleSession });

const meRoute = createRoute({
  operationId: "me",
  tags,
  method: "get",
  path: "/auth/me",
  summary: "Read the account of the token that is sent",
  responses: { 200: jsonAnswer(Me, "The account"), ...errorAnswers("permission_denied", "not_found") },
});

const renameMeRoute = createRoute({
  operationId: "renameMe",
  tags,
  method: "patch",
  path: "/auth/me",
  summary: "Change your name",
  request: { body: jsonBody(z.strictObject({ name: PersonName }).openapi({ example: { name: "Ada Lovelace" } })) },
  responses: { ...noContent("The name is changed."), ...errorAnswers("permission_denied", "not_found") },
});

const changePasswordRoute = createRoute({
  operationId: "changePassword",
  tags,
  method: "post",
  path: "/auth/password",
  summary: "Change your password",
  description: "Ends all sessions, including this one, and answers with a new session.",
  request: {
    body: jsonBody(
      z.object({ currentPassword: Proof.password, newPassword: NewPassword, code: Proof.code }).openapi({
        example: { currentPassword: "correct horse battery staple", newPassword: "another correct horse" },
      }),
    ),
  },
  responses: { 200: jsonAnswer(SignedInAnswer, "The new session"), ...errorAnswers("permission_denied", "resource_exhausted") },
});

const changeEmailRoute = createRoute({
  operationId: "changeEmail",
  tags,
  method: "post",
  path: "/auth/email",
  summary: "Change your e-mail address",
  description: "A code is mailed to the new address. If no mail is set up, the address changes at once.",
  request: {
    body: jsonBody(
      z.object({ ...Proof, email: Email }).openapi({ example: { email: "ada@example.com", password: "correct horse battery staple" } }),
    ),
  },
  responses: {
    202: jsonAnswer(z.object({ status: z.enum(["code sent", "changed"]) }).openapi({ example: { status: "code sent" } }), "Accepted"),
    ...errorAnswers("permission_denied", "already_exists", "resource_exhausted"),
  },
});

const confirmEmailRoute = createRoute({
  operationId: "confirmEmail",
  tags,
  method: "post",
  path: "/auth/email/confirm",
  summary: "Confirm your new e-mail address with the code that was mailed to it",
  description: "Ends your other sessions.",
  request: {
    body: jsonBody(z.object({ token: LinkToken }).openapi({ example: { token: "Zk3vQ0y8sX1mB7cT5nR9wE2pL6uJ4aHdGfKiOqYtSxM" } })),
  },
  responses: { ...noContent("The address is changed."), ...errorAnswers("permission_denied", "already_exists") },
});

const listSessionsRoute = createRoute({
  operationId: "listSessions",
  tags,
  method: "get",
  path: "/auth/sessions",
  summary: "List your sessions",
  responses: {
    200: jsonAnswer(
      z.object({ items: z.array(Session) }).openapi({ example: { items: [exampleSession] } }),
      "The sessions, the last used first",
    ),
    ...errorAnswers("permission_denied"),
  },
});

const endOtherSessionsRoute = createRoute({
  operationId: "endOtherSessions",
  tags,
  method: "post",
  path: "/auth/sessions:endOthers",
  summary: "End all your other sessions",
  responses: { 200: jsonAnswer(EndedSessions, "The sessions have ended in all services."), ...errorAnswers("permission_denied") },
});

const endSessionRoute = createRoute({
  operationId: "endSession",
  tags,
  method: "delete",
  path: "/auth/sessions/{id}",
  summary: "End one of your sessions",
  request: { params: idParams },
  responses: { ...noContent("The session has ended in all services."), ...errorAnswers("permission_denied", "not_found") },
});

export function registerAccounts(
  { operation }: RestApp,
  { accounts, sessions, audit, contextOf }: { accounts: Accounts; sessions: Sessions; audit: AuditTrail; contextOf: ContextOf },
): void {
  operation(meRoute, async (c) => {
    const me = userOf(c);
    return c.json(toMe(await accounts.get(me), me.scopes), 200, noStore);
  });
  operation(renameMeRoute, async (c) => {
    await accounts.rename(userOf(c), c.req.valid("json").name, contextOf(c));
    return c.body(null, 204);
  });
  operation(changePasswordRoute, async (c) => {
    const { currentPassword, newPassword, code } = c.req.valid("json");
    return c.json(await accounts.changePassword(userOf(c), { password: currentPassword, code }, newPassword, contextOf(c)), 200, noStore);
  });
  operation(changeEmailRoute, async (c) => {
    const { email, ...proof } = c.req.valid("json");
    return c.json({ status: await accounts.changeEmail(userOf(c), proof, email, contextOf(c)) }, 202, noStore);
  });
  operation(confirmEmailRoute, async (c) => {
    await accounts.confirmEmail(userOf(c), c.req.valid("json").token, contextOf(c));
    return c.body(null, 204);
  });
  operation(listSessionsRoute, async (c) => {
    const me = userOf(c);
    const rows = await sessions.list(me.id);
    const details = { sessions: rows.map((row) => row.id) };
    await audit.record({ ...requestContext(c), action: "sensitive_read", subject: me.id, details });
    return c.json({ items: rows.map((row) => toSession(row, me.sessionId)) }, 200, noStore);
  });
  operation(endOtherSessionsRoute, async (c) => {
    const me = userOf(c);
    return c.json({ ended: await sessions.end({ userId: me.id, except: me.sessionId }, "REVOKED", contextOf(c)) }, 200, noStore);
  });
  operation(endSessionRoute, async (c) => {
    const ended = await sessions.end({ userId: userOf(c).id, only: c.req.valid("param").id }, "REVOKED", contextOf(c));
    if (ended === 0) throw new AppError("not_found", "You have no such session.");
    return c.body(null, 204);
  });
}

function toMe({ id, email, name, roles, teams, second_factor, created_at }: UserRow, scopes: Iterable<string>) {
  const rights = { roles, scopes: [...scopes], teams };
  return { id, sub: id, email, name, ...rights, secondFactor: second_factor, createdAt: created_at.toISOString() };
}

function toSession(row: SessionRow, currentId: string | undefined) {
  return {
    id: row.id,
    current: row.id === currentId,
    address: row.address,
    userAgent: row.user_agent,
    secondFactor: row.second_factor,
    createdAt: row.created_at.toISOString(),
    lastUsedAt: row.last_used_at.toISOString(),
    expiresAt: row.expires_at.toISOString(),
  };
}
