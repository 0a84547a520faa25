/** Signing in, staying in, getting out. */
import { createHash, randomBytes, randomUUID } from "node:crypto";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { AppError } from "@pm/kit/errors";
import { RevocationReason, SignInFailureReason } from "@pm/proto/auth/v1/events";
import { announce, authEvent } from "./announcements.ts";
import type { Origin } from "./origin.ts";
import type { Passwords } from "./passwords.ts";
import type { AuthDatabase, AuthTransaction } from "./schema.ts";
import { createSealer } from "./seal.ts";
import {
  createSession,
  endSessions,
  findAccountByEmail,
  findRefreshToken,
  listSessions,
  type PresentedToken,
  rotateRefreshToken,
  type SessionRow,
} from "./sessions-store.ts";
import type { Tokens } from "./tokens.ts";

/** What a client gets when it signs in or refreshes. */
export type SignedIn = { token: string; tokenType: "Bearer"; expiresIn: number; refreshToken: string };

export type Sessions = {
  /** @throws AppError unauthenticated, the same for an unknown account, a wrong password and a disabled account. */
  login(credentials: { email: string; password: string }, origin: Origin): Promise<SignedIn>;
  /**
   * Exchanges a refresh token for a new pair. Within the grace time the same token gets the same pair again, so that
   * parallel tabs and lost answers log nobody out; after it the token counts as stolen and its session ends.
   * @throws AppError unauthenticated
   */
  refresh(refreshToken: string, origin: Origin): Promise<SignedIn>;
  list(userId: string): Promise<SessionRow[]>;
  /** Ends sessions of a user and says so to all services. Returns how many. */
  end(which: { userId: string; only?: string; except?: string | undefined }, why: EndReason, by: Actor): Promise<number>;
  /** The same inside a transaction of the caller, who wakes the relay after its commit. */
  endWithin(
    transaction: AuthTransaction,
    which: { userId: string; only?: string; except?: string | undefined },
    why: EndReason,
    by: Actor,
  ): Promise<number>;
};

export type EndReason = "LOGOUT" | "REVOKED" | "USER_DISABLED" | "CREDENTIALS_CHANGED" | "REFRESH_TOKEN_REUSED";
/** Who does something, and by which request. */
export type Actor = { id: string; origin: Pick<Origin, "requestId" | "traceparent"> };

export type SessionSettings = { idleSeconds: number; maxSeconds: number; graceSeconds: number };

/** What revocations outlive the last token by, because clocks differ. */
const skewMs = 60_000;

const wrongCredentials = () => new AppError("unauthenticated", "The e-mail address or the password is wrong.");
const wrongRefreshToken = () => new AppError("unauthenticated", "The refresh token is not valid any more. Log in again.");

const hashToken = (token: string) => createHash("sha256").update(token).digest();
/** 256 random bits, so its hash needs neither salt nor slowness. */
const newRefreshToken = () => randomBytes(32).toString("base64url");
/** The answer that a token was exchanged for is sealed by the token itself: our database alone cannot tell it. */
const answerSealer = (refreshToken: string) => createSealer(Buffer.from(refreshToken), "refresh answer");

