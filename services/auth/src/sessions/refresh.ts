/**
 * Refreshing: a refresh token is exchanged once for its successor. A client that lost the response sends the same token
 * again and gets the same successor, however late. Once the successor was used, somebody has received it, so whoever
 * still sends the old token has a copy: the token counts as stolen and its session ends. The grace time makes an
 * exception for parallel tabs, which get the same pair again.
 */
import { createEncryptor } from "@pm/kit/encryption";
import { AppError } from "@pm/kit/errors";
import type { ClientContext } from "../client-address.ts";
import type { AuthDatabase } from "../tables.ts";
import type { UnitOfWork } from "../unit-of-work.ts";
import { findRefreshToken, type PresentedToken, rotateRefreshToken } from "./store.ts";
import { hashToken, type IssueTokenPair, type SignedIn, type TokenPair, toSignedIn } from "./token-pair.ts";

/**
 * With `background`, a session that nobody uses ends as if it had not been refreshed.
 * @throws AppError unauthenticated
 */
export type Refresh = (presented: { refreshToken: string; background?: boolean | undefined }, context: ClientContext) => Promise<SignedIn>;

const invalidRefreshToken = () => new AppError("unauthenticated", "The refresh token is not valid any more. Log in again.");

/** A response is encrypted with the token that it answers, so that the database alone does not reveal it. */
const responseEncryptor = (refreshToken: string) => createEncryptor(refreshToken, "refresh answer");

export function createRefresh(options: {
  db: AuthDatabase;
  unitOfWork: UnitOfWork;
  issueTokenPair: IssueTokenPair;
  tokenSeconds: number;
  idleSeconds: number;
  graceSeconds: number;
  now: () => number;
}): Refresh {
  const { db, unitOfWork, issueTokenPair, tokenSeconds, idleSeconds, graceSeconds, now } = options;

  const find = (refreshToken: string) => findRefreshToken(db, hashToken(refreshToken), { idleSeconds, graceSeconds });

  const issueFor = ({ id: userId, session_id: id, roles, teams, second_factor: secondFactor }: PresentedToken) =>
    issueTokenPair({ id, userId, roles, teams, secondFactor });

  /** Answers a token that was used before. */
  async function replayRefreshResponse(presented: PresentedToken, refreshToken: string, context: ClientContext): Promise<SignedIn> {
    const { id: userId, session_id: sessionId, in_grace: inGrace, sealed_answer: response } = presented;
    if (response) {
      const pair = JSON.parse(responseEncryptor(refreshToken).decrypt(response, sessionId)) as TokenPair & { expiresAt: number };
      if (inGrace) return toSignedIn(pair, Math.max(0, Math.round((pair.expiresAt - now()) / 1_000)));
      const successor = await find(pair.refreshToken);
      if (!successor?.alive) throw invalidRefreshToken();
      if (!successor.used) {
        await unitOfWork.run({ ...context, actorId: userId }, async ({ audit }) => audit("session_renewed_again", userId, { sessionId }));
        return toSignedIn({ ...(await issueFor(presented)), refreshToken: pair.refreshToken }, tokenSeconds);
      }
    }
    await unitOfWork.run(context, (change) => change.endSessions({ userId, only: sessionId }, "REFRESH_TOKEN_REUSED"));
    throw invalidRefreshToken();
  }

  return async ({ refreshToken, background = false }, context) => {
    const presented = await find(refreshToken);
    if (!presented?.alive || presented.disabled) throw invalidRefreshToken();
    if (presented.used) return replayRefreshResponse(presented, refreshToken, context);

    const { session_id: sessionId } = presented;
    const pair = await issueFor(presented);
    const response = JSON.stringify({ ...pair, expiresAt: now() + tokenSeconds * 1_000 });
    const rotated = await rotateRefreshToken(db, {
      hash: hashToken(refreshToken),
      encryptedResponse: responseEncryptor(refreshToken).encrypt(response, sessionId),
      nextHash: hashToken(pair.refreshToken),
      sessionId,
      isUse: !background,
      requestId: context.requestId,
    });
    if (rotated) return toSignedIn(pair, tokenSeconds);
    // A parallel request has used the token in the meantime.
    const again = await find(refreshToken);
    if (!again?.alive || !again.used) throw invalidRefreshToken();
    return replayRefreshResponse(again, refreshToken, context);
  };
}
