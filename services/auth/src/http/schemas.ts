/** Words that the routes of auth are described with. */
import { z } from "@hono/zod-openapi";
import { type Role, roles } from "@pm/kit/auth/access";
import type { Caller } from "@pm/kit/auth/verifier";
import { AppError, unprintable } from "@pm/kit/errors";
import type { RestContext } from "@pm/kit/http/rest";
import type { Origin } from "../client-address.ts";
import { maxPasswordLength } from "../passwords/policy.ts";
import type { Actor } from "../unit-of-work.ts";

export const jsonAnswer = <Schema extends z.ZodType>(schema: Schema, description: string) => ({
  description,
  content: { "application/json": { schema } },
});
export const jsonBody = <Schema extends z.ZodType>(schema: Schema) => ({ required: true, content: { "application/json": { schema } } });
export const noContent = (description: string) => ({ 204: { description } });
export const noStore = { "cache-control": "no-store" };

export const plainText = z
  .string()
  .trim()
  .refine((text) => !unprintable.test(text), "must not have control characters");
export const Email = z.string().trim().pipe(z.email("is not an e-mail address").max(254)).openapi({ type: "string", format: "email" });
/** A password that is checked, not chosen: its rules are those of when it was set. */
export const Password = z.string().min(1).max(maxPasswordLength).openapi({ format: "password" });
/** A password that is chosen. password-rules.ts says what else it must be. */
export const NewPassword = z
  .string("is missing")
  .max(1_000, "must have at most 128 characters")
  .openapi({ format: "password", minLength: 8, maxLength: 128 });
export const Code = z.string().trim().min(6).max(40).openapi({ description: "Six digits of an authenticator app, or a recovery code." });
export const PersonName = plainText.max(200);
export const RoleName = z.enum(Object.keys(roles) as [Role, ...Role[]]);
export const LinkToken = z.string("is missing").min(1, "is missing").max(256, "is longer than ours are");
export const Proof = { password: Password, code: Code.optional() };
export const idParams = z.object({ id: z.uuid("is not an id") });

export const SignedInAnswer = z
  .object({
    token: z.string().openapi({ description: "The access token (ES256, typ at+jwt)." }),
    tokenType: z.literal("Bearer"),
    expiresIn: z.int().openapi({ description: "Seconds until the access token expires." }),
    refreshToken: z.string(),
    secondFactorSetupRequired: z.literal(true).optional().openapi({
      description: "The account must set up a second factor (POST /auth/mfa/totp); until then the token gives nothing else.",
    }),
  })
  .openapi("SignedIn");

/** A page of a list. */
export const pageOf = <Item extends z.ZodType>(item: Item) => z.object({ items: z.array(item), nextCursor: z.string().optional() });

export const listQuery = {
  limit: z.coerce.number().int().min(1).max(200).default(50),
  cursor: z.string().max(2_000).optional().openapi({ description: "`nextCursor` of the page before." }),
};

/** The user who calls. @throws AppError permission_denied for services, which have no account */
export function userOf(caller: Caller): Caller {
  if (caller.kind !== "user") throw new AppError("permission_denied", "Services have no account here.");
  return caller;
}

export type OriginOf = (c: RestContext) => Origin;

/** Who does it and by which request, for the audit trail. */
export function actorOf(c: RestContext, originOf: OriginOf): Actor {
  return { id: c.get("caller").id, origin: originOf(c) };
}
