/** The second factor over HTTP. */
import { createRoute, z } from "@hono/zod-openapi";
import type { RestApp, RestContext } from "@pm/kit/http/rest";
import { Code, jsonAnswer, jsonBody, noContent, noStore, type OriginOf, Proof, userOf } from "../http/schemas.ts";
import type { Accounts } from "./account.ts";

const RecoveryCodes = z.object({ recoveryCodes: z.array(z.string()) }).openapi("RecoveryCodes");

export function registerFactors({ operation }: RestApp, { accounts, originOf }: { accounts: Accounts; originOf: OriginOf }): void {
  const me = (c: RestContext) => userOf(c.get("caller"));

  operation(
    createRoute({
      operationId: "enrolSecondFactor",
      method: "post",
      path: "/auth/mfa/totp",
      summary: "Get a secret for an authenticator app",
      request: { body: jsonBody(z.object(Proof)) },
      responses: {
        200: jsonAnswer(z.object({ secret: z.string(), uri: z.string() }), "The secret, and the same as otpauth URI for a QR code"),
      },
    }),
    async (c) => c.json(await accounts.enrolFactor(me(c), c.req.valid("json"), originOf(c)), 200, noStore),
  );
  operation(
    createRoute({
      operationId: "confirmSecondFactor",
      method: "post",
      path: "/auth/mfa/totp/confirm",
      summary: "Take the second factor into use by a first code",
      description: "Ends the user's other sessions. Refresh to get a token that says so.",
      request: { body: jsonBody(z.object({ code: Code })) },
      responses: { 200: jsonAnswer(RecoveryCodes, "Recovery codes, shown once") },
    }),
    async (c) => c.json({ recoveryCodes: await accounts.confirmFactor(me(c), c.req.valid("json").code, originOf(c)) }, 200, noStore),
  );
  operation(
    createRoute({
      operationId: "newRecoveryCodes",
      method: "post",
      path: "/auth/mfa/recovery-codes",
      summary: "Get new recovery codes; the former ones are void",
      request: { body: jsonBody(z.object(Proof)) },
      responses: { 200: jsonAnswer(RecoveryCodes, "Recovery codes, shown once") },
    }),
    async (c) => c.json({ recoveryCodes: await accounts.newRecoveryCodes(me(c), c.req.valid("json"), originOf(c)) }, 200, noStore),
  );
  operation(
    createRoute({
      operationId: "removeSecondFactor",
      method: "post",
      path: "/auth/mfa/totp:remove",
      summary: "Remove the second factor",
      request: { body: jsonBody(z.object(Proof)) },
      responses: noContent("Removed"),
    }),
    async (c) => {
      await accounts.removeFactor(me(c), c.req.valid("json"), originOf(c));
      return c.body(null, 204);
    },
  );
}
