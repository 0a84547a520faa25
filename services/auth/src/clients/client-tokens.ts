/**
 * How an API client gets its access token: it proves itself by its secret, or by an assertion that it has signed
 * (RFC 7523). An error's `reason` is one of RFC 6749, in upper case.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import type { AuditTrail } from "@pm/kit/audit/trail";
import { type ClientScope, clientSubject } from "@pm/kit/auth/access";
import { AppError } from "@pm/kit/errors";
import { isUuid } from "@pm/kit/uuid";
import { createLocalJWKSet, errors, type JSONWebKeySet, jwtVerify } from "jose";
import { LRUCache } from "lru-cache";
import type { ClientContext } from "../client-address.ts";
import type { Throttle } from "../sessions/throttle.ts";
import type { AuthDatabase } from "../tables.ts";
import type { Tokens } from "../tokens/access-tokens.ts";
import type { UnitOfWork } from "../unit-of-work.ts";
import { hashSecret } from "./clients.ts";
import { assertionAlgorithms } from "./keys.ts";
import { ownScopes } from "./smart-scopes.ts";
import { type ClientCredentials, findCredentials, noteUse, useAssertion } from "./store.ts";

export type ClientProof = { secret: string } | { assertion: string };

export type ClientTokens = {
  /**
   * @param scope the scopes to get, separated by spaces; all of the client by default
   * @throws AppError unauthenticated, invalid_argument for a scope, resource_exhausted
   */
  issue(
    request: { clientId: string; proof: ClientProof; scope?: string | undefined },
    context: ClientContext,
  ): Promise<{ token: string; scope: string }>;
};

/** An id is a UUID. What is longer was made up, and is not kept. */
const maxIdLength = 36;
/** Clocks differ by this much. */
const toleranceSeconds = 30;
/** Libraries make assertions for a minute to an hour. Each is remembered until it expires. */
const maxAssertionSeconds = 3_600;

export const invalidClient = (message: string) => new AppError("unauthenticated", message, { reason: "INVALID_CLIENT" });
const unknownClient = () => invalidClient("The client is unknown or disabled, or its secret or key is another one.");

export function createClientTokens(options: {
  db: AuthDatabase;
  unitOfWork: UnitOfWork;
  throttle: Throttle;
  audit: AuditTrail;
  tokens: Tokens;
  /** What assertions may have as `aud`. */
  audiences: string[];
  now: () => number;
}): ClientTokens {
  const { db, unitOfWork, throttle, audit, tokens, audiences, now } = options;
  // A program that goes on after it was refused must not flood the audit trail.
  const recordedRefusals = new LRUCache<string, true>({ max: 10_000, ttl: 10_000 });

  const record = ({ requestId, address }: ClientContext, action: string, subject: string, because: string) =>
    audit.record({ actorId: "anonymous", action, subject, requestId, details: { address, because } });

  async function admit(clientId: string, context: ClientContext) {
    try {
      return await throttle.client(clientId, context.address);
    } catch (error) {
      const refusal = `${context.address} ${clientId.slice(0, maxIdLength)}`;
      if (error instanceof AppError && error.code === "resource_exhausted" && !recordedRefusals.has(refusal)) {
        recordedRefusals.set(refusal, true);
        await record(context, "excess_rate_limit_exceeded", "unknown", "THROTTLED");
      }
      throw error;
    }
  }

  /** Returns the claims of an assertion; undefined for a secret. @throws AppError unauthenticated */
  async function check(client: ClientCredentials, proof: ClientProof): Promise<Assertion | undefined> {
    if ("assertion" in proof) return checkAssertion(client, proof.assertion, { audiences, now: now() });
    if (!client.secret_hash || !timingSafeEqual(client.secret_hash, hashSecret(proof.secret))) throw unknownClient();
    return undefined;
  }

  /** @throws AppError unauthenticated for an assertion that was used before, or a client that has just changed */
  const store = (client: ClientCredentials, scope: string, assertion: Assertion | undefined, context: ClientContext) =>
    unitOfWork.run({ ...context, actorId: clientSubject(client.id) }, async (change) => {
      if (!(await noteUse(change.tx, client))) throw unknownClient();
      if (assertion && !(await useAssertion(change.tx, { clientId: client.id, ...assertion })))
        throw invalidClient("The assertion was used before. Make a new one, with another jti, for each request.");
      change.audit("authn_token_created", clientSubject(client.id), { scope });
    });

  return {
    async issue({ clientId, proof, scope }, context) {
      const attempt = await admit(clientId, context);
      const client = isUuid(clientId) ? await findCredentials(db, clientId) : undefined;
      try {
        if (!client) throw unknownClient();
        const assertion = await check(client, proof);
        const scopes = chooseScopes(client.scopes, scope);
        await store(client, scopes.join(" "), assertion, context);
        await attempt.succeeded();
        const teams = client.team_id === null ? [] : [client.team_id];
        return { token: await tokens.forClient({ id: client.id, sessionId: client.session_id, scopes, teams }), scope: scopes.join(" ") };
      } catch (error) {
        if (!(error instanceof AppError) || error.code !== "unauthenticated") await attempt.undo();
        else await record(context, "authn_login_fail", client ? clientSubject(client.id) : "unknown", "CREDENTIALS");
        throw error;
      }
    },
  };
}

