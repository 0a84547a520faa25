/** Signing keys over HTTP. */
import { createRoute, z } from "@hono/zod-openapi";
import type { RestApp } from "@pm/kit/http/rest";
import { errorAnswers, jsonAnswer } from "@pm/kit/http/schemas";
import type { ContextOf } from "../client-address.ts";
import { discoveryCache, exampleTime, noStore } from "../http/schemas.ts";
import type { KeyInfo, SigningKeys } from "./signing-keys.ts";

const tags = ["Keys"];

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

export function registerKeys({ operation }: RestApp, { keys, contextOf }: { keys: SigningKeys; contextOf: ContextOf }): void {
  operation(listKeysRoute, async (c) => c.json({ items: (await keys.list()).map(toKey) }, 200, noStore));
  operation(rotateKeysRoute, async (c) => c.json(toKey(await keys.rotate(contextOf(c))), 202, noStore));
  operation(jwksRoute, async (c) =>
    c.json({ keys: (await keys.jwks()).keys.map((key) => ({ ...key }) as Record<string, string>) }, 200, discoveryCache),
  );
}