export function createSessions(options: {
  database: AuthDatabase;
  passwords: Passwords;
  tokens: Tokens;
  settings: SessionSettings;
  now: () => number;
  /** Called after every commit that wrote to the outbox. */
  wake: () => void;
}): Sessions {
  const { database, passwords, tokens, settings, now, wake } = options;

  async function signInFailed(reason: SignInFailureReason, subject: string, origin: Origin): Promise<void> {
    const key = randomUUID();
    await database.kysely.transaction().execute((transaction) =>
      announce(transaction, {
        events: [authEvent({ case: "signInFailed", value: { reason } }, key, { traceparent: origin.traceparent, now: now() })],
        audit: [
          { actor: "anonymous", action: "authn_login_fail", subject, request_id: origin.requestId, details: { address: origin.address } },
        ],
      }),
    );
    wake();
  }

  async function login({ email, password }: { email: string; password: string }, origin: Origin): Promise<SignedIn> {
    const account = await findAccountByEmail(database, email);
    const matches = await passwords.verify(account?.password_hash, password);
    if (!account?.password_hash || !matches || account.disabled) {
      await signInFailed(SignInFailureReason.CREDENTIALS, account?.id ?? "unknown", origin);
      throw wrongCredentials();
    }
    const sessionId = randomUUID();
    const refreshToken = newRefreshToken();
    const token = await tokens.forUser({ id: account.id, sessionId, roles: account.roles, teams: account.teams });
    const signedIn = { case: "signedIn" as const, value: { userId: account.id, sessionId } };
    const stored = await createSession(database, {
      id: sessionId,
      userId: account.id,
      passwordHash: account.password_hash,
      address: origin.address,
      userAgent: origin.userAgent,
      secondFactor: false,
      maxSeconds: settings.maxSeconds,
      refreshTokenHash: hashToken(refreshToken),
      event: authEvent(signedIn, sessionId, { traceparent: origin.traceparent, now: now() }),
      requestId: origin.requestId,
    });
    if (!stored) throw wrongCredentials();
    wake();
    return { token, tokenType: "Bearer", expiresIn: tokens.lifetimeSeconds, refreshToken };
  }

  async function refresh(refreshToken: string, origin: Origin): Promise<SignedIn> {
    const hash = hashToken(refreshToken);
    const presented = await findRefreshToken(database, hash, settings.idleSeconds);
    if (!presented?.alive || presented.disabled) throw wrongRefreshToken();
    if (presented.used_at) return answerAgain(presented, refreshToken, origin);

    const next = newRefreshToken();
    const token = await tokens.forUser({
      id: presented.id,
      sessionId: presented.session_id,
      roles: presented.roles,
      teams: presented.teams,
    });
    const answer = JSON.stringify({ token, refreshToken: next, expiresAt: now() + tokens.lifetimeSeconds * 1_000 });
    const rotated = await rotateRefreshToken(database, {
      hash,
      sealedAnswer: answerSealer(refreshToken).seal(answer, presented.session_id),
      nextHash: hashToken(next),
      sessionId: presented.session_id,
      requestId: origin.requestId,
    });
    if (rotated) return { token, tokenType: "Bearer", expiresIn: tokens.lifetimeSeconds, refreshToken: next };
    const again = await findRefreshToken(database, hash, settings.idleSeconds);
    if (!again?.alive || !again.used_at) throw wrongRefreshToken();
    return answerAgain(again, refreshToken, origin);
  }

  /** A used token: the same answer within the grace time, the end of its session after it. */
  async function answerAgain(presented: PresentedToken, refreshToken: string, origin: Origin): Promise<SignedIn> {
    if (presented.used_at && presented.sealed_answer && now() - presented.used_at.getTime() <= settings.graceSeconds * 1_000) {
      const opened = answerSealer(refreshToken).open(presented.sealed_answer, presented.session_id);
      const answer = JSON.parse(opened) as { token: string; refreshToken: string; expiresAt: number };
      const expiresIn = Math.max(0, Math.round((answer.expiresAt - now()) / 1_000));
      return { token: answer.token, tokenType: "Bearer", expiresIn, refreshToken: answer.refreshToken };
    }
    await end({ userId: presented.id, only: presented.session_id }, "REFRESH_TOKEN_REUSED", { id: "anonymous", origin });
    throw wrongRefreshToken();
  }

  const actions: Record<EndReason, string> = {
    LOGOUT: "authn_token_revoked",
    REVOKED: "authn_token_revoked",
    USER_DISABLED: "authn_token_revoked",
    CREDENTIALS_CHANGED: "authn_token_revoked",
    REFRESH_TOKEN_REUSED: "authn_token_reuse",
  };

  const endWithin: Sessions["endWithin"] = async (transaction, which, why, by) => {
    const ended = await endSessions(transaction, which, why);
    const until = timestampFromMs(now() + tokens.lifetimeSeconds * 1_000 + skewMs);
    await announce(transaction, {
      events: ended.map((sessionId) =>
        authEvent(
          {
            case: "sessionRevoked",
            value: { sessionId, userId: which.userId, tokensExpireAt: until, reason: RevocationReason[why] },
          },
          sessionId,
          { traceparent: by.origin.traceparent, now: now() },
        ),
      ),
      audit: ended.map((sessionId) => ({
        actor: by.id,
        action: actions[why],
        subject: which.userId,
        request_id: by.origin.requestId,
        details: { sessionId, because: why },
      })),
    });
    return ended.length;
  };

  const end: Sessions["end"] = async (which, why, by) => {
    const count = await database.kysely.transaction().execute((transaction) => endWithin(transaction, which, why, by));
    if (count > 0) wake();
    return count;
  };

  return { login, refresh, list: (userId) => listSessions(database, userId, settings.idleSeconds), end, endWithin };
}
