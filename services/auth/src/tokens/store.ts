/** Signing keys in Postgres. */
import type { JWK } from "jose";
import { sql } from "kysely";
import type { AuthDatabase } from "../tables.ts";
import type { Change } from "../unit-of-work.ts";

export type StoredKey = { kid: string; public_jwk: JWK; sealed_private_jwk: Buffer; active_from: Date };

/** All keys, in the order in which they sign. */
export async function listKeys({ kysely }: AuthDatabase): Promise<StoredKey[]> {
  return kysely
    .selectFrom("signing_keys")
    .select(["kid", "public_jwk", "sealed_private_jwk", "active_from"])
    .orderBy("active_from")
    .orderBy("created_at")
    .execute();
}

/**
 * Adds a key after the key `after`, or as the first one. If another replica has added a key in the meantime, nothing
 * happens, so that a rotation never adds two.
 */
export async function addKey({ tx, audit }: Change, key: StoredKey, after: string | undefined): Promise<void> {
  await sql`select pg_advisory_xact_lock(hashtextextended('signing keys', 0))`.execute(tx.kysely);
  const last = await tx.kysely.selectFrom("signing_keys").select("kid").orderBy("active_from", "desc").limit(1).executeTakeFirst();
  if (last?.kid !== after) return;
  await tx.kysely
    .insertInto("signing_keys")
    .values({ ...key, public_jwk: JSON.stringify(key.public_jwk) })
    .execute();
  audit("crypt_key_rotated", key.kid, { activeFrom: key.active_from.toISOString(), after });
}

export async function deleteKey({ kysely }: AuthDatabase, kid: string): Promise<void> {
  await kysely.deleteFrom("signing_keys").where("kid", "=", kid).execute();
}
