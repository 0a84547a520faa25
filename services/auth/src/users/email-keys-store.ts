/** The keys of e-mail addresses that were stored before accounts had them. */
import { emailKey } from "@pm/kit/email";
import { type Kysely, sql } from "kysely";
import type { AuthTables } from "../tables.ts";

/**
 * Gives accounts their keys, and returns the ids of those that stay without one, because another account has the same
 * address in another spelling. They are found by the spelling that they have.
 */
export async function assignEmailKeys(db: Kysely<AuthTables>): Promise<string[]> {
  return db.transaction().execute(async (tx) => {
    // Nobody changes an address meanwhile. People still sign in.
    await sql`lock table users in share row exclusive mode`.execute(tx);
    const rows = await tx.selectFrom("users").select(["id", "email"]).where("email_key", "is", null).orderBy("id").execute();
    const users = rows.map(({ id, email }) => ({ id, key: emailKey(email) }));
    const keys = users.map(({ key }) => key);
    const taken = await tx.selectFrom("users").select("email_key").where("email_key", "=", sql<string>`any(${keys}::text[])`).execute();
    const counts = new Map<string | null, number>(taken.map(({ email_key }) => [email_key, 1]));
    for (const key of keys) counts.set(key, (counts.get(key) ?? 0) + 1);
    const free = users.filter(({ key }) => counts.get(key) === 1);
    await sql`
      update users set email_key = free.key
      from unnest(${free.map(({ id }) => id)}::uuid[], ${free.map(({ key }) => key)}::text[]) as free(id, key)
      where users.id = free.id`.execute(tx);
    return users.filter(({ key }) => counts.get(key) !== 1).map(({ id }) => id);
  });
}
