/** The second factor: time-based one-time passwords (RFC 6238), and recovery codes for a lost device. */
import { createHash, randomBytes } from "node:crypto";
import type { Role } from "@pm/kit/auth/access";
import type { Encryptor } from "@pm/kit/encryption";
import { AppError, invalidFields } from "@pm/kit/errors";
import { Secret, TOTP } from "otpauth";
import type { AuthDatabase } from "../tables.ts";
import type { Change } from "../unit-of-work.ts";
import {
  confirmSecondFactor,
  deleteSecondFactor,
  findSecret,
  lockSecondFactor,
  replaceRecoveryCodes,
  storeSecret,
  takeRecoveryCode,
  takeStep,
} from "./second-factor-store.ts";
import { updateUser } from "./store.ts";

/** Who must have a second factor. */
type SecondFactorPolicy = "nobody" | "admins" | "everybody";

export type SecondFactors = {
  /** Whether users with these roles must have a second factor. */
  isRequired(roles: readonly Role[]): boolean;
  /** Uses a code of the app or a recovery code. Returns false if it is wrong or was used before. */
  use(userId: string, code: string): Promise<boolean>;
  /**
   * Creates a secret. It is in use after `confirm`.
   * @throws AppError failed_precondition if a second factor is in use
   */
  enrol(change: Change, user: { id: string; email: string }): Promise<{ secret: string; uri: string }>;
  /**
   * Takes the secret into use and returns the recovery codes, which are shown once.
   * @throws AppError invalid_argument for a wrong code
   */
  confirm(change: Change, userId: string, code: string): Promise<string[]>;
  newRecoveryCodes(change: Change, userId: string): Promise<string[]>;
  /** Removes the second factor and its recovery codes. Returns false if there is none. */
  remove(change: Change, userId: string): Promise<boolean>;
};

const periodSeconds = 30;

export function createSecondFactors(options: {
  db: AuthDatabase;
  encryptor: Encryptor;
  policy: SecondFactorPolicy;
  /** The name that authenticator apps show for the account's provider. */
  issuer: string;
  now: () => number;
}): SecondFactors {
  const { db, encryptor, policy, issuer, now } = options;
  const totp = (secret: Secret, label = "") => new TOTP({ issuer, label, secret, algorithm: "SHA1", digits: 6, period: periodSeconds });

  /** The time step of a code, or undefined for a wrong code. Clocks differ, so the steps before and after count too. */
  function stepOf(sealed: Buffer, userId: string, code: string): number | undefined {
    const secret = Secret.fromBase32(encryptor.decrypt(sealed, userId));
    const delta = totp(secret).validate({ token: code, window: 1, timestamp: now() });
    return delta === null ? undefined : Math.floor(now() / 1_000 / periodSeconds) + delta;
  }

  return {
    isRequired: (roles) => policy === "everybody" || (policy === "admins" && roles.includes("admin")),

    async use(userId, code) {
      if (!/^\d{6}$/.test(code)) return takeRecoveryCode(db, userId, hashRecoveryCode(code), new Date(now()));
      const secret = await findSecret(db, userId);
      const step = secret && stepOf(secret, userId, code);
      return step !== undefined && takeStep(db, userId, step);
    },

    async enrol({ tx, audit }, user) {
      const secret = new Secret({ size: 20 });
      if (!(await storeSecret(tx, user.id, encryptor.encrypt(secret.base32, user.id))))
        throw new AppError("failed_precondition", "There is a second factor already. Remove it first.");
      audit("authn_factor_started", user.id);
      return { secret: secret.base32, uri: totp(secret, user.email).toString() };
    },

    async confirm({ tx, audit }, userId, code) {
      const factor = await lockSecondFactor(tx, userId);
      if (!factor) throw new AppError("failed_precondition", "Ask for a secret first: POST /auth/mfa/totp.");
      if (factor.confirmed_at) throw new AppError("failed_precondition", "The second factor is in use already.");
      const step = stepOf(factor.sealed_secret, userId, code);
      if (step === undefined)
        throw invalidFields([{ path: "code", message: "is not the code that the app shows now; check the clock of its device" }]);
      await confirmSecondFactor(tx, userId, step, new Date(now()));
      await updateUser(tx, userId, {});
      audit("authn_factor_added", userId);
      return createRecoveryCodes(tx, userId);
    },

    async newRecoveryCodes({ tx, audit }, userId) {
      audit("authn_recovery_codes_created", userId);
      return createRecoveryCodes(tx, userId);
    },

    async remove({ tx, audit }, userId) {
      if (!(await deleteSecondFactor(tx, userId))) return false;
      await updateUser(tx, userId, {});
      audit("authn_factor_removed", userId);
      return true;
    },
  };
}

const recoveryCodeCount = 10;
/** 120 random bits: a hash of them needs no salt, and four groups of six letters can be copied by hand. */
const recoveryCodeBytes = 15;

const hashRecoveryCode = (code: string) =>
  createHash("sha256")
    .update(code.toUpperCase().replace(/[^A-Z2-7]/g, ""))
    .digest();

/** Creates recovery codes in place of the earlier ones. */
async function createRecoveryCodes(tx: Change["tx"], userId: string): Promise<string[]> {
  const codes = Array.from({ length: recoveryCodeCount }, () => {
    const text = new Secret({ buffer: new Uint8Array(randomBytes(recoveryCodeBytes)).buffer }).base32;
    return text.match(/.{6}/g)?.join("-") ?? text;
  });
  await replaceRecoveryCodes(tx, userId, codes.map(hashRecoveryCode));
  return codes;
}
