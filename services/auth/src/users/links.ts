/** Links that are sent by mail: 256 random bits, of which the hash is kept; used once, and within 30 minutes. */
import { createHash, randomBytes } from "node:crypto";
import { AppError } from "@pm/kit/errors";
import { sql } from "kysely";
import type { AuthTransaction, LinkPurpose } from "../tables.ts";

/** How long a link can be used, in seconds. */
export const linkSeconds = 30 * 60;

export type Link = { purpose: LinkPurpose; userId: string | null; email: string; name: string | null; passwordHash: string | null };

const hashOf = (token: string) => createHash("sha256").update(token).digest();

/** Stores a link and returns its token. An earlier link of the same user for the same purpose is void from then on. */
export async function createLink(transaction: AuthTransaction, link: Link): Promise<string> {
  const token = randomBytes(32).toString("base64url");
  if (link.userId !== null)
    await transaction.deleteFrom("links").where("user_id", "=", link.userId).where("purpose", "=", link.purpose).execute();
  await transaction
    .insertInto("links")
    .values({
      hash: hashOf(token),
      purpose: link.purpose,
      user_id: link.userId,
      email: link.email,
      name: link.name,
      password_hash: link.passwordHash,
      expires_at: sql<Date>`now() + make_interval(secs => ${linkSeconds})`,
    })
    .execute();
  return token;
}

/** Voids all links of an account: a mailbox that is no longer its own must not choose its password. */
export async function voidLinks(transaction: AuthTransaction, userId: string): Promise<void> {
  await transaction.deleteFrom("links").where("user_id", "=", userId).execute();
}

/** Looks at a link without using it up. */
export async function readLink(transaction: AuthTransaction, token: string, purposes: LinkPurpose[]): Promise<Link | undefined> {
  const row = await transaction
    .selectFrom("links")
    .selectAll()
    .where("hash", "=", hashOf(token))
    .where("purpose", "in", purposes)
    .where("expires_at", ">", sql<Date>`now()`)
    .forUpdate()
    .executeTakeFirst();
  return row && { purpose: row.purpose, userId: row.user_id, email: row.email, name: row.name, passwordHash: row.password_hash };
}

/** Uses a link up. @throws AppError invalid_argument where it is unknown, used or too old */
export async function useLink(transaction: AuthTransaction, token: string, purposes: LinkPurpose[]): Promise<Link> {
  const link = await readLink(transaction, token, purposes);
  if (!link) {
    const message = "is unknown, was used already, or is older than 30 minutes; ask for a new one";
    throw new AppError("invalid_argument", `token: ${message}`, { errors: [{ path: "token", message }] });
  }
  await transaction.deleteFrom("links").where("hash", "=", hashOf(token)).execute();
  return link;
}
