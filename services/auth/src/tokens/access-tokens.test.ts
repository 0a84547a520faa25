import { roles } from "@pm/kit/auth/access";
import { createRevocationList } from "@pm/kit/auth/revocation-list";
import { type Caller, createVerifier, requireSecondFactor } from "@pm/kit/auth/verifier";
import { decodeJwt, generateKeyPair, SignJWT } from "jose";
import { expect, test } from "vitest";
import { createServiceClients, createTokens, scopesOf } from "./access-tokens.ts";

const issuer = "http://gateway.example";
const audience = "patient-management";
const { publicKey, privateKey } = await generateKeyPair("ES256");
const keys = {
  jwks: async () => ({ keys: [] }),
  current: async () => ({ kid: "k", privateKey }),
  resolve: async () => publicKey,
  list: async () => [],
  rotate: () => Promise.reject(new Error("not here")),
  maintain: async () => undefined,
};
const tokens = createTokens({ keys, issuer, audience, lifetimeSeconds: 300, now: Date.now });
const verifier = createVerifier({ keys: keys.resolve, issuer, audience, revocations: createRevocationList() });
const claims = { sid: "s", roles: ["admin"], scope: "user:admin" };
const signed = (change: (jwt: SignJWT) => SignJWT = (jwt) => jwt, header: Record<string, string> = {}, key = privateKey) =>
  change(
    new SignJWT(claims)
      .setProtectedHeader({ alg: "ES256", typ: "at+jwt", kid: "k", ...header })
      .setIssuer(issuer)
      .setAudience(audience)
      .setSubject("u")
      .setIssuedAt()
      .setExpirationTime("5m"),
  ).sign(key);

test("a token says who it is and what he may do", async () => {
  const user = { id: "u", sessionId: "s", roles: ["billing" as const, "analyst" as const], teams: ["t"] };
  const token = await tokens.forUser({ ...user, secondFactor: false });
  const caller = await verifier.verify(`Bearer ${token}`);
  expect(caller).toMatchObject({ kind: "user", ...user, hasSecondFactor: false });
  expect([...caller.scopes]).toEqual(scopesOf(["billing", "analyst"]));
});

test("a token says whether its session was opened with a second factor", async () => {
  const user = { id: "u", sessionId: "s", roles: ["admin" as const], teams: [] };
  const [without, having] = await Promise.all(
    [false, true].map(async (secondFactor) => verifier.verify(`Bearer ${await tokens.forUser({ ...user, secondFactor })}`)),
  );
  expect(() => requireSecondFactor(without as Caller)).toThrow(expect.objectContaining({ code: "permission_denied" }));
  expect(() => requireSecondFactor(having as Caller)).not.toThrow();
});

test("a service's token has its scopes and no session", async () => {
  const caller = await verifier.verify(`Bearer ${await tokens.forService("patient")}`);
  expect(caller).toMatchObject({ kind: "service", id: "service:patient", sessionId: undefined, roles: [] });
  expect(caller.scopes.has("auth:internal")).toBe(true);
});

test("an API client's token has the client's id, the scopes that it asked for and its team", async () => {
  const client = { id: "c", sessionId: "s", scopes: ["patient:read" as const], teams: ["t"] };
  const caller = await verifier.verify(`Bearer ${await tokens.forClient(client)}`);
  expect(caller).toMatchObject({ kind: "client", id: "client:c", sessionId: "s", roles: [], teams: ["t"] });
  expect([...caller.scopes]).toEqual(["patient:read"]);
});

test("whose token has expired reads how to get the next one", async () => {
  const earlier = createTokens({ keys, issuer, audience, lifetimeSeconds: 300, now: () => Date.now() - 301_000 });
  const ofClient = await earlier.forClient({ id: "c", sessionId: "s", scopes: ["patient:read"], teams: [] });
  const ofUser = await earlier.forUser({ id: "u", sessionId: "s", roles: [], teams: [], secondFactor: false });
  await expect(verifier.verify(`Bearer ${ofClient}`)).rejects.toThrow("Get a new one from POST /auth/token.");
  await expect(verifier.verify(`Bearer ${ofUser}`)).rejects.toThrow("Refresh it or log in again.");
});

test("every token has the claims that RFC 9068 makes mandatory", async () => {
  const made = [
    await tokens.forUser({ id: "u", sessionId: "s", roles: [], teams: [], secondFactor: false }),
    await tokens.forClient({ id: "c", sessionId: "s", scopes: ["patient:read"], teams: [] }),
    await tokens.forService("patient"),
  ];
  expect(made.map((token) => decodeJwt(token).client_id)).toEqual(["first-party", "c", "patient"]);
  for (const token of made)
    expect(Object.keys(decodeJwt(token))).toEqual(expect.arrayContaining(["iss", "exp", "aud", "sub", "iat", "jti"]));
});

test("roles together give each scope once", () => {
  const scopes = scopesOf(Object.keys(roles) as (keyof typeof roles)[]);
  expect(new Set(scopes).size).toBe(scopes.length);
  expect(scopesOf([])).toEqual([]);
});

const other = await generateKeyPair("ES256");
const bad: Record<string, () => Promise<string>> = {
  "another issuer": () => signed((jwt) => jwt.setIssuer("http://elsewhere.example")),
  "another audience": () => signed((jwt) => jwt.setAudience("another")),
  "an expiry that has passed": () => signed((jwt) => jwt.setExpirationTime(Math.floor(Date.now() / 1_000) - 1)),
  "a start in the future": () => signed((jwt) => jwt.setNotBefore("1h")),
  "another type": () => signed(undefined, { typ: "JWT" }),
  "another key": () => signed(undefined, {}, other.privateKey),
  "no signature": async () => `${Buffer.from('{"alg":"none","typ":"at+jwt"}').toString("base64url")}.${(await signed()).split(".")[1]}.`,
  "another algorithm with the public key as its secret": async () =>
    new SignJWT(claims)
      .setProtectedHeader({ alg: "HS256", typ: "at+jwt" })
      .setIssuer(issuer)
      .setAudience(audience)
      .setSubject("u")
      .setIssuedAt()
      .setExpirationTime("5m")
      .sign(new TextEncoder().encode("public key")),
};
test.each(Object.keys(bad))("a token with %s is refused", async (name) => {
  await expect(verifier.verify(`Bearer ${await bad[name]?.()}`)).rejects.toMatchObject({ code: "unauthenticated" });
});

test("a token that names its own key, or where to fetch one, is verified with ours all the same", async () => {
  const forged = await signed(undefined, { jku: "http://evil.example/jwks.json" }, other.privateKey);
  await expect(verifier.verify(`Bearer ${forged}`)).rejects.toMatchObject({ code: "unauthenticated" });
});

test("client credentials hold for their own client only", () => {
  const clients = createServiceClients({ patient: "secret of patient", billing: "secret of billing", analytics: "secret of analytics" });
  expect(clients.authenticate("patient", "secret of patient")).toBe("patient");
  for (const [id, secret] of [
    ["patient", "secret of billing"],
    ["patient", ""],
    ["admin", "secret of patient"],
    ["", ""],
    ["__proto__", "x"],
  ] as const)
    expect(clients.authenticate(id, secret)).toBeUndefined();
});
