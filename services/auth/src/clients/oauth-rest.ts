/** What a program needs to get its access token: the token endpoint (RFC 6749) and its metadata (RFC 8414). */
import { createRoute, z } from "@hono/zod-openapi";
import { clientScopes, services } from "@pm/kit/auth/access";
import { AppError } from "@pm/kit/errors";
import type { RestApp } from "@pm/kit/http/rest";
import { errorAnswers, jsonAnswer } from "@pm/kit/http/schemas";
import { decodeJwt } from "jose";
import type { ContextOf } from "../client-address.ts";
import { discoveryCache, exampleId, noStore } from "../http/schemas.ts";
import type { ServiceClients, Tokens } from "../tokens/access-tokens.ts";
import { type ClientProof, type ClientTokens, invalidClient } from "./client-tokens.ts";
import { assertionAlgorithms } from "./keys.ts";

const Token = z
  .object({ access_token: z.string(), token_type: z.literal("Bearer"), expires_in: z.int(), scope: z.string().optional() })
  .openapi("Token", {
    example: { access_token: "eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl", token_type: "Bearer", expires_in: 300, scope: "patient:read" },
  });

const OAuthError = z
  .object({ error: z.string(), error_description: z.string() })
  .openapi("OAuthError", { example: { error: "invalid_client", error_description: "The client is unknown or disabled." } });

const text = z.string().optional();
const jwtBearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const TokenRequest = z
  .object({
    grant_type: text.openapi({ description: "`client_credentials`" }),
    scope: text.openapi({ description: "The scopes to get, separated by spaces; all of the client by default." }),
    client_id: text,
    client_secret: text,
    client_assertion_type: text.openapi({ description: `\`${jwtBearer}\`` }),
    client_assertion: text,
  })
  .openapi({
    example: { grant_type: "client_credentials", client_id: exampleId, client_secret: "n3R0mJ8vQ2yTzXc5Lw7KpBdGfHsAeU4iOqYtSxM1VbE" },
  });

const issueTokenRoute = createRoute({
  operationId: "issueToken",
  tags: ["API clients"],
  method: "post",
  path: "/auth/token",
  summary: "Give an API client its access token (RFC 6749, client credentials)",
  description:
    "The client sends its id and secret by HTTP Basic or in the form, or an assertion that it has signed (RFC 7523): `iss` and `sub` are its id, `aud` is the issuer or the address of this operation, `exp` at most an hour ahead, `jti` new each time. Inside the cluster, services get their tokens here too.",
  request: { body: { required: true, content: { "application/x-www-form-urlencoded": { schema: TokenRequest } } } },
  responses: {
    200: jsonAnswer(Token, "The token"),
    400: jsonAnswer(OAuthError, "The request or its scope is wrong, or the client has not proved who it is."),
    401: jsonAnswer(OAuthError, "The client has not proved by HTTP Basic who it is."),
    429: jsonAnswer(OAuthError, "Too many attempts; `Retry-After` says how long to wait."),
  },
});

const metadataRoute = (operationId: string, name: string) =>
  createRoute({
    operationId,
    tags: ["Keys"],
    method: "get",
    path: `/.well-known/${name}`,
    summary: "The addresses of keys and tokens, and how to use them (RFC 8414)",
    description: "People sign in by `POST /auth/login`. There are no ID tokens and no pages of other programs to come back to.",
    responses: {
      200: jsonAnswer(z.record(z.string(), z.unknown()).openapi({ example: metadataOf("http://localhost:4004") }), "The metadata"),
      ...errorAnswers("invalid_argument"),
    },
  });

export const tokenEndpoint = (issuer: string) => `${issuer}/auth/token`;

function metadataOf(issuer: string) {
  return {
    issuer,
    token_endpoint: tokenEndpoint(issuer),
    jwks_uri: `${issuer}/.well-known/jwks.json`,
    userinfo_endpoint: `${issuer}/auth/me`,
    scopes_supported: clientScopes,
    grant_types_supported: ["client_credentials"],
    // Nothing is answered by a redirect. Without the empty list, the authorization code would be implied.
    response_types_supported: [],
    token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post", "private_key_jwt"],
    token_endpoint_auth_signing_alg_values_supported: assertionAlgorithms,
  };
}