type Assertion = { jtiHash: Buffer; expiresAt: Date };

/** @throws AppError unauthenticated. Once the signature is right, it tells what else is wrong. */
async function checkAssertion(
  { id, jwks }: ClientCredentials,
  assertion: string,
  { audiences, now }: { audiences: string[]; now: number },
): Promise<Assertion> {
  if (!jwks) throw unknownClient();
  const { payload } = await jwtVerify(assertion, createLocalJWKSet(jwks as JSONWebKeySet), {
    algorithms: assertionAlgorithms,
    ...{ issuer: id, subject: id, audience: audiences, requiredClaims: ["exp"] },
    clockTolerance: toleranceSeconds,
    currentDate: new Date(now),
  }).catch((error: unknown) => {
    if (error instanceof errors.JWTExpired) throw invalidClient("The assertion has expired. Make a new one for each request.");
    if (error instanceof errors.JWTClaimValidationFailed) throw wrongClaim(error.claim, id, audiences);
    throw unknownClient();
  });
  const { jti, exp = 0 } = payload;
  // An assertion for somebody else too could be sent on to us by them.
  if (![payload.aud].flat().every((audience) => audiences.includes(String(audience)))) throw wrongClaim("aud", id, audiences);
  if (typeof jti !== "string" || jti === "") throw wrongClaim("jti", id, audiences);
  if (exp > now / 1_000 + maxAssertionSeconds + toleranceSeconds) throw wrongClaim("exp", id, audiences);
  return { jtiHash: createHash("sha256").update(jti).digest(), expiresAt: new Date((exp + toleranceSeconds) * 1_000) };
}

function wrongClaim(claim: string, id: string, audiences: string[]): AppError {
  const fixes: Record<string, string> = {
    iss: `must be the client id ${id}`,
    sub: `must be the client id ${id}`,
    aud: `must be ${audiences.join(" or ")}, and nothing else`,
    jti: "must be a text that no other assertion has",
    exp: `must be a time within the next ${maxAssertionSeconds / 60} minutes`,
  };
  return invalidClient(`The assertion's ${claim} ${fixes[claim] ?? "is wrong"}.`);
}

/**
 * FHIR clients name types and rights; of these a client gets what it has.
 * @throws AppError invalid_argument for another scope that the client does not have, and if nothing is left
 */
function chooseScopes(own: ClientScope[], wanted = ""): ClientScope[] {
  const names = wanted.split(" ").filter(Boolean);
  const asked = new Set(names.flatMap((name) => ownScopes(name) ?? [name]));
  const chosen = names.length === 0 ? own : own.filter((scope) => asked.has(scope));
  const isRefused = names.some((name) => !ownScopes(name) && !(own as string[]).includes(name));
  if (isRefused || chosen.length === 0)
    throw new AppError("invalid_argument", `The client has the scopes ${own.join(" ")} and no other.`, { reason: "INVALID_SCOPE" });
  return chosen;
}
