/**
 * Refreshing: a refresh token is exchanged once for the next pair of tokens. Within the grace time the same token gets
 * the same pair again, so that parallel tabs and lost responses sign nobody out. After it, the token counts as stolen
 * and its session ends.
 */
import { createEncryptor } from "@pm/kit/encryption";
import { AppError } from "@pm/kit/errors";
import type { ClientContext } from "../client-address.ts";
import type { AuthDatabase } from "../tables.ts";
import type { UnitOfWork } from "../unit-of-work.ts";
import { findRefreshToken, type PresentedToken, rotateRefreshToken } from "./store.ts";
import { hashToken, type IssueTokenPair, type SignedIn, type TokenPair, toSignedIn } from "./token-pair.ts";

/** @throws AppError unauthenticated */
export type Refresh = (refreshToken: string, context: ClientContext) => Promise<SignedIn>;

const invalidRefreshToken = () => new AppError("unauthenticated", "The refresh token is not valid any more. Log in again.");

/** A response is encrypted with the token that it answers, so that the database alone does not reveal it. */
const responseEncryptor = (refreshToken: string) => createEncryptor(refreshToken, "refresh answer");

export function createRefresh(options: {
  database: AuthDatabase;
  unitOfWork: UnitOfWork;
  issueTokenPair: IssueTokenPair;
  tokenSeconds: number;
  idleSeconds: number;
  graceSeconds: number;
  now: () => number;
}): Refresh {
  const { database, unitOfWork, issueTokenPair, tokenSeconds, idleSeconds, graceSeconds, now } = options;

  /** Answers a token that was used before. */
  async function replayRefreshResponse(presented: PresentedToken, refreshToken: string, context: ClientContext): Promise<SignedIn> {
    const { id: userId, session_id: sessionId, in_grace: inGrace, sealed_answer: response } = presented;
    if (inGrace && response) {
      const pair = JSON.parse(responseEncryptor(refreshToken).decrypt(response, sessionId)) as TokenPair & { expiresAt: number };
      return toSignedIn(pair, Math.max(0, Math.round((pair.expiresAt - now()) / 1_000)));
    }
    await unitOfWork.run(context, (change) => change.endSessions({ userId, only: sessionId }, "REFRESH_TOKEN_REUSED"));
    throw invalidRefreshToken();
  }

  return async (refreshToken, context) => {
    const hash = hashToken(refreshToken);
    const presented = await findRefreshToken(database, hash, { idleSeconds, graceSeconds });
    if (!presented?.alive || presented.disabled) throw invalidRefreshToken();
    if (presented.used) return replayRefreshResponse(presented, refreshToken, context);

    const { id: userId, session_id: sessionId, roles, teams, second_factor: secondFactor } = presented;
    const pair = await issueTokenPair({ id: sessionId, userId, roles, teams, secondFactor });
    const response = JSON.stringify({ ...pair, expiresAt: now() + tokenSeconds * 1_000 });
    const rotated = await rotateRefreshToken(database, {
      hash,
      encryptedResponse: responseEncryptor(refreshToken).encrypt(response, sessionId),
      nextHash: hashToken(pair.refreshToken),
      sessionId,
      requestId: context.requestId,
    });
    if (rotated) return toSignedIn(pair, tokenSeconds);
    // A parallel request has used the token in the meantime.
    const again = await findRefreshToken(database, hash, { idleSeconds, graceSeconds });
    if (!again?.alive || !again.used) throw invalidRefreshToken();
    return replayRefreshResponse(again, refreshToken, context);
  };
}