export function registerOAuth(
  { operation }: RestApp,
  options: { tokens: Tokens; clientTokens: ClientTokens; serviceClients: ServiceClients; issuer: string; contextOf: ContextOf },
): void {
  const { tokens, clientTokens, serviceClients, issuer, contextOf } = options;

  operation(issueTokenRoute, async (c) => {
    try {
      const { grant_type, scope, ...form } = c.req.valid("form");
      if (grant_type === undefined) throw invalid("grant_type is missing; it must be client_credentials.");
      if (grant_type !== "client_credentials") throw invalid("grant_type must be client_credentials.", "UNSUPPORTED_GRANT_TYPE");
      const { clientId, proof } = readCredentials(form, c.req.header("authorization"));
      const context = contextOf(c);
      const answer = { token_type: "Bearer" as const, expires_in: tokens.lifetimeSeconds };
      // Services call each other directly. Their secrets open nothing for whoever comes through the gateway.
      if (Object.hasOwn(services, clientId) && !context.fromGateway) {
        const service = "secret" in proof ? serviceClients.authenticate(clientId, proof.secret) : undefined;
        if (!service) {
          c.get("log").warn({ requestId: c.get("requestId") }, "a service sent a wrong secret");
          throw invalidClient("The secret of the service is another one.");
        }
        return c.json({ access_token: await tokens.forService(service), ...answer }, 200, noStore);
      }
      const { token, scope: granted } = await clientTokens.issue({ clientId, proof, scope }, context);
      return c.json({ access_token: token, ...answer, scope: granted }, 200, noStore);
    } catch (error) {
      const { body, status, headers } = toOAuthAnswer(error, c.req.header("authorization") !== undefined);
      return c.json(body, status, { ...noStore, ...headers });
    }
  });
  for (const route of [
    metadataRoute("openidConfiguration", "openid-configuration"),
    metadataRoute("authorizationServerMetadata", "oauth-authorization-server"),
  ])
    operation(route, (c) => c.json(metadataOf(issuer), 200, discoveryCache));
}

const invalid = (message: string, reason = "INVALID_REQUEST") => new AppError("invalid_argument", message, { reason });

type OAuthAnswer = { body: z.infer<typeof OAuthError>; status: 400 | 401 | 429; headers?: Record<string, string> };

/**
 * What the caller did wrong as RFC 6749 writes it: 401 has a challenge, and is for clients that prove themselves by a
 * header. Other errors are answered as everywhere.
 */
function toOAuthAnswer(thrown: unknown, byHeader: boolean): OAuthAnswer {
  if (!(thrown instanceof AppError)) throw thrown;
  const { code, message, options } = thrown;
  const body = (error: string) => ({ error, error_description: message });
  const reason = (options.reason ?? "").toLowerCase();
  if (code === "invalid_argument" || (code === "unauthenticated" && !byHeader)) return { body: body(reason), status: 400 };
  if (code === "unauthenticated") return { body: body(reason), status: 401, headers: { "www-authenticate": 'Basic realm="auth"' } };
  if (code !== "resource_exhausted") throw thrown;
  return { body: body("temporarily_unavailable"), status: 429, headers: { "retry-after": String(options.retryAfterSeconds ?? 1) } };
}

type Form = Omit<z.infer<typeof TokenRequest>, "grant_type" | "scope">;

/** The client that calls, and the one way in which it proves itself. */
function readCredentials(form: Form, authorization: string | undefined): { clientId: string; proof: ClientProof } {
  const { client_id: id, client_secret: secret, client_assertion: assertion } = form;
  const basic = basicCredentials(authorization);
  if ([basic, secret, assertion].filter((way) => way !== undefined).length > 1)
    throw invalid("Send one proof of the client: HTTP Basic, client_secret or client_assertion.");
  const named = (clientId: string) => {
    if (id !== undefined && id !== clientId) throw invalid("client_id is another one than that of the proof.");
    return clientId;
  };
  if (basic) return { clientId: named(basic.id), proof: { secret: basic.secret } };
  if (assertion === undefined) return { clientId: id ?? "", proof: { secret: secret ?? "" } };
  if (form.client_assertion_type !== jwtBearer) throw invalid(`client_assertion_type must be ${jwtBearer}.`);
  return { clientId: named(subjectOf(assertion)), proof: { assertion } };
}

/** Who an assertion says that it comes from. Its signature is checked later, by the keys of that client. */
function subjectOf(assertion: string): string {
  try {
    return decodeJwt(assertion).sub ?? "";
  } catch {
    throw invalid("client_assertion is not a JWT.");
  }
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
