/** Checks who signs in: throttle first, then password, then second factor. */
import { createHash, randomUUID } from "node:crypto";
import { emailKey } from "@pm/kit/email";
import { AppError } from "@pm/kit/errors";
import { SignInFailureReason } from "@pm/proto/auth/v1/events";
import { LRUCache } from "lru-cache";
import type { ClientContext } from "../client-address.ts";
import type { Passwords } from "../passwords/hashing.ts";
import type { AuthDatabase } from "../tables.ts";
import { authEvent, type UnitOfWork } from "../unit-of-work.ts";
import { type Account, findAccount } from "../users/account-lookup-store.ts";
import type { SecondFactors } from "../users/second-factor.ts";
import { replacePasswordHash } from "../users/store.ts";
import { recordFailure } from "./store.ts";
import type { Attempt, Throttle } from "./throttle.ts";

/** The password of an account, and a code if the account has a second factor. */
export type Proof = { password: string; code?: string | undefined };

/** An account whose owner has just proved who they are. */
export type Proven = {
  account: Account;
  /** The hash that the password was checked against. */
  passwordHash: string;
  secondFactor: boolean;
};

export type Credentials = {
  /**
   * Checks a sign-in. It takes the same time and gives the same error for an unknown account, a wrong password and a
   * disabled account. The attempt still counts; storing the session takes the count back.
   * @throws AppError unauthenticated, resource_exhausted, unavailable
   */
  check(email: string, proof: Proof, context: ClientContext): Promise<Proven & { attempt: Attempt }>;
  /**
   * Checks again that the user of a session acts, before a change that could lock them out.
   * @throws AppError as `check` does
   */
  reauthenticate(userId: string, proof: Proof, context: ClientContext): Promise<Account>;
};

export const wrongCredentials = () => new AppError("unauthenticated", "The e-mail address or the password is wrong.");

const codeError = (message: string) =>
  new AppError("unauthenticated", `The second factor ${message}.`, { errors: [{ path: "code", message }] });
export const codeNeeded = () => codeError("is needed: send `code`, six digits of your authenticator app or a recovery code");

export function createCredentials(options: {
  db: AuthDatabase;
  unitOfWork: UnitOfWork;
  passwords: Passwords;
  throttle: Throttle;
  secondFactors: SecondFactors;
  now: () => number;
}): Credentials {
  const { db, unitOfWork, passwords, throttle, secondFactors, now } = options;
  // A flood of sign-ins must not flood the audit trail: one refusal per account and address is recorded in ten seconds.
  const recordedRefusals = new LRUCache<string, true>({ max: 10_000, ttl: 10_000 });

  async function fail(reason: SignInFailureReason, subject: string, context: ClientContext, action = "authn_login_fail"): Promise<void> {
    const { address, requestId, traceparent } = context;
    const event = authEvent({ case: "signInFailed", value: { reason } }, randomUUID(), { traceparent, now: now() });
    await recordFailure(db, { event, action, subject, requestId, details: { address, because: SignInFailureReason[reason] } });
    unitOfWork.wakeSoon();
  }

  /** Counts an attempt. Records a refusal of the throttle. */
  async function admit<T>(email: string, context: ClientContext, count: () => Promise<T>): Promise<T> {
    passwords.checkRoom();
    try {
      return await count();
    } catch (error) {
      const refusal = `${context.address} ${createHash("sha256").update(emailKey(email)).digest("hex")}`;
      if (error instanceof AppError && error.code === "resource_exhausted" && !recordedRefusals.has(refusal)) {
        recordedRefusals.set(refusal, true);
        await fail(SignInFailureReason.THROTTLED, "unknown", context, "excess_rate_limit_exceeded");
      }
      throw error;
    }
  }

  async function checkCode(userId: string, code: string, context: ClientContext): Promise<void> {
    const guess = /^\d{6}$/.test(code) ? await throttle.code(userId) : undefined;
    if (await secondFactors.use(userId, code)) {
      await guess?.succeeded();
      return;
    }
    await fail(SignInFailureReason.SECOND_FACTOR, userId, context);
    throw codeError("is wrong or was used before");
  }

  /** Replaces the hash of a password and returns the new one, or the one by which a parallel sign-in replaced it. */
  async function replaceHash(userId: string, oldHash: string, password: string): Promise<string> {
    const newHash = await passwords.hash(password);
    if (await replacePasswordHash(db, userId, oldHash, newHash)) return newHash;
    const current = (await findAccount(db, userId))?.password_hash;
    const isReplaced = (await passwords.verify(current, password)).matches;
    return isReplaced && current ? current : oldHash;
  }

  /** Takes the same time whether the account exists or not. */
  async function verify(account: Account | undefined, proof: Proof, attempt: Attempt, context: ClientContext): Promise<Proven> {
    const undo = async (error: unknown) => {
      await attempt.undo();
      throw error;
    };
    const { matches, outdated } = await passwords.verify(account?.password_hash, proof.password).catch(undo);
    if (!account?.password_hash || !matches || account.disabled) {
      await fail(SignInFailureReason.CREDENTIALS, account?.id ?? "unknown", context);
      throw wrongCredentials();
    }
    if (account.enrolled && proof.code === undefined) {
      await attempt.undo();
      throw codeNeeded();
    }
    if (account.enrolled) await checkCode(account.id, proof.code ?? "", context);
    const passwordHash = outdated
      ? await replaceHash(account.id, account.password_hash, proof.password).catch(undo)
      : account.password_hash;
    return { account, passwordHash, secondFactor: account.enrolled };
  }

  return {
    async check(email, proof, context) {
      const { attempt, account } = await admit(email, context, () => throttle.attemptAndRead(email, context.address));
      return { ...(await verify(account, proof, attempt, context)), attempt };
    },
    async reauthenticate(userId, proof, context) {
      const account = await findAccount(db, userId);
      const email = account?.email ?? userId;
      const attempt = await admit(email, context, () => throttle.attempt(email, context.address));
      const proven = await verify(account, proof, attempt, context);
      await attempt.succeeded();
      return proven.account;
    },
  };
}
