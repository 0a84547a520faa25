/** Sessions: opened by signing in, listed, ended. */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { createBatcher } from "@pm/kit/batcher";
import type { ClientContext } from "../client-address.ts";
import type { Passwords } from "../passwords/hashing.ts";
import type { AuthDatabase } from "../tables.ts";
import { authEvent, type EndReason, type SessionsOf, type UnitOfWork } from "../unit-of-work.ts";
import { findAccount } from "../users/account-lookup-store.ts";
import { type Credentials, codeNeeded, type Proof, type Proven, wrongCredentials } from "./credentials.ts";
import { findSessionOf, listSessions, type NewSession, type SessionRow, storeSessions } from "./store.ts";
import type { Attempt } from "./throttle.ts";
import { hashToken, type IssueTokenPair, type SignedIn, toSignedIn } from "./token-pair.ts";

export type Sessions = {
  /** @throws AppError as `Credentials.check` does */
  login(credentials: Proof & { email: string }, context: ClientContext): Promise<SignedIn>;
  /**
   * Opens a session for a user who has just proved who they are, and takes the count of the attempt back. If the
   * account has changed in the meantime, it is read again.
   */
  open(proven: Proven & { attempt?: Attempt }, context: ClientContext): Promise<SignedIn>;
  list(userId: string): Promise<SessionRow[]>;
  /** Ends the session of a refresh token. Nothing happens if the token is unknown or its session has ended. */
  endByRefreshToken(refreshToken: string, context: ClientContext): Promise<void>;
  /** Ends sessions of a user in all services. Returns how many. */
  end(which: SessionsOf, reason: EndReason, context: ClientContext): Promise<number>;
};

/**
 * While passwords wait to be hashed, sign-ins within this time share a statement and a commit. Nobody waits longer for
 * it: the cores are busy with hashes anyway. While no passwords wait, each sign-in is stored at once.
 */
const lingerMs = 40;

export function createSessions(options: {
  db: AuthDatabase;
  unitOfWork: UnitOfWork;
  passwords: Passwords;
  credentials: Credentials;
  issueTokenPair: IssueTokenPair;
  tokenSeconds: number;
  idleSeconds: number;
  maxSeconds: number;
  now: () => number;
}): Sessions {
  const { db, unitOfWork, passwords, credentials, issueTokenPair, tokenSeconds, idleSeconds, maxSeconds, now } = options;

  const batcher = createBatcher<NewSession, boolean>({
    name: "sessions",
    maxSize: 64,
    linger: async () => {
      if (passwords.isBusy()) await delay(lingerMs);
    },
    run: (sessions) => storeSessions(db, sessions),
  });

  const open: Sessions["open"] = async ({ account, passwordHash, secondFactor, attempt }, context) => {
    const { id: userId, roles, teams, version } = account;
    const { address, userAgent, requestId, traceparent } = context;
    const id = randomUUID();
    const pair = await issueTokenPair({ id, userId, roles, teams, secondFactor });
    const stored = await batcher.add({
      ...{ id, userId, passwordHash, version, address, userAgent, secondFactor, maxSeconds, requestId, attempt },
      refreshTokenHash: hashToken(pair.refreshToken),
      event: authEvent({ case: "signedIn", value: { userId, sessionId: id } }, id, { traceparent, now: now() }),
    });
    if (stored) {
      unitOfWork.wakeSoon();
      return toSignedIn(pair, tokenSeconds);
    }
    const changed = await findAccount(db, userId);
    if (!changed || changed.disabled || changed.password_hash !== passwordHash || changed.version === version) throw wrongCredentials();
    if (changed.enrolled && !secondFactor) throw codeNeeded();
    return open({ account: changed, passwordHash, secondFactor: secondFactor && changed.enrolled }, context);
  };

  const end: Sessions["end"] = (which, reason, context) => unitOfWork.run(context, (change) => change.endSessions(which, reason));

  return {
    login: async ({ email, ...proof }, context) => open(await credentials.check(email, proof, context), context),
    open,
    list: (userId) => listSessions(db, userId, idleSeconds),
    async endByRefreshToken(refreshToken, context) {
      const session = await findSessionOf(db, hashToken(refreshToken));
      if (session) await end({ userId: session.userId, only: session.id }, "LOGOUT", { ...context, actorId: session.userId });
    },
    end,
  };
}
