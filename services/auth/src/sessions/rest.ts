/** Signing in, refreshing and signing out over HTTP, and what services ask about ended sessions. */
import { createRoute, z } from "@hono/zod-openapi";
import { type RevocationSnapshot, revocationSnapshotSchema } from "@pm/kit/auth/revocation-list";
import type { Verifier } from "@pm/kit/auth/verifier";
import { toAppError } from "@pm/kit/errors";
import type { RestApp } from "@pm/kit/http/rest";
import { errorAnswers, jsonAnswer, jsonBody, plainText } from "@pm/kit/http/schemas";
import type { ContextOf } from "../client-address.ts";
import { Code, exampleId, exampleTime, noContent, noStore, Password, SignedInAnswer, userOf } from "../http/schemas.ts";
import type { Refresh } from "./refresh.ts";
import type { Sessions } from "./sessions.ts";

const tags = ["Sign-in"];

const Credentials = z
  .object({
    email: plainText.min(1).max(254),
    password: Password,
    code: Code.optional(),
  })
  .openapi("Credentials", { example: { email: "ada.lovelace@example.com", password: "correct horse battery staple" } });

const refreshToken = z.string().min(1).max(256);
const refreshTokenExample = { example: { refreshToken: "q0Yx3mT9vB5sK7wR1nZ8cL4hJ6dF2gPaEuIoWtXyQzM" } };
const RefreshToken = z
  .object({
    refreshToken,
    background: z.boolean().optional().openapi({
      description:
        "`true` if no person has caused the request, as when a page refreshes itself: an idle session does not live longer by it.",
    }),
  })
  .openapi("RefreshToken", refreshTokenExample);
const Logout = z.object({ refreshToken: refreshToken.optional() }).openapi("Logout", refreshTokenExample);

const ValidToken = z
  .object({ valid: z.literal(true), sub: z.string(), roles: z.array(z.string()), scope: z.string(), expiresAt: z.iso.datetime() })
  .openapi("ValidToken", {
    example: { valid: true, sub: exampleId, roles: ["user"], scope: "patient:read patient:write", expiresAt: exampleTime },
  });

const Revocations = z.object(revocationSnapshotSchema.shape).openapi("Revocations", {
  example: {
    sessions: [{ id: exampleId, until: 1_769_592_960_000 }],
    users: [{ id: exampleId, issuedBefore: 1_769_592_600, until: 1_769_592_960_000 }],
  },
});

const loginRoute = createRoute({
  operationId: "login",
  tags,
  method: "post",
  path: "/auth/login",
  summary: "Sign in with e-mail address and password",
  description: "An account with a second factor needs `code` too. Too many wrong attempts have to wait: `Retry-After` says how long.",
  request: { body: jsonBody(Credentials) },
  responses: { 200: jsonAnswer(SignedInAnswer, "Signed in"), ...errorAnswers("unauthenticated", "resource_exhausted") },
});

const refreshRoute = createRoute({
  operationId: "refresh",
  tags,
  method: "post",
  path: "/auth/refresh",
  summary: "Exchange a refresh token for a new pair of tokens",
  description:
    "A refresh token works once. Sent again, because the answer was lost, it gets the same new refresh token, until that one is used. Sent again more than 30 seconds after its use, when the new one was used too, it counts as stolen and its session ends.",
  request: { body: jsonBody(RefreshToken) },
  responses: { 200: jsonAnswer(SignedInAnswer, "The next pair of tokens"), ...errorAnswers("unauthenticated") },
});

const logoutRoute = createRoute({
  operationId: "logout",
  tags,
  method: "post",
  path: "/auth/logout",
  summary: "End the session of the refresh token, or of the access token, that is sent",
  description:
    "A refresh token needs no access token beside it, and the answer does not tell whether the token was known. Without one, the access token must be valid.",
  request: { body: { ...jsonBody(Logout), required: false } },
  responses: { ...noContent("The session has ended in all services."), ...errorAnswers("unauthenticated", "permission_denied") },
});

const validateRoute = createRoute({
  operationId: "validate",
  tags,
  method: "get",
  path: "/auth/validate",
  summary: "Check whether the token that is sent is valid",
  responses: { 200: jsonAnswer(ValidToken, "The token is valid.") },
});

const revocationsRoute = createRoute({
  operationId: "revocations",
  tags: ["Internal"],
  method: "get",
  path: "/auth/revocations",
  summary: "List ended sessions whose tokens may still be valid",
  description: "For services inside the cluster only. They read later revocations from the topic auth.v1.",
  responses: { 200: jsonAnswer(Revocations, "The snapshot") },
});

export function registerSessions(
  { operation }: RestApp,
  options: {
    sessions: Sessions;
    refresh: Refresh;
    revocationSnapshot: () => Promise<RevocationSnapshot>;
    verifier: Verifier;
    contextOf: ContextOf;
  },
): void {
  const { sessions, refresh, revocationSnapshot, verifier, contextOf } = options;

  operation(loginRoute, async (c) => c.json(await sessions.login(c.req.valid("json"), contextOf(c)), 200, noStore));
  operation(refreshRoute, async (c) => c.json(await refresh(c.req.valid("json"), contextOf(c)), 200, noStore));
  operation(logoutRoute, async (c) => {
    const { refreshToken } = c.req.valid("json");
    if (refreshToken !== undefined) await sessions.endByRefreshToken(refreshToken, contextOf(c));
    try {
      c.set("caller", await verifier.verify(c.req.header("authorization")));
    } catch (error) {
      if (refreshToken !== undefined && toAppError(error).code === "unauthenticated") return c.body(null, 204);
      throw error;
    }
    const { id: userId, sessionId } = userOf(c);
    if (sessionId) await sessions.end({ userId, only: sessionId }, "LOGOUT", contextOf(c));
    return c.body(null, 204);
  });
  operation(validateRoute, (c) => {
    const { id, roles, scopes, expiresAt } = c.get("caller");
    const answer = { valid: true as const, sub: id, roles: [...roles], scope: [...scopes].join(" ") };
    return c.json({ ...answer, expiresAt: new Date(expiresAt * 1_000).toISOString() }, 200, noStore);
  });
  operation(revocationsRoute, async (c) => c.json(await revocationSnapshot(), 200, noStore));
}
