/** What administrators send and get about API clients. */
import { z } from "@hono/zod-openapi";
import { type ClientScope, clientScopes } from "@pm/kit/auth/access";
import { exampleId, exampleTeamId, exampleTime, Name } from "../http/schemas.ts";
import type { ClientRow } from "./store.ts";

const exampleKey = {
  ...{ kty: "EC", crv: "P-384", kid: "2026-01", alg: "ES384", use: "sig" },
  x: "p8HQQcsZsBHqYiP8y4bIhkPOEgS4NbxyhIy4PCBuWJ2JSeYLBqDJSJQ3Tfd_UNIm",
  y: "zl5tFm5NNTSHeI4R-qXbGOjxMpWoYXJlKCAXzRkyp2MmlIqPJ8BfH3sz2NSFsDgw",
};
const member = z.string().max(2_000).optional();
const Key = z
  .looseObject({
    kty: z.enum(["RSA", "EC", "OKP"]),
    kid: z.string().min(1).max(200).optional(),
    ...{ alg: member, use: member, crv: member, x: member, y: member, n: member, e: member },
  })
  .openapi({ example: exampleKey });
const Jwks = z
  .object({ keys: z.array(Key).min(1).max(10) })
  .openapi("PublicKeys", { description: "Public keys (RFC 7517): RSA, or the curves P-256, P-384 and Ed25519." });

const Scopes = z
  .array(z.enum(clientScopes as [ClientScope, ...ClientScope[]]))
  .min(1, "must name at least one scope")
  .transform((scopes) => clientScopes.filter((scope) => scopes.includes(scope)));
const ClientName = Name.min(1).max(100);
const teamId = z.uuid().openapi({
  description:
    "The client sees the patients that are shared with this team. Without a team and `patient:all`, it sees those that it registers.",
  example: exampleTeamId,
});
const withKeys = { description: "The client proves itself by these keys (`private_key_jwt`). Without them, it gets a secret." };

export const NewClient = z
  .strictObject({ name: ClientName, scopes: Scopes, teamId: teamId.optional(), jwks: Jwks.optional().openapi(withKeys) })
  .openapi("NewApiClient", { example: { name: "Laboratory", scopes: ["patient:read"], teamId: exampleTeamId } });
export const ClientUpdate = z
  .strictObject({
    name: ClientName.optional(),
    scopes: Scopes.optional(),
    teamId: teamId.nullable().optional(),
    jwks: Jwks.optional().openapi({ description: "Replaces the secret, or the keys so far." }),
  })
  .openapi("ApiClientUpdate", { example: { jwks: { keys: [exampleKey] } } });

const fields = {
  id: z.string().openapi({ description: "The `client_id`." }),
  name: z.string(),
  scopes: z.array(z.string()),
  teamId: z.string().optional(),
  authentication: z.enum(["client_secret", "private_key_jwt"]),
  jwks: Jwks.optional(),
  state: z.enum(["active", "disabled"]),
  lastUsedAt: z.iso.datetime().optional().openapi({ description: "When it got its last token." }),
  createdAt: z.iso.datetime(),
  updatedAt: z.iso.datetime(),
};
export const exampleClient = {
  ...{ id: exampleId, name: "Laboratory", scopes: ["patient:read"], teamId: exampleTeamId },
  ...{ authentication: "client_secret" as const, state: "active" as const },
  ...{ lastUsedAt: exampleTime, createdAt: exampleTime, updatedAt: exampleTime },
};
export const Client = z.object(fields).openapi("ApiClient", { example: exampleClient });
export const ClientWithSecret = z
  .object({ ...fields, secret: z.string().optional().openapi({ description: "The `client_secret`. It is shown this once." }) })
  .openapi("ApiClientWithSecret", { example: { ...exampleClient, secret: "n3R0mJ8vQ2yTzXc5Lw7KpBdGfHsAeU4iOqYtSxM1VbE" } });

export function toClient({ id, name, scopes, team_id, jwks, ...row }: ClientRow): z.infer<typeof Client> {
  return {
    ...{ id, name, scopes },
    ...(team_id !== null && { teamId: team_id }),
    authentication: jwks ? "private_key_jwt" : "client_secret",
    ...(jwks && { jwks: jwks as z.infer<typeof Jwks> }),
    state: row.disabled_at ? "disabled" : "active",
    ...(row.last_used_at && { lastUsedAt: row.last_used_at.toISOString() }),
    createdAt: row.created_at.toISOString(),
    updatedAt: row.updated_at.toISOString(),
  };
}
