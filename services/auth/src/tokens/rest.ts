/** The tokens of services, signing keys and discovery over HTTP. */
import { createRoute, z } from "@hono/zod-openapi";
import type { RestApp } from "@pm/kit/http/rest";
import { errorAnswers, jsonAnswer } from "@pm/kit/http/schemas";
import type { ContextOf } from "../client-address.ts";
import { exampleTime, noStore } from "../http/schemas.ts";
import type { ServiceClients, Tokens } from "./access-tokens.ts";
import type { KeyInfo, SigningKeys } from "./signing-keys.ts";

const tags = ["Keys"];

/** Far shorter than the time for which a key is published before it signs. */
const discoveryCache = { "cache-control": "public, max-age=60" };

const exampleKid = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
const exampleKey = { kid: exampleKid, state: "current" as const, activeFrom: exampleTime };

const Key = z
  .object({
    kid: z.string(),
    state: z.enum(["next", "current", "retired"]),
    activeFrom: z.iso.datetime(),
    retiresAt: z.iso.datetime().optional(),
  })
  .openapi("Key", { example: exampleKey });

const toKey = ({ kid, state, activeFrom, retiresAt }: KeyInfo) => ({
  ...{ kid, state, activeFrom: new Date(activeFrom).toISOString() },
  ...(retiresAt !== undefined && { retiresAt: new Date(retiresAt).toISOString() }),
});

const ServiceToken = z
  .object({ access_token: z.string(), token_type: z.literal("Bearer"), expires_in: z.int(), scope: z.string().optional() })
  .openapi("ServiceToken", { example: { access_token: "eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl", token_type: "Bearer", expires_in: 300 } });

const OAuthError = z
  .object({ error: z.string(), error_description: z.string() })
  .openapi("OAuthError", { example: { error: "invalid_client", error_description: "Unknown client or wrong secret." } });

const issueServiceTokenRoute = createRoute({
  operationId: "issueServiceToken",
  "x-internal": true,
  tags: ["Internal"],
  method: "post",
  path: "/auth/token",
  summary: "Give a service its access token (RFC 6749, client credentials)",
  description: "For services inside the cluster only. The client id and secret are sent by HTTP Basic, or in the form.",
  request: {
    body: {
      required: true,
      content: {
        "application/x-www-form-urlencoded": {
          schema: z
            .object({ grant_type: z.string().optional(), client_id: z.string().optional(), client_secret: z.string().optional() })
            .openapi({ example: { grant_type: "client_credentials", client_id: "patient", client_secret: "patient-secret-0123" } }),
        },
      },
    },
  },
  responses: {
    200: jsonAnswer(ServiceToken, "The token"),
    400: jsonAnswer(OAuthError, "The grant type is not client_credentials."),
    401: jsonAnswer(OAuthError, "The client id or the secret is wrong."),
  },
});

const listKeysRoute = createRoute({
  operationId: "listKeys",
  tags,
  method: "get",
  path: "/auth/keys",
  summary: "List the signing keys and their states",
  responses: {
    200: jsonAnswer(
      z.object({ items: z.array(Key) }).openapi({ example: { items: [exampleKey] } }),
      "The keys, in the order in which they sign",
    ),
  },
});

const rotateKeysRoute = createRoute({
  operationId: "rotateKeys",
  tags,
  method: "post",
  path: "/auth/keys:rotate",
  summary: "Create the next signing key, or return the one that waits to sign",
  description: "A key is published for longer than anybody caches the key set before it signs.",
  responses: { 202: jsonAnswer(Key, "The next key") },
});

const jwksRoute = createRoute({
  operationId: "jwks",
  tags,
  method: "get",
  path: "/.well-known/jwks.json",
  summary: "The public keys that verify access tokens (RFC 7517)",
  responses: {
    200: jsonAnswer(
      z.object({ keys: z.array(z.record(z.string(), z.unknown())) }).openapi({
        example: {
          keys: [
            {
              ...{ kty: "EC", crv: "P-256", alg: "ES256", use: "sig", kid: exampleKid },
              ...{ x: "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", y: "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" },
            },
          ],
        },
      }),
      "The key set",
    ),
    ...errorAnswers("invalid_argument"),
  },
});

const openidConfigurationRoute = createRoute({
  operationId: "openidConfiguration",
  tags,
  method: "get",
  path: "/.well-known/openid-configuration",
  summary: "The issuer and the addresses of its keys (OpenID Connect Discovery, RFC 8414)",
  description: "For verifying access tokens. There is no token endpoint, because clients sign in with `POST /auth/login`.",
  responses: {
    200: jsonAnswer(
      z
        .record(z.string(), z.unknown())
        .openapi({ example: { issuer: "http://localhost:4004", jwks_uri: "http://localhost:4004/.well-known/jwks.json" } }),
      "The metadata",
    ),
    ...errorAnswers("invalid_argument"),
  },
});

export function registerTokens(
  { operation }: RestApp,
  options: { tokens: Tokens; keys: SigningKeys; clients: ServiceClients; issuer: string; contextOf: ContextOf },
): void {
  const { tokens, keys, clients, issuer, contextOf } = options;

  operation(issueServiceTokenRoute, async (c) => {
    const form = c.req.valid("form");
    if (form.grant_type !== "client_credentials")
      return c.json({ error: "unsupported_grant_type", error_description: "grant_type must be client_credentials" }, 400, noStore);
    const inForm = { id: form.client_id ?? "", secret: form.client_secret ?? "" };
    const { id, secret } = basicCredentials(c.req.header("authorization")) ?? inForm;
    const client = clients.authenticate(id, secret);
    if (!client) {
      c.get("log").warn({ requestId: c.get("requestId") }, "a service sent a wrong client id or secret");
      const challenge = { ...noStore, "www-authenticate": 'Basic realm="auth"' };
      return c.json({ error: "invalid_client", error_description: "Unknown client or wrong secret." }, 401, challenge);
    }
    const answer = { access_token: await tokens.forService(client), token_type: "Bearer" as const, expires_in: tokens.lifetimeSeconds };
    return c.json(answer, 200, noStore);
  });
  operation(listKeysRoute, async (c) => c.json({ items: (await keys.list()).map(toKey) }, 200, noStore));
  operation(rotateKeysRoute, async (c) => c.json(toKey(await keys.rotate(contextOf(c))), 202, noStore));
  operation(jwksRoute, async (c) =>
    c.json({ keys: (await keys.jwks()).keys.map((key) => ({ ...key }) as Record<string, string>) }, 200, discoveryCache),
  );
  const metadata = {
    issuer,
    jwks_uri: `${issuer}/.well-known/jwks.json`,
    userinfo_endpoint: `${issuer}/auth/me`,
    // The token endpoint is not named: it is inside the cluster, for services that know its address from AUTH_URL. So
    // there is no grant for readers of this document. Without the empty list, the authorization code would be implied.
    grant_types_supported: [],
    response_types_supported: [],
    subject_types_supported: ["public"],
    id_token_signing_alg_values_supported: ["ES256"],
  };
  operation(openidConfigurationRoute, (c) => c.json(metadata, 200, discoveryCache));
}

/** Client id and secret of an HTTP Basic header. Both were form-encoded first (RFC 6749, 2.3.1). */
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
