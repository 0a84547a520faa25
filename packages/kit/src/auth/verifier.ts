/** Verification of access tokens. Every service verifies the token of every caller itself. */
import { createRemoteJWKSet, errors, type JWTVerifyGetKey, jwtVerify } from "jose";
import { LRUCache } from "lru-cache";
import { z } from "zod";
import { AppError } from "../errors.ts";
import { type Access, type CallerKind, kindOf, type Role, roles, type Scope } from "./access.ts";

/** Who calls. */
export type Caller = {
  kind: CallerKind;
  /** `sub`. */
  id: string;
  /** `sid`; services have none. That of an API client ends what all its tokens may do. */
  sessionId: string | undefined;
  roles: readonly Role[];
  scopes: ReadonlySet<Scope>;
  /** Teams of the user or API client, for per-patient access. */
  teams: readonly string[];
  /** Whether the session of the user was opened with a second factor. */
  hasSecondFactor: boolean;
  /** The token itself, to be passed on when this service acts for the caller. */
  token: string;
  /** Seconds since the epoch. */
  issuedAt: number;
  expiresAt: number;
};

const claimsSchema = z.object({
  sub: z.string().min(1),
  sid: z.string().optional(),
  scope: z.string().default(""),
  roles: z.array(z.enum(Object.keys(roles) as [Role, ...Role[]])).default([]),
  teams: z.array(z.string()).default([]),
  amr: z.array(z.string()).default([]),
  iat: z.number(),
  exp: z.number(),
});

/** What a revocation may concern: a session, or all tokens that a user was issued before a moment. */
export type Bearer = { sessionId: string | undefined; userId: string; issuedAt: number };

/** Whose tokens were revoked. Every request asks, so it answers from memory. */
export type KnownRevocations = {
  isRevoked(bearer: Bearer): boolean;
  /** Calls `end` once, when the bearer's session ends, or at once if it has. Returns a function to stop waiting. */
  onRevoked(bearer: Bearer, end: () => void): () => void;
};

export type Verifier = {
  /**
   * Verifies an `Authorization` header.
   * @throws AppError unauthenticated without a valid bearer token, unavailable if the signing keys cannot be fetched
   */
  verify(authorization: string | null | undefined): Promise<Caller>;
  /**
   * For calls that may outlive their token: calls `end` once, with the error for the caller, when the caller's session
   * ends. A token that expires ends nothing. Returns a function that stops waiting.
   */
  onRevoked(caller: Caller, end: (refusal: AppError) => void): () => void;
};

/** Where signing keys come from: auth's JWKS over HTTP or, in auth itself, its own keys. */
type KeySource = { authUrl: string } | { keys: JWTVerifyGetKey };

/**
 * Verifies ES256 access tokens (RFC 9068) by auth's keys. Verified tokens are kept in a bounded cache, because a
 * signature check costs more than the rest of a read together.
 */
export function createVerifier(options: KeySource & { issuer: string; audience: string; revocations: KnownRevocations }): Verifier {
  const { revocations } = options;
  const keys =
    "keys" in options
      ? options.keys
      : createRemoteJWKSet(new URL(`${options.authUrl}/.well-known/jwks.json`), { cooldownDuration: 1_000, timeoutDuration: 3_000 });
  const verified = new LRUCache<string, Caller>({ max: 10_000 });

  async function check(token: string): Promise<Caller> {
    const { payload } = await jwtVerify(token, keys, {
      algorithms: ["ES256"],
      typ: "at+jwt",
      issuer: options.issuer,
      audience: options.audience,
    });
    const claims = claimsSchema.parse(payload);
    return {
      kind: kindOf(claims.sub),
      id: claims.sub,
      sessionId: claims.sid,
      roles: claims.roles,
      scopes: new Set(claims.scope.split(" ").filter(Boolean) as Scope[]),
      teams: claims.teams,
      hasSecondFactor: claims.amr.includes("otp"),
      token,
      issuedAt: claims.iat,
      expiresAt: claims.exp,
    };
  }

  const bearerOf = ({ sessionId, id, issuedAt }: Caller): Bearer => ({ sessionId, userId: id, issuedAt });
  const sessionEnded = ({ kind }: Caller) =>
    new AppError(
      "unauthenticated",
      kind === "client"
        ? `This token is void, because the API client has changed. ${renewals.client}`
        : "This session has ended. Log in again.",
    );

  return {
    async verify(authorization) {
      const token = /^Bearer ([\w-]+\.[\w-]+\.[\w-]+)$/i.exec(authorization ?? "")?.[1];
      if (!token) throw new AppError("unauthenticated", "Send an access token: `Authorization: Bearer <token>` from POST /auth/login.");
      let caller = verified.get(token);
      if (!caller) {
        caller = await check(token).catch((error: unknown) => {
          throw asAppError(error);
        });
        verified.set(token, caller);
      }
      if (caller.expiresAt <= Date.now() / 1_000) throw expired(caller.kind);
      if (revocations.isRevoked(bearerOf(caller))) throw sessionEnded(caller);
      return caller;
    },
    onRevoked: (caller, end) => revocations.onRevoked(bearerOf(caller), () => end(sessionEnded(caller))),
  };
}

/** How each kind of caller gets the next token. */
const renewals: Record<CallerKind, string> = {
  user: "Refresh it or log in again.",
  client: "Get a new one from POST /auth/token.",
  service: "Get a new one from POST /auth/token.",
};
const expired = (kind: CallerKind) => new AppError("unauthenticated", `The access token has expired. ${renewals[kind]}`);

/** An invalid token is the caller's mistake; keys that cannot be fetched are not. */
function asAppError(error: unknown): AppError {
  const unreachable =
    error instanceof errors.JWKSTimeout ||
    error instanceof TypeError ||
    (error instanceof errors.JOSEError && error.code === "ERR_JOSE_GENERIC");
  if (unreachable)
    return new AppError("unavailable", "Tokens cannot be verified right now. Try again shortly.", { cause: error, retryAfterSeconds: 1 });
  if (error instanceof errors.JWTExpired) return expired(kindOf(error.payload.sub ?? ""));
  return new AppError("unauthenticated", "The access token is not valid. Log in again.", { cause: error });
}

/** @throws AppError permission_denied if the caller lacks the scope that an operation needs */
export function authorize(caller: Caller, access: Access): void {
  if (access === "public" || access === "signed-in" || caller.scopes.has(access)) return;
  const options = { metadata: { scope: access }, refused: { actorId: caller.id } };
  const why = caller.kind === "client" ? "which this API client does not have" : "which your roles do not give";
  throw new AppError("permission_denied", `This needs the scope ${access}, ${why}.`, options);
}

/** @throws AppError permission_denied if the caller's session was opened without a second factor */
export function requireSecondFactor(caller: Caller): void {
  if (caller.hasSecondFactor) return;
  const message =
    "This needs a second factor. Set one up by POST /auth/mfa/totp, then log in with a code, or refresh if you have just set it up.";
  throw new AppError("permission_denied", message, { reason: "SECOND_FACTOR_REQUIRED", refused: { actorId: caller.id } });
}
