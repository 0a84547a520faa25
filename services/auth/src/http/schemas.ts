/** The vocabulary of auth's routes: fields that several operations share, and their examples. */
import { z } from "@hono/zod-openapi";
import { type Role, roles } from "@pm/kit/auth/access";
import type { Caller } from "@pm/kit/auth/verifier";
import { AppError } from "@pm/kit/errors";
import { nextCursor, pageCursor, pageLimit } from "@pm/kit/http/paging";
import type { RestContext } from "@pm/kit/http/rest";
import { plainText } from "@pm/kit/http/schemas";
import { toOpaqueString } from "../passwords/opaque-string.ts";
import { maxPasswordLength, minPasswordLength } from "../passwords/policy.ts";

export const noContent = (description: string) => ({ 204: { description } });
export const noStore = { "cache-control": "no-store" };
/** Far shorter than the time for which a key is published before it signs. */
export const discoveryCache = { "cache-control": "public, max-age=60" };

export const exampleId = "0198c0de-7d5a-7c3b-8a51-5d0c2f9b6e10";
export const exampleTeamId = "0198c0de-8b02-7f4e-9d3a-1c6e5a7b8f20";
export const exampleTime = "2026-01-28T09:30:00.000Z";

export const Email = z
  .string()
  .trim()
  .pipe(z.email().max(254))
  .openapi({
    ...{ type: "string", description: "An e-mail address.", maxLength: 254, example: "ada.lovelace@example.com" },
    // What zod takes, without look-aheads, which not every engine has. The format `email` would promise less.
    pattern: "^([A-Za-z0-9_'+-]+\\.)*[A-Za-z0-9_'+-]*[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9-]*\\.)+[A-Za-z]{2,}$",
  });
/** A password that is checked. The rules for choosing one may have changed since it was set. */
export const Password = z
  .string()
  .min(1)
  .max(1_000)
  .refine((text) => [...toOpaqueString(text)].length <= maxPasswordLength, `must have at most ${maxPasswordLength} characters`)
  .openapi({ format: "password", maxLength: maxPasswordLength, example: "correct horse battery staple" });
/** How the OpenAPI document describes a password that is chosen. */
export const newPasswordDescription = {
  format: "password",
  minLength: minPasswordLength,
  maxLength: maxPasswordLength,
  example: "another correct horse",
};
/** A password that is chosen. passwords/policy.ts checks it. */
export const NewPassword = z.string().max(1_000, `must have at most ${maxPasswordLength} characters`).openapi(newPasswordDescription);
/** Apps show codes in groups, so spaces and hyphens are left out. */
export const Code = z
  .string()
  .max(80)
  .transform((text) => text.replace(/[\s\p{Pd}]/gu, ""))
  .pipe(z.string().min(6).max(40))
  .openapi({
    type: "string",
    maxLength: 80,
    pattern: "^([0-9A-Za-z][ -]*){6,40}$",
    description: "Six digits of an authenticator app, or a recovery code, with or without spaces and hyphens.",
    example: "123 456",
  });
/** A name is stored in one form (NFC), in whichever form it was typed. */
export const Name = plainText.normalize();
export const PersonName = Name.max(200).openapi({ example: "Ada Lovelace" });
export const RoleName = z.enum(Object.keys(roles) as [Role, ...Role[]]);
export const LinkToken = z.string().min(1).max(256).openapi({ example: "Zk3vQ0y8sX1mB7cT5nR9wE2pL6uJ4aHdGfKiOqYtSxM" });
export const Proof = { password: Password, code: Code.optional() };
export const idParams = z.object({ id: z.uuid().openapi({ example: exampleId }) });

export const SignedInAnswer = z
  .object({
    token: z.string().openapi({ description: "The access token (ES256, typ at+jwt)." }),
    tokenType: z.literal("Bearer"),
    expiresIn: z.int().openapi({ description: "Seconds until the access token expires." }),
    refreshToken: z.string(),
    secondFactorSetupRequired: z.literal(true).optional().openapi({
      description: "The user must set up a second factor (POST /auth/mfa/totp). Until then, the token has no roles.",
    }),
  })
  .openapi("SignedIn", {
    example: {
      token: "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCIsImtpZCI6IjEifQ.eyJzdWIiOiIwMTk4YzBkZSJ9.c2lnbmF0dXJl",
      tokenType: "Bearer",
      expiresIn: 300,
      refreshToken: "q0Yx3mT9vB5sK7wR1nZ8cL4hJ6dF2gPaEuIoWtXyQzM",
    },
  });

export const EndedSessions = z
  .object({ ended: z.int() })
  .openapi("EndedSessions", { description: "How many sessions have ended.", example: { ended: 2 } });

/** A page of a list, with one item as its example. */
export const pageOf = <Item extends z.ZodType>(item: Item, example: z.input<Item>) =>
  z
    .object({
      items: z.array(item),
      nextCursor,
    })
    .openapi({ example: { items: [example] } as never });

export const listQuery = {
  limit: pageLimit(),
  cursor: pageCursor(),
};

/** The user who calls. @throws AppError permission_denied for services and API clients, which have no account */
export function userOf(c: RestContext): Caller {
  const caller = c.get("caller");
  if (caller.kind !== "user") throw new AppError("permission_denied", "Services and API clients have no account here.");
  return caller;
}
