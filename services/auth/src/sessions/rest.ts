/** Sign-in, tokens, signing keys and discovery over HTTP. */
import { createRoute, z } from "@hono/zod-openapi";
import { type RevocationSnapshot, revocationSnapshotSchema } from "@pm/kit/auth/revocation-list";
import type { RestApp } from "@pm/kit/http/rest";
import {
  actorOf,
  Code,
  jsonAnswer,
  jsonBody,
  noContent,
  noStore,
  type OriginOf,
  Password,
  plainText,
  SignedInAnswer,
  userOf,
} from "../http/schemas.ts";
import type { ServiceClients, Tokens } from "../tokens/access-tokens.ts";
import type { KeyInfo, SigningKeys } from "../tokens/signing-keys.ts";
import type { Sessions } from "./sessions.ts";

const Credentials = z
  .object({
    email: plainText.min(1).max(254).openapi({ format: "email", example: "admin@example.com" }),
    password: Password,
    code: Code.optional(),
  })
  .openapi("Credentials");

const Key = z
  .object({
    kid: z.string(),
    state: z.enum(["next", "current", "retired"]),
    activeFrom: z.iso.datetime(),
    retiresAt: z.iso.datetime().optional(),
  })
  .openapi("Key");
const toKey = ({ kid, state, activeFrom, retiresAt }: KeyInfo) => ({
  ...{ kid, state, activeFrom: new Date(activeFrom).toISOString() },
  ...(retiresAt !== undefined && { retiresAt: new Date(retiresAt).toISOString() }),
});

