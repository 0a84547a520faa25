/** Second factors and recovery codes in Postgres: encrypted secrets, and hashes of codes. */
import type { AuthDatabase, AuthTransaction } from "../tables.ts";

/** The encrypted secret of a second factor that is in use. */
export async function findSecret({ kysely }: AuthDatabase, userId: string): Promise<Buffer | undefined> {
  const factor = await kysely
    .selectFrom("second_factors")
    .select("sealed_secret")
    .where("user_id", "=", userId)
    .where("confirmed_at", "is not", null)
    .executeTakeFirst();
  return factor?.sealed_secret;
}

/** Marks a time step as used. Returns false if it, or a later one, was used before. */
export async function takeStep({ kysely }: AuthDatabase, userId: string, step: number): Promise<boolean> {
  const taken = await kysely
    .updateTable("second_factors")
    .set({ last_step: step })
    .where("user_id", "=", userId)
    .where("last_step", "<", BigInt(step))
    .returning("user_id")
    .executeTakeFirst();
  return taken !== undefined;
}

/** Marks a recovery code as used. Returns false if it is unknown or was used before. */
export async function takeRecoveryCode({ kysely }: AuthDatabase, userId: string, hash: Buffer, usedAt: Date): Promise<boolean> {
  const taken = await kysely
    .updateTable("recovery_codes")
    .set({ used_at: usedAt })
    .where("user_id", "=", userId)
    .where("hash", "=", hash)
    .where("used_at", "is", null)
    .returning("user_id")
    .executeTakeFirst();
  return taken !== undefined;
}

/** Stores a secret that is not in use yet, in place of an earlier one. Returns false if one is in use. */
export async function storeSecret(tx: AuthTransaction, userId: string, secret: Buffer): Promise<boolean> {
  const stored = await tx.kysely
    .insertInto("second_factors")
    .values({ user_id: userId, sealed_secret: secret })
    .onConflict((conflict) =>
      conflict.column("user_id").doUpdateSet({ sealed_secret: secret, last_step: 0 }).where("second_factors.confirmed_at", "is", null),
    )
    .returning("user_id")
    .executeTakeFirst();
  return stored !== undefined;
}

/** Locks the second factor of a user and returns it, whether it is in use or not. */
export async function lockSecondFactor(
  tx: AuthTransaction,
  userId: string,
): Promise<{ sealed_secret: Buffer; confirmed_at: Date | null } | undefined> {
  return tx.kysely
    .selectFrom("second_factors")
    .select(["sealed_secret", "confirmed_at"])
    .where("user_id", "=", userId)
    .forUpdate()
    .executeTakeFirst();
}

/** Takes a second factor into use. The time step of its first code counts as used. */
export async function confirmSecondFactor(tx: AuthTransaction, userId: string, step: number, confirmedAt: Date): Promise<void> {
  await tx.kysely.updateTable("second_factors").set({ confirmed_at: confirmedAt, last_step: step }).where("user_id", "=", userId).execute();
}

export async function replaceRecoveryCodes(tx: AuthTransaction, userId: string, hashes: Buffer[]): Promise<void> {
  await tx.kysely.deleteFrom("recovery_codes").where("user_id", "=", userId).execute();
  await tx.kysely
    .insertInto("recovery_codes")
    .values(hashes.map((hash) => ({ user_id: userId, hash })))
    .execute();
}

/** Deletes the second factor and the recovery codes of a user. Returns false if there is no second factor. */
export async function deleteSecondFactor(tx: AuthTransaction, userId: string): Promise<boolean> {
  await tx.kysely.deleteFrom("recovery_codes").where("user_id", "=", userId).execute();
  const deleted = await tx.kysely.deleteFrom("second_factors").where("user_id", "=", userId).returning("user_id").executeTakeFirst();
  return deleted !== undefined;
}
