/** A user's own second factor over HTTP. */
import { createRoute, z } from "@hono/zod-openapi";
import type { RestApp } from "@pm/kit/http/rest";
import { errorAnswers, jsonAnswer, jsonBody } from "@pm/kit/http/schemas";
import type { ContextOf } from "../client-address.ts";
import { Code, noContent, noStore, Proof, userOf } from "../http/schemas.ts";
import type { SecondFactorSetup } from "./second-factor-setup.ts";

const tags = ["Second factor"];

const RecoveryCodes = z
  .object({ recoveryCodes: z.array(z.string()) })
  .openapi("RecoveryCodes", { example: { recoveryCodes: ["ABCDEF-GHIJKL-MNOPQR-STUVWX", "YZ2345-67ABCD-EFGHIJ-KLMNOP"] } });

const TotpSecret = z.object({ secret: z.string(), uri: z.string() }).openapi("TotpSecret", {
  example: {
    secret: "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP",
    uri: "otpauth://totp/Patient%20Management:ada%40example.com?issuer=Patient%20Management&secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&algorithm=SHA1&digits=6&period=30",
  },
});

const proofWithCode = { password: "correct horse battery staple", code: "123456" };

const enrolRoute = createRoute({
  operationId: "enrolSecondFactor",
  tags,
  method: "post",
  path: "/auth/mfa/totp",
  summary: "Get a secret for an authenticator app",
  request: { body: jsonBody(z.object(Proof).openapi({ example: { password: proofWithCode.password } })) },
  responses: {
    200: jsonAnswer(TotpSecret, "The secret, and an otpauth URI with it for a QR code"),
    ...errorAnswers("permission_denied", "failed_precondition", "resource_exhausted"),
  },
});

const confirmRoute = createRoute({
  operationId: "confirmSecondFactor",
  tags,
  method: "post",
  path: "/auth/mfa/totp/confirm",
  summary: "Take the second factor into use with a first code",
  description: "Ends your other sessions. Refresh to get a token with your roles, if the second factor was required for them.",
  request: { body: jsonBody(z.object({ code: Code }).openapi({ example: { code: "123456" } })) },
  responses: {
    200: jsonAnswer(RecoveryCodes, "Recovery codes, shown once"),
    ...errorAnswers("permission_denied", "failed_precondition", "resource_exhausted"),
  },
});

const newRecoveryCodesRoute = createRoute({
  operationId: "newRecoveryCodes",
  tags,
  method: "post",
  path: "/auth/mfa/recovery-codes",
  summary: "Get new recovery codes in place of the earlier ones",
  request: { body: jsonBody(z.object(Proof).openapi({ example: proofWithCode })) },
  responses: {
    200: jsonAnswer(RecoveryCodes, "Recovery codes, shown once"),
    ...errorAnswers("permission_denied", "failed_precondition", "resource_exhausted"),
  },
});

const removeRoute = createRoute({
  operationId: "removeSecondFactor",
  tags,
  method: "post",
  path: "/auth/mfa/totp:remove",
  summary: "Remove your second factor",
  description: "Ends your other sessions. If your roles require a second factor, this session ends too.",
  request: { body: jsonBody(z.object(Proof).openapi({ example: proofWithCode })) },
  responses: { ...noContent("The second factor is removed."), ...errorAnswers("permission_denied", "resource_exhausted") },
});

export function registerSecondFactor(
  { operation }: RestApp,
  { secondFactorSetup, contextOf }: { secondFactorSetup: SecondFactorSetup; contextOf: ContextOf },
): void {
  operation(enrolRoute, async (c) => c.json(await secondFactorSetup.enrol(userOf(c), c.req.valid("json"), contextOf(c)), 200, noStore));
  operation(confirmRoute, async (c) => {
    const recoveryCodes = await secondFactorSetup.confirm(userOf(c), c.req.valid("json").code, contextOf(c));
    return c.json({ recoveryCodes }, 200, noStore);
  });
  operation(newRecoveryCodesRoute, async (c) => {
    const recoveryCodes = await secondFactorSetup.newRecoveryCodes(userOf(c), c.req.valid("json"), contextOf(c));
    return c.json({ recoveryCodes }, 200, noStore);
  });
  operation(removeRoute, async (c) => {
    await secondFactorSetup.remove(userOf(c), c.req.valid("json"), contextOf(c));
    return c.body(null, 204);
  });
}
