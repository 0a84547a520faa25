/** Signing in, staying in, getting out. */
import { createHash, randomBytes, randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { Role } from "@pm/kit/auth/access";
import { createBatcher } from "@pm/kit/batcher";
import { AppError } from "@pm/kit/errors";
import { SignInFailureReason } from "@pm/proto/auth/v1/events";
import { LRUCache } from "lru-cache";
import type { Origin } from "../client-address.ts";
import type { Passwords } from "../passwords/hashing.ts";
import { createSealer } from "../seal.ts";
import type { AuthDatabase } from "../tables.ts";
import type { Tokens } from "../tokens/access-tokens.ts";
import { type Actor, authEvent, type Changes, type EndReason, type SessionsOf } from "../unit-of-work.ts";
import type { Factors } from "../users/second-factor.ts";
import {
  type Account,
  findAccount,
  findRefreshToken,
  listSessions,
  type NewSession,
  type PresentedToken,
  recordFailure,
  rotateRefreshToken,
  type SessionRow,
  storeSessions,
} from "./store.ts";
import type { Attempt, Throttle } from "./throttle.ts";

/** What a client gets when it signs in or refreshes. */
export type SignedIn = {
  token: string;
  tokenType: "Bearer";
  expiresIn: number;
  refreshToken: string;
  /** The account has to set up a second factor first; until then the token gives nothing else. */
  secondFactorSetupRequired?: true;
};

export type Credentials = { email: string; password: string; code?: string | undefined };

export type Sessions = {
  /** @throws AppError unauthenticated, the same for an unknown account, a wrong password and a disabled account; resource_exhausted */
  login(credentials: Credentials, origin: Origin): Promise<SignedIn>;
  /**
   * Proves again that it is the user who acts, before something that could lock him out.
   * @throws AppError as `login` does
   */
  prove(userId: string, proof: { password: string; code?: string | undefined }, origin: Origin): Promise<Account>;
  /** A fresh session for somebody who has just proved who he is, by an attempt that is forgiven with it. An account that has changed since it was read is read again. */
  open(account: Account, passwordHash: string, secondFactor: boolean, origin: Origin, attempt?: Attempt): Promise<SignedIn>;
  /**
   * Exchanges a refresh token for a new pair. Within the grace time the same token gets the same pair again, so that
   * parallel tabs and lost answers log nobody out; after it the token counts as stolen and its session ends.
   * @throws AppError unauthenticated
   */
  refresh(refreshToken: string, origin: Origin): Promise<SignedIn>;
  list(userId: string): Promise<SessionRow[]>;
  /** Ends sessions of a user and says so to all services. Returns how many. */
  end(which: SessionsOf, why: EndReason, by: Actor): Promise<number>;
};

export type SessionSettings = { idleSeconds: number; maxSeconds: number; graceSeconds: number };

/**
 * While passwords wait to be hashed, sign-ins within so many milliseconds after another one share a statement and a commit.
 * Nobody is answered later for it as long as hashes keep the cores busy, and without them nobody waits.
 */
const lingerMs = 40;

const wrongCredentials = () => new AppError("unauthenticated", "The e-mail address or the password is wrong.");
const wrongRefreshToken = () => new AppError("unauthenticated", "The refresh token is not valid any more. Log in again.");
const codeError = (message: string) =>
  new AppError("unauthenticated", `The second factor ${message}.`, { errors: [{ path: "code", message }] });

const codeNeeded = () => codeError("is needed: send `code`, six digits of your authenticator app or a recovery code");

const hashToken = (token: string) => createHash("sha256").update(token).digest();
/** 256 random bits, so its hash needs neither salt nor slowness. */
const newRefreshToken = () => randomBytes(32).toString("base64url");
/** The answer that a token was exchanged for is sealed by the token itself: our database alone cannot tell it. */
const answerSealer = (refreshToken: string) => createSealer(Buffer.from(refreshToken), "refresh answer");

export function createSessions(options: {
  database: AuthDatabase;
  changes: Changes;
  passwords: Passwords;
  throttle: Throttle;
  factors: Factors;
  tokens: Tokens;
  settings: SessionSettings;
  now: () => number;
}): Sessions {
  const { database, changes, passwords, throttle, factors, tokens, settings, now } = options;
  // Of refusals for one reason at one place, one in ten seconds is noted: who floods us must not flood the audit trail too.
  const refusalsNoted = new LRUCache<string, true>({ max: 10_000, ttl: 10_000 });

  const sessions = createBatcher<NewSession, boolean>({
    maxSize: 64,
    linger: async () => {
      if (passwords.isBusy()) await delay(lingerMs);
    },
    run: (items) => storeSessions(database, items),
  });

  async function failed(reason: SignInFailureReason, subject: string, origin: Origin, action = "authn_login_fail"): Promise<void> {
    const event = authEvent({ case: "signInFailed", value: { reason } }, randomUUID(), { traceparent: origin.traceparent, now: now() });
    const details = { address: origin.address, because: SignInFailureReason[reason] };
    await recordFailure(database, { event, action, subject, requestId: origin.requestId, details });
    changes.wake();
  }

  /** Counts the attempt, or refuses it and notes that. */
  async function admit<T>(email: string, origin: Origin, count: () => Promise<T>): Promise<T> {
    passwords.checkRoom();
    try {
      return await count();
    } catch (error) {
      const place = `${origin.address} ${hashToken(email.toLowerCase()).toString("hex")}`;
      if (error instanceof AppError && error.code === "resource_exhausted" && !refusalsNoted.has(place)) {
        refusalsNoted.set(place, true);
        await failed(SignInFailureReason.THROTTLED, "unknown", origin, "excess_rate_limit_exceeded");
      }
      throw error;
    }
  }

  /** Checks password and second factor of an account that may not exist, and takes the same time for it. The attempt is still to be forgiven. */
  async function check(
    account: Account | undefined,
    proof: { password: string; code?: string | undefined },
    attempt: Attempt,
    origin: Origin,
  ) {
    const matches = await passwords.verify(account?.password_hash, proof.password).catch(async (error: unknown) => {
      await attempt.undo();
      throw error;
    });
    if (!account?.password_hash || !matches || account.disabled) {
      await failed(SignInFailureReason.CREDENTIALS, account?.id ?? "unknown", origin);
      throw wrongCredentials();
    }
    if (account.enrolled) {
      if (proof.code === undefined) {
        await attempt.undo();
        throw codeNeeded();
      }
      const guess = /^\d{6}$/.test(proof.code) ? await throttle.code(account.id) : undefined;
      if (await factors.use(account.id, proof.code)) await guess?.succeeded();
      else {
        await failed(SignInFailureReason.SECOND_FACTOR, account.id, origin);
        throw codeError("is wrong or was used before");
      }
    }
    return { account, passwordHash: account.password_hash, secondFactor: account.enrolled };
  }

  /** Whoever must have a second factor and has not used one gets nothing but the way to set one up. */
  const mustSetUp = (roles: readonly Role[], secondFactor: boolean) => !secondFactor && factors.isRequired(roles);

  function answer(token: string, refreshToken: string, setUp: boolean, expiresIn = tokens.lifetimeSeconds): SignedIn {
    return { token, tokenType: "Bearer", expiresIn, refreshToken, ...(setUp && { secondFactorSetupRequired: true as const }) };
  }

  const open: Sessions["open"] = async (account, passwordHash, secondFactor, origin, attempt) => {
    const sessionId = randomUUID();
    const refreshToken = newRefreshToken();
    const setUp = mustSetUp(account.roles, secondFactor);
    const token = await tokens.forUser({ id: account.id, sessionId, roles: setUp ? [] : account.roles, teams: account.teams });
    const signedIn = { case: "signedIn" as const, value: { userId: account.id, sessionId } };
    const stored = await sessions.add({
      id: sessionId,
      userId: account.id,
      passwordHash,
      version: account.version,
      address: origin.address,
      userAgent: origin.userAgent,
      secondFactor,
      maxSeconds: settings.maxSeconds,
      refreshTokenHash: hashToken(refreshToken),
      event: authEvent(signedIn, sessionId, { traceparent: origin.traceparent, now: now() }),
      requestId: origin.requestId,
      attempt,
    });
    if (stored) {
      changes.wake();
      return answer(token, refreshToken, setUp);
    }
    // The account changed since it was read. Where it is still the same password, its new roles and teams go into a new token.
    const changed = await findAccount(database, account.id);
    if (!changed || changed.disabled || changed.password_hash !== passwordHash || changed.version === account.version)
      throw wrongCredentials();
    if (changed.enrolled && !secondFactor) throw codeNeeded();
    return open(changed, passwordHash, secondFactor, origin);
  };

  async function login({ email, password, code }: Credentials, origin: Origin): Promise<SignedIn> {
    const { attempt, account } = await admit(email, origin, () => throttle.attemptAndRead(email, origin.address));
    const checked = await check(account, { password, code }, attempt, origin);
    return open(checked.account, checked.passwordHash, checked.secondFactor, origin, attempt);
  }

  const prove: Sessions["prove"] = async (userId, proof, origin) => {
    const account = await findAccount(database, userId);
    const email = account?.email ?? userId;
    const attempt = await admit(email, origin, () => throttle.attempt(email, origin.address));
    const checked = await check(account, proof, attempt, origin);
    await attempt.succeeded();
    return checked.account;
  };

  async function refresh(refreshToken: string, origin: Origin): Promise<SignedIn> {
    const hash = hashToken(refreshToken);
    const presented = await findRefreshToken(database, hash, settings);
    if (!presented?.alive || presented.disabled) throw wrongRefreshToken();
    if (presented.used) return answerAgain(presented, refreshToken, origin);

    const next = newRefreshToken();
    const { id, session_id: sessionId, roles, teams, second_factor: secondFactor } = presented;
    const setUp = mustSetUp(roles, secondFactor);
    const token = await tokens.forUser({ id, sessionId, roles: setUp ? [] : roles, teams });
    const sealed = JSON.stringify({ token, refreshToken: next, setUp, expiresAt: now() + tokens.lifetimeSeconds * 1_000 });
    const rotated = await rotateRefreshToken(database, {
      hash,
      sealedAnswer: answerSealer(refreshToken).seal(sealed, sessionId),
      nextHash: hashToken(next),
      sessionId,
      requestId: origin.requestId,
    });
    if (rotated) {
      changes.wake();
      return answer(token, next, setUp);
    }
    const again = await findRefreshToken(database, hash, settings);
    if (!again?.alive || !again.used) throw wrongRefreshToken();
    return answerAgain(again, refreshToken, origin);
  }

  /** A used token: the same answer within the grace time, the end of its session after it. */
  async function answerAgain(presented: PresentedToken, refreshToken: string, origin: Origin): Promise<SignedIn> {
    if (presented.in_grace && presented.sealed_answer) {
      const opened = answerSealer(refreshToken).open(presented.sealed_answer, presented.session_id);
      const given = JSON.parse(opened) as { token: string; refreshToken: string; setUp: boolean; expiresAt: number };
      return answer(given.token, given.refreshToken, given.setUp, Math.max(0, Math.round((given.expiresAt - now()) / 1_000)));
    }
    await end({ userId: presented.id, only: presented.session_id }, "REFRESH_TOKEN_REUSED", { id: "anonymous", origin });
    throw wrongRefreshToken();
  }

  const end: Sessions["end"] = (which, why, by) => changes.run(by, (change) => change.endSessions(which, why));

  return { login, prove, open, refresh, list: (userId) => listSessions(database, userId, settings.idleSeconds), end };
}
