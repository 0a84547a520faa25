/** The second factor: time-based one-time passwords (RFC 6238), and recovery codes for when the device is lost. */
import { createHash, randomBytes } from "node:crypto";
import type { Role } from "@pm/kit/auth/access";
import { AppError } from "@pm/kit/errors";
import { Secret, TOTP } from "otpauth";
import type { Sealer } from "../seal.ts";
import type { AuthDatabase } from "../tables.ts";
import type { Change } from "../unit-of-work.ts";
import { updateUser } from "./store.ts";

/** Who has to have a second factor. */
export type FactorPolicy = "nobody" | "admins" | "everybody";

export type Factors = {
  /** Whether a session without a second factor gives these roles nothing but the way to set one up. */
  isRequired(roles: readonly Role[]): boolean;
  /** Uses up a code of the app or a recovery code; says what it was, or nothing where it is wrong or was used before. */
  use(userId: string, code: string): Promise<"app" | "recovery code" | undefined>;
  /** Makes a secret that counts as soon as `confirm` got a code of it. */
  enrol(change: Change, user: { id: string; email: string }): Promise<{ secret: string; uri: string }>;
  /** Takes the factor into use and gives the recovery codes, which are shown once. @throws AppError invalid_argument for a wrong code */
  confirm(change: Change, userId: string, code: string): Promise<string[]>;
  newRecoveryCodes(change: Change, userId: string): Promise<string[]>;
  /** Removes the factor and its recovery codes; says whether there was one. */
  remove(change: Change, userId: string): Promise<boolean>;
};

const periodSeconds = 30;
const recoveryCodeCount = 10;
/** 120 random bits in groups that can be copied by hand. */
const recoveryCodeBytes = 15;

const hashRecoveryCode = (code: string) =>
  createHash("sha256")
    .update(code.toUpperCase().replace(/[^A-Z2-7]/g, ""))
    .digest();

export function createFactors(options: {
  database: AuthDatabase;
  sealer: Sealer;
  policy: FactorPolicy;
  /** What authenticator apps show as the account's provider. */
  issuer: string;
  now: () => number;
}): Factors {
  const { database, sealer, policy, issuer, now } = options;
  const totp = (secret: Secret, label = "") => new TOTP({ issuer, label, secret, algorithm: "SHA1", digits: 6, period: periodSeconds });

  /** The time step of a code, or nothing where it is wrong. The steps beside the present one count, since clocks differ. */
  function stepOf(secret: Secret, code: string): number | undefined {
    const delta = totp(secret).validate({ token: code, window: 1, timestamp: now() });
    return delta === null ? undefined : Math.floor(now() / 1_000 / periodSeconds) + delta;
  }

  const open = (sealed: Buffer, userId: string) => Secret.fromBase32(sealer.open(sealed, userId));

  async function makeRecoveryCodes({ transaction }: Change, userId: string): Promise<string[]> {
    const codes = Array.from({ length: recoveryCodeCount }, () => {
      const text = new Secret({ buffer: new Uint8Array(randomBytes(recoveryCodeBytes)).buffer }).base32;
      return text.match(/.{6}/g)?.join("-") ?? text;
    });
    await transaction.deleteFrom("recovery_codes").where("user_id", "=", userId).execute();
    await transaction
      .insertInto("recovery_codes")
      .values(codes.map((code) => ({ user_id: userId, hash: hashRecoveryCode(code) })))
      .execute();
    return codes;
  }

  return {
    isRequired: (roles) => policy === "everybody" || (policy === "admins" && roles.includes("admin")),

    async use(userId, code) {
      if (/^\d{6}$/.test(code)) {
        const factor = await database.kysely
          .selectFrom("second_factors")
          .select("sealed_secret")
          .where("user_id", "=", userId)
          .where("confirmed_at", "is not", null)
          .executeTakeFirst();
        const step = factor && stepOf(open(factor.sealed_secret, userId), code);
        if (step === undefined) return undefined;
        const used = await database.kysely
          .updateTable("second_factors")
          .set({ last_step: step })
          .where("user_id", "=", userId)
          .where("last_step", "<", BigInt(step))
          .returning("user_id")
          .executeTakeFirst();
        return used && "app";
      }
      const used = await database.kysely
        .updateTable("recovery_codes")
        .set({ used_at: new Date(now()) })
        .where("user_id", "=", userId)
        .where("hash", "=", hashRecoveryCode(code))
        .where("used_at", "is", null)
        .returning("user_id")
        .executeTakeFirst();
      return used && "recovery code";
    },

    async enrol({ transaction, audit }, user) {
      const secret = new Secret({ size: 20 });
      const sealed = sealer.seal(secret.base32, user.id);
      const stored = await transaction
        .insertInto("second_factors")
        .values({ user_id: user.id, sealed_secret: sealed })
        .onConflict((conflict) =>
          conflict.column("user_id").doUpdateSet({ sealed_secret: sealed, last_step: 0 }).where("second_factors.confirmed_at", "is", null),
        )
        .returning("user_id")
        .executeTakeFirst();
      if (!stored) throw new AppError("failed_precondition", "There is a second factor already. Remove it first.");
      audit("authn_factor_started", user.id);
      return { secret: secret.base32, uri: totp(secret, user.email).toString() };
    },

    async confirm(change, userId, code) {
      const factor = await change.transaction
        .selectFrom("second_factors")
        .select(["sealed_secret", "confirmed_at"])
        .where("user_id", "=", userId)
        .forUpdate()
        .executeTakeFirst();
      if (!factor) throw new AppError("failed_precondition", "Ask for a secret first: POST /auth/mfa/totp.");
      if (factor.confirmed_at) throw new AppError("failed_precondition", "The second factor is in use already.");
      const step = stepOf(open(factor.sealed_secret, userId), code);
      if (step === undefined) {
        const message = "is not the code that the app shows now; check the clock of its device";
        throw new AppError("invalid_argument", `code: ${message}`, { errors: [{ path: "code", message }] });
      }
      await change.transaction
        .updateTable("second_factors")
        .set({ confirmed_at: new Date(now()), last_step: step })
        .where("user_id", "=", userId)
        .execute();
      await updateUser(change.transaction, userId, {});
      change.audit("authn_factor_added", userId);
      return makeRecoveryCodes(change, userId);
    },

    async newRecoveryCodes(change, userId) {
      change.audit("authn_recovery_codes_created", userId);
      return makeRecoveryCodes(change, userId);
    },

    async remove({ transaction, audit }, userId) {
      await transaction.deleteFrom("recovery_codes").where("user_id", "=", userId).execute();
      const removed = await transaction.deleteFrom("second_factors").where("user_id", "=", userId).returning("user_id").executeTakeFirst();
      if (!removed) return false;
      await updateUser(transaction, userId, {});
      audit("authn_factor_removed", userId);
      return true;
    },
  };
}
