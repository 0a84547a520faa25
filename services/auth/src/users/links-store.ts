/** One-time links in Postgres. Only hashes of their tokens are stored, and a used link is a deleted row. */
import { sql } from "kysely";
import type { AuthQueries, AuthTransaction, LinkPurpose } from "../tables.ts";

export type Link = { purpose: LinkPurpose; userId: string | null; email: string; name: string | null; passwordHash: string | null };

const columns = ["purpose", "user_id as userId", "email", "name", "password_hash as passwordHash"] as const;

export async function insertLink(tx: AuthTransaction, hash: Buffer, link: Link, validSeconds: number): Promise<void> {
  await tx.kysely
    .insertInto("links")
    .values({
      hash,
      purpose: link.purpose,
      user_id: link.userId,
      email: link.email,
      name: link.name,
      password_hash: link.passwordHash,
      expires_at: sql<Date>`now() + make_interval(secs => ${validSeconds})`,
    })
    .execute();
}

/** Deletes the links of a user: those for one purpose, or all. */
export async function deleteLinks(tx: AuthTransaction, userId: string, purpose?: LinkPurpose): Promise<void> {
  const query = tx.kysely.deleteFrom("links").where("user_id", "=", userId);
  await (purpose === undefined ? query : query.where("purpose", "=", purpose)).execute();
}

/** A link that is still valid, without using it. */
export async function findLink({ kysely }: AuthQueries, hash: Buffer, purposes: LinkPurpose[]): Promise<Link | undefined> {
  return kysely
    .selectFrom("links")
    .select(columns)
    .where("hash", "=", hash)
    .where("purpose", "in", purposes)
    .where("expires_at", ">", sql<Date>`now()`)
    .executeTakeFirst();
}

/** Deletes a link that is still valid and returns it. Of parallel callers, one gets it. */
export async function takeLink(tx: AuthTransaction, hash: Buffer, purposes: LinkPurpose[]): Promise<Link | undefined> {
  return tx.kysely
    .deleteFrom("links")
    .where("hash", "=", hash)
    .where("purpose", "in", purposes)
    .where("expires_at", ">", sql<Date>`now()`)
    .returning(columns)
    .executeTakeFirst();
}
