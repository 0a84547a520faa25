/** Access tokens: their claims (RFC 9068), and the services that may have one. */
import { createHash, randomUUID, timingSafeEqual } from "node:crypto";
import {
  type ClientScope,
  clientSubject,
  type Role,
  roles as roleTable,
  type Scope,
  type ServiceName,
  serviceSubject,
  services,
} from "@pm/kit/auth/access";
import { SignJWT } from "jose";
import type { SigningKeys } from "./signing-keys.ts";

export type Tokens = {
  /** How long an access token is valid. */
  lifetimeSeconds: number;
  forUser(user: {
    id: string;
    sessionId: string;
    roles: readonly Role[];
    teams: readonly string[];
    /** The session has used a second factor. */
    secondFactor: boolean;
  }): Promise<string>;
  forService(name: ServiceName): Promise<string>;
  /**
   * @param client.sessionId ends all tokens of the client when it ends; @param client.scopes those that it asked for
   */
  forClient(client: { id: string; sessionId: string; scopes: readonly ClientScope[]; teams: readonly string[] }): Promise<string>;
};

/** `client_id` of the tokens of people, who sign in to the platform itself. RFC 9068 makes the claim mandatory. */
const firstParty = "first-party";

/** The scopes of several roles, each once, in the order of the access table. */
export function scopesOf(roles: readonly Role[]): Scope[] {
  return [...new Set(roles.flatMap((role) => roleTable[role]))];
}

export function createTokens(options: {
  keys: SigningKeys;
  issuer: string;
  audience: string;
  lifetimeSeconds: number;
  now: () => number;
}): Tokens {
  const { keys, issuer, audience, lifetimeSeconds, now } = options;

  async function sign(subject: string, claims: Record<string, unknown>): Promise<string> {
    const { kid, privateKey } = await keys.current();
    const issuedAt = Math.floor(now() / 1_000);
    return new SignJWT(claims)
      .setProtectedHeader({ alg: "ES256", typ: "at+jwt", kid })
      .setIssuer(issuer)
      .setAudience(audience)
      .setSubject(subject)
      .setJti(randomUUID())
      .setIssuedAt(issuedAt)
      .setExpirationTime(issuedAt + lifetimeSeconds)
      .sign(privateKey);
  }

  return {
    lifetimeSeconds,
    // `amr` is that of RFC 8176.
    forUser: ({ id, sessionId, roles, teams, secondFactor }) => {
      const amr = secondFactor ? ["pwd", "otp"] : ["pwd"];
      return sign(id, { client_id: firstParty, sid: sessionId, roles, scope: scopesOf(roles).join(" "), teams, amr });
    },
    forClient: ({ id, sessionId, scopes, teams }) =>
      sign(clientSubject(id), { client_id: id, sid: sessionId, scope: scopes.join(" "), teams }),
    forService: (name) => sign(serviceSubject(name), { client_id: name, scope: services[name].join(" ") }),
  };
}

/** The services that get tokens of their own. */
export type ServiceClients = {
  /** Returns the service with this id and secret, in a time that reveals neither. */
  authenticate(id: string, secret: string): ServiceName | undefined;
};

export function createServiceClients(secrets: Record<ServiceName, string>): ServiceClients {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  const expected = new Map(Object.entries(secrets).map(([name, secret]) => [name, digest(secret)]));
  const nobody = digest(randomUUID());
  return {
    authenticate(id, secret) {
      const known = expected.get(id);
      const matches = timingSafeEqual(known ?? nobody, digest(secret));
      return known && matches ? (id as ServiceName) : undefined;
    },
  };
}
