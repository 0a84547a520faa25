/** The pair of tokens that a client gets when it signs in or refreshes. */
import { createHash, randomBytes } from "node:crypto";
import type { Role } from "@pm/kit/auth/access";
import type { Tokens } from "../tokens/access-tokens.ts";
import type { SecondFactors } from "../users/second-factor.ts";

export type TokenPair = {
  token: string;
  refreshToken: string;
  /** The user must set up a second factor. Until then, the token has no roles. */
  setUp: boolean;
};

/** The pair as the client gets it. */
export type SignedIn = {
  token: string;
  tokenType: "Bearer";
  expiresIn: number;
  refreshToken: string;
  secondFactorSetupRequired?: true;
};

export function toSignedIn({ token, refreshToken, setUp }: TokenPair, expiresIn: number): SignedIn {
  return { token, tokenType: "Bearer", expiresIn, refreshToken, ...(setUp && { secondFactorSetupRequired: true as const }) };
}

export type IssueTokenPair = (session: {
  id: string;
  userId: string;
  roles: Role[];
  teams: string[];
  /** The session has used a second factor. */
  secondFactor: boolean;
}) => Promise<TokenPair>;

export function createTokenPairs({ tokens, secondFactors }: { tokens: Tokens; secondFactors: SecondFactors }): IssueTokenPair {
  return async ({ id, userId, roles, teams, secondFactor }) => {
    const setUp = !secondFactor && secondFactors.isRequired(roles);
    const token = await tokens.forUser({ id: userId, sessionId: id, roles: setUp ? [] : roles, teams, secondFactor });
    return { token, refreshToken: randomBytes(32).toString("base64url"), setUp };
  };
}

/** A refresh token has 256 random bits, so a fast hash without salt is safe. */
export const hashToken = (token: string) => createHash("sha256").update(token).digest();