export function registerRest(
  { operation }: RestApp,
  options: {
    sessions: Sessions;
    tokens: Tokens;
    keys: SigningKeys;
    clients: ServiceClients;
    revocationSnapshot: () => Promise<RevocationSnapshot>;
    issuer: string;
    originOf: OriginOf;
  },
): void {
  const { sessions, tokens, keys, clients, revocationSnapshot, issuer, originOf } = options;

  operation(
    createRoute({
      operationId: "login",
      method: "post",
      path: "/auth/login",
      summary: "Sign in with e-mail address and password",
      request: { body: jsonBody(Credentials) },
      responses: { 200: jsonAnswer(SignedInAnswer, "Signed in") },
    }),
    async (c) => c.json(await sessions.login(c.req.valid("json"), originOf(c)), 200, noStore),
  );

  operation(
    createRoute({
      operationId: "refresh",
      method: "post",
      path: "/auth/refresh",
      summary: "Exchange a refresh token for a new pair of tokens",
      description: "A refresh token is used once. Sent again within 30 seconds it gives the same answer; after that its session ends.",
      request: { body: jsonBody(z.object({ refreshToken: z.string().min(1).max(256) })) },
      responses: { 200: jsonAnswer(SignedInAnswer, "The next pair") },
    }),
    async (c) => c.json(await sessions.refresh(c.req.valid("json").refreshToken, originOf(c)), 200, noStore),
  );

  operation(
    createRoute({
      operationId: "logout",
      method: "post",
      path: "/auth/logout",
      summary: "End the session of the token that is sent",
      responses: noContent("The session has ended everywhere."),
    }),
    async (c) => {
      const caller = userOf(c.get("caller"));
      if (caller.sessionId) await sessions.end({ userId: caller.id, only: caller.sessionId }, "LOGOUT", actorOf(c, originOf));
      return c.body(null, 204);
    },
  );

  operation(
    createRoute({
      operationId: "validate",
      method: "get",
      path: "/auth/validate",
      summary: "Say whether the token that is sent is valid",
      responses: {
        200: jsonAnswer(
          z.object({ valid: z.literal(true), sub: z.string(), roles: z.array(z.string()), scope: z.string(), expiresAt: z.iso.datetime() }),
          "It is valid; any other token is answered by 401.",
        ),
      },
    }),
    (c) => {
      const { id, roles, scopes, expiresAt } = c.get("caller");
      const answer = { valid: true as const, sub: id, roles: [...roles], scope: [...scopes].join(" ") };
      return c.json({ ...answer, expiresAt: new Date(expiresAt * 1_000).toISOString() }, 200, noStore);
    },
  );

  operation(
    createRoute({
      operationId: "issueServiceToken",
      "x-internal": true,
      method: "post",
      path: "/auth/token",
      summary: "Give a service its access token (RFC 6749, client credentials)",
      description: "Inside the cluster only. The client authenticates by HTTP Basic or by client_id and client_secret in the form.",
      request: {
        body: {
          required: true,
          content: {
            "application/x-www-form-urlencoded": {
              schema: z.object({
                grant_type: z.string().optional(),
                client_id: z.string().optional(),
                client_secret: z.string().optional(),
              }),
            },
          },
        },
      },
      responses: {
        200: jsonAnswer(
          z.object({ access_token: z.string(), token_type: z.literal("Bearer"), expires_in: z.int(), scope: z.string().optional() }),
          "The token",
        ),
        400: jsonAnswer(OAuthError, "Not a request for client credentials"),
        401: jsonAnswer(OAuthError, "Wrong client or secret"),
      },
    }),
    async (c) => {
      const form = c.req.valid("form");
      if (form.grant_type !== "client_credentials")
        return c.json({ error: "unsupported_grant_type", error_description: "grant_type must be client_credentials" }, 400, noStore);
      const { id, secret } = basicCredentials(c.req.header("authorization")) ?? {
        id: form.client_id ?? "",
        secret: form.client_secret ?? "",
      };
      const client = clients.authenticate(id, secret);
      if (!client) {
        c.get("log").warn({ requestId: c.get("requestId") }, "a service sent a wrong client id or secret");
        const challenge = { ...noStore, "www-authenticate": 'Basic realm="auth"' };
        return c.json({ error: "invalid_client", error_description: "Unknown client or wrong secret." }, 401, challenge);
      }
      const answer = { access_token: await tokens.forService(client), token_type: "Bearer" as const, expires_in: tokens.lifetimeSeconds };
      return c.json(answer, 200, noStore);
    },
  );

  operation(
    createRoute({
      operationId: "revocations",
      method: "get",
      path: "/auth/revocations",
      summary: "Sessions that have ended while tokens of theirs may still be valid",
      description: "For services, inside the cluster only. They hear of later ones on the topic auth.v1.",
      responses: { 200: jsonAnswer(revocationSnapshotSchema, "The snapshot") },
    }),
    async (c) => c.json(await revocationSnapshot(), 200, noStore),
  );

  operation(
    createRoute({
      operationId: "listKeys",
      method: "get",
      path: "/auth/keys",
      summary: "The signing keys and what each is for",
      responses: { 200: jsonAnswer(z.object({ items: z.array(Key) }), "The keys, in the order in which they sign") },
    }),
    async (c) => c.json({ items: (await keys.list()).map(toKey) }, 200, noStore),
  );
  operation(
    createRoute({
      operationId: "rotateKeys",
      method: "post",
      path: "/auth/keys:rotate",
      summary: "Make the next signing key; where one is under way, that one is answered",
      description: "It signs after it has been published for longer than anybody caches the key set.",
      responses: { 202: jsonAnswer(Key, "The next key") },
    }),
    async (c) => c.json(toKey(await keys.rotate(actorOf(c, originOf))), 202, noStore),
  );

  operation(
    createRoute({
      operationId: "jwks",
      method: "get",
      path: "/.well-known/jwks.json",
      summary: "The keys that access tokens are signed with (RFC 7517)",
      responses: { 200: jsonAnswer(z.object({ keys: z.array(z.record(z.string(), z.unknown())) }), "The key set") },
    }),
    async (c) => c.json({ keys: (await keys.jwks()).keys.map((key) => ({ ...key }) as Record<string, string>) }, 200, discoveryCache),
  );

  operation(
    createRoute({
      operationId: "openidConfiguration",
      method: "get",
      path: "/.well-known/openid-configuration",
      summary: "Where what is (OpenID Connect Discovery, RFC 8414)",
      description:
        "For verifying access tokens: the issuer and its keys. It names no token endpoint, because clients log in by `POST /auth/login`.",
      responses: { 200: jsonAnswer(z.record(z.string(), z.unknown()), "The metadata") },
    }),
    (c) =>
      c.json(
        {
          issuer,
          jwks_uri: `${issuer}/.well-known/jwks.json`,
          userinfo_endpoint: `${issuer}/auth/me`,
          // Whoever reads this can reach what it names. The token endpoint is inside the cluster, for services that know its
          // address from AUTH_URL; so there is no grant for a reader, and leaving the list out would mean the authorization code.
          grant_types_supported: [],
          response_types_supported: [],
          subject_types_supported: ["public"],
          id_token_signing_alg_values_supported: ["ES256"],
        },
        200,
        discoveryCache,
      ),
  );
}

/** Shorter than any time for which a key is published before it signs. */
const discoveryCache = { "cache-control": "public, max-age=60" };

const OAuthError = z.object({ error: z.string(), error_description: z.string() }).openapi("OAuthError");

/** Client id and secret of an HTTP Basic header; both are form-encoded first (RFC 6749, 2.3.1). */
function basicCredentials(header: string | undefined): { id: string; secret: string } | undefined {
  const encoded = /^Basic ([A-Za-z0-9+/=]+)$/i.exec(header ?? "")?.[1];
  if (!encoded) return undefined;
  const [id = "", secret = ""] = Buffer.from(encoded, "base64")
    .toString("utf8")
    .split(/:(.*)/s)
    .map((part) => {
      try {
        return decodeURIComponent(part.replaceAll("+", " "));
      } catch {
        return "";
      }
    });
  return { id, secret };
}
