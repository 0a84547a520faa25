/** API clients: registered by administrators, they get tokens without a person. */
import { randomUUID } from "node:crypto";
import { decodeJwt, exportJWK, generateKeyPair, type JWTPayload, SignJWT } from "jose";
import { afterAll, beforeAll, expect, test } from "vitest";
import { freshEmail, from, secrets, startAuth } from "./testing.ts";

const auth = await startAuth();
afterAll(() => auth.stop());

const issuer = "http://localhost:4004";
const form = { "content-type": "application/x-www-form-urlencoded" };
const grant = { grant_type: "client_credentials" };
const jwtBearer = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
let admin = "";
beforeAll(async () => {
  admin = (await auth.login()).token;
});

type Client = { id: string; secret: string };
const asAdmin = (method: string, path: string, body?: unknown) => auth.call(method, path, { token: admin, body });
async function register(body: object = {}): Promise<Client> {
  const made = await asAdmin("POST", "/auth/clients", {
    name: `Program ${randomUUID()}`,
    scopes: ["patient:read", "billing:read"],
    ...body,
  });
  expect(made.status, JSON.stringify(made.body)).toBe(201);
  return made.body as Client;
}
const ask = (body: Record<string, string>, headers: Record<string, string> = {}) =>
  auth.call("POST", "/auth/token", { headers: { ...form, ...headers }, body: new URLSearchParams({ ...grant, ...body }).toString() });
const askBySecret = ({ id, secret }: Client, more = {}) => ask({ client_id: id, client_secret: secret, ...more });
const basic = (id: string, secret: string) => ({ authorization: `Basic ${Buffer.from(`${id}:${secret}`).toString("base64")}` });
const tokenOf = async (client: Client) => String((await askBySecret(client)).body.access_token);
const statusOf = async (token: string) => (await auth.call("GET", "/auth/validate", { token })).status;

test("an administrator registers a client, whose secret is shown once", async () => {
  const name = `Laboratory ${randomUUID()}`;
  const made = await asAdmin("POST", "/auth/clients", { name, scopes: ["patient:read", "patient:read"] });
  expect(made.headers.get("location")).toBe(`/auth/clients/${made.body.id}`);
  const { secret, ...client } = made.body;
  expect(secret).toMatch(/^[\w-]{43}$/);
  expect(client).toMatchObject({ name, scopes: ["patient:read"], authentication: "client_secret", state: "active" });
  expect((await asAdmin("GET", `/auth/clients/${client.id}`)).body).toEqual(client);
  const first = (await asAdmin("GET", "/auth/clients?limit=1")).body as { items: object[]; nextCursor?: string };
  expect(first.items).toHaveLength(1);
  const listed = JSON.stringify((await asAdmin("GET", "/auth/clients?limit=200")).body);
  expect(listed).toContain(client.id);
  expect(listed).not.toContain(secret);
  const { rows } = await auth.owner.query("select to_jsonb(c)::text as text from api_clients c");
  expect(rows.some(({ text }) => text.includes(secret) || text.includes(Buffer.from(String(secret)).toString("hex")))).toBe(false);
  expect(await asAdmin("POST", "/auth/clients", { name, scopes: ["patient:read"] })).toMatchObject({
    status: 409,
    body: { errors: [{ path: "name" }] },
  });
});

test("a client gets its token by Basic or by form, with its scopes or those it asks for", async () => {
  const client = await register();
  const answer = await ask({}, { ...basic(client.id, client.secret), ...from("203.0.113.7") });
  expect(answer).toMatchObject({ status: 200, body: { token_type: "Bearer", expires_in: 300, scope: "patient:read billing:read" } });
  expect(answer.headers.get("cache-control")).toBe("no-store");
  const claims = decodeJwt(String(answer.body.access_token));
  expect(claims).toMatchObject({ sub: `client:${client.id}`, client_id: client.id, scope: "patient:read billing:read", iss: issuer });
  expect(claims).not.toHaveProperty("roles");
  const some = await askBySecret(client, { scope: "billing:read" });
  expect(decodeJwt(String(some.body.access_token)).scope).toBe("billing:read");
  expect((await asAdmin("GET", `/auth/clients/${client.id}`)).body.lastUsedAt).toBeTruthy();
  const { rows } = await auth.pool.query(
    "select actor, details from audit_entries where action = 'authn_token_created' and subject = $1 order by id",
    [claims.sub],
  );
  expect(rows).toEqual([
    { actor: claims.sub, details: { scope: "patient:read billing:read", address: "203.0.113.7" } },
    { actor: claims.sub, details: { scope: "billing:read", address: "127.0.0.1" } },
  ]);
});

test("a FHIR client that names types and rights gets those of its own scopes", async () => {
  const { id, secret } = await register();
  const { body } = await ask({ client_id: id, client_secret: secret, scope: "system/Patient.rs system/Condition.read" });
  expect(body).toMatchObject({ scope: "patient:read" });
});

test("what is wrong with a request is said as RFC 6749 writes it", async () => {
  const { id, secret } = await register();
  const proof = { client_id: id, client_secret: secret };
  const wrong: [Awaited<ReturnType<typeof ask>>, number, string][] = [
    [await ask({ ...proof, grant_type: "password" }), 400, "unsupported_grant_type"],
    [await auth.call("POST", "/auth/token"), 400, "invalid_request"],
    [await ask({ ...proof, scope: "patient:write" }), 400, "invalid_scope"],
    [await ask({ ...proof, scope: "system/Condition.read" }), 400, "invalid_scope"],
    [await ask({}, basic(id, "x")), 401, "invalid_client"],
    [await ask({ ...proof, client_secret: "x" }), 400, "invalid_client"],
    [await ask({ ...proof, client_id: randomUUID() }), 400, "invalid_client"],
    [await ask({ ...proof, client_id: "nobody" }), 400, "invalid_client"],
    [await ask({}), 400, "invalid_client"],
    [await ask({ client_id: id }), 400, "invalid_client"],
    [await ask(proof, basic(id, secret)), 400, "invalid_request"],
    [await ask({ client_id: randomUUID() }, basic(id, secret)), 400, "invalid_request"],
    [await ask({ client_assertion: "x.y.z", client_assertion_type: jwtBearer }), 400, "invalid_request"],
    [await ask({ client_assertion: "x.y.z" }), 400, "invalid_request"],
  ];
  for (const [answer, status, error] of wrong) {
    expect(answer).toMatchObject({ status, body: { error, error_description: expect.stringMatching(/^[^"\\]+$/) } });
    expect(answer.headers.get("www-authenticate")).toBe(status === 401 ? 'Basic realm="auth"' : null);
  }
  const { rows } = await auth.pool.query("select details from audit_entries where action = 'authn_login_fail' and subject = $1", [
    `client:${id}`,
  ]);
  expect(rows).toEqual([{ details: { address: "127.0.0.1", because: "CREDENTIALS" } }, expect.anything(), expect.anything()]);
});

const pairs = {
  RS256: await generateKeyPair("RS256"),
  RS384: await generateKeyPair("RS384"),
  PS256: await generateKeyPair("PS256"),
  ES256: await generateKeyPair("ES256"),
  ES384: await generateKeyPair("ES384"),
  EdDSA: await generateKeyPair("EdDSA"),
  Ed25519: await generateKeyPair("Ed25519"),
};
type Algorithm = keyof typeof pairs;
const jwks = async (...algorithms: Algorithm[]) => ({
  keys: await Promise.all(algorithms.map(async (alg) => ({ ...(await exportJWK(pairs[alg].publicKey)), kid: alg, alg }))),
});
const assertion = (id: string, alg: Algorithm, claims: JWTPayload = {}, kid: string = alg) =>
  new SignJWT({ iss: id, sub: id, aud: `${issuer}/auth/token`, jti: randomUUID(), exp: Math.floor(Date.now() / 1_000) + 60, ...claims })
    .setProtectedHeader({ alg, kid })
    .sign(pairs[alg].privateKey);
const askByAssertion = (signed: string, more = {}) => ask({ client_assertion: signed, client_assertion_type: jwtBearer, ...more });

test("a client proves itself by assertions of every algorithm that is offered, each of which works once", async () => {
  const algorithms = Object.keys(pairs) as Algorithm[];
  const { id, secret } = await register({ jwks: await jwks(...algorithms) });
  expect(secret).toBeUndefined();
  for (const alg of algorithms) {
    const signed = await assertion(id, alg);
    expect([alg, (await askByAssertion(signed)).status]).toEqual([alg, 200]);
    expect([alg, await askByAssertion(signed)]).toMatchObject([alg, { status: 400, body: { error: "invalid_client" } }]);
  }
  // Libraries call Ed25519 by either name.
  const otherName = await new SignJWT({ iss: id, sub: id, aud: issuer, jti: "1" })
    .setExpirationTime("1m")
    .setProtectedHeader({ alg: "Ed25519", kid: "EdDSA" })
    .sign(pairs.EdDSA.privateKey);
  expect((await askByAssertion(otherName)).status).toBe(200);
  const parallel = await assertion(id, "ES384", { aud: issuer });
  const statuses = (await Promise.all(Array.from({ length: 10 }, () => askByAssertion(parallel)))).map(({ status }) => status);
  expect(statuses.filter((status) => status === 200)).toHaveLength(1);
  expect((await ask({ client_id: id, client_secret: "" })).status).toBe(400);
  expect((await askByAssertion(await assertion(id, "RS384"), { client_id: randomUUID() })).body.error).toBe("invalid_request");
});

test("an assertion that is not for us, not now, not once or not by the client's key is refused, and its signer learns why", async () => {
  const { id } = await register({ jwks: await jwks("ES384") });
  const other = await register({ jwks: await jwks("RS256") });
  const seconds = Math.floor(Date.now() / 1_000);
  const wrong: [string, Promise<string>, RegExp][] = [
    ["another audience", assertion(id, "ES384", { aud: "https://elsewhere.example" }), /aud must be/],
    ["a second audience", assertion(id, "ES384", { aud: [issuer, "https://elsewhere.example"] }), /aud must be/],
    ["no audience", assertion(id, "ES384", { aud: undefined as never }), /aud must be/],
    ["an expiry that has passed", assertion(id, "ES384", { exp: seconds - 31 }), /has expired/],
    ["an expiry that is far", assertion(id, "ES384", { exp: seconds + 3_700 }), /exp must be/],
    ["no expiry", assertion(id, "ES384", { exp: undefined as never }), /exp must be/],
    ["a start in the future", assertion(id, "ES384", { nbf: seconds + 60 }), /nbf is wrong/],
    ["no jti", assertion(id, "ES384", { jti: undefined as never }), /jti must be/],
    ["another issuer", assertion(id, "ES384", { iss: other.id }), /iss must be/],
    ["the key of another client", assertion(other.id, "ES384"), /another one/],
    ["a key under another name", assertion(id, "RS256", {}, "ES384"), /another one/],
    [
      "no signature",
      assertion(id, "ES384").then((signed) => `${Buffer.from('{"alg":"none"}').toString("base64url")}.${signed.split(".")[1]}.`),
      /another one/,
    ],
    [
      "the public key as a shared secret",
      new SignJWT({ aud: issuer, jti: "1" })
        .setIssuer(id)
        .setSubject(id)
        .setExpirationTime("1m")
        .setProtectedHeader({ alg: "HS256", kid: "ES384" })
        .sign(new TextEncoder().encode(JSON.stringify(await exportJWK(pairs.ES384.publicKey)))),
      /another one/,
    ],
  ];
  for (const [name, signed, why] of wrong)
    expect([name, await askByAssertion(await signed)]).toMatchObject([
      name,
      { status: 400, body: { error: "invalid_client", error_description: expect.stringMatching(why) } },
    ]);
});

test("keys that are private, weak, unknown or not told apart are refused by name", async () => {
  const [key] = (await jwks("ES384")).keys;
  const rsa1024 = await exportJWK((await crypto.subtle.generateKey({ ...rsa, modulusLength: 1_024 }, true, ["sign", "verify"])).publicKey);
  const wrong: [object[], string, RegExp][] = [
    [[await exportJWK((await generateKeyPair("ES256", { extractable: true })).privateKey)], "jwks.keys[0]", /private part/],
    [[{ kty: "oct", k: "c2VjcmV0" }], "jwks.keys[0].kty", /./],
    [[{ ...key, crv: "P-521" }], "jwks.keys[0]", /curves/],
    [[{ ...key, alg: "ES256" }], "jwks.keys[0]", /alg/],
    [[{ ...key, use: "enc" }], "jwks.keys[0]", /signatures/],
    [[{ ...key, x: "AAAA" }], "jwks.keys[0].x", /48 bytes/],
    [[{ ...key, x: Buffer.alloc(48, 255).toString("base64url") }], "jwks.keys[0]", /not a valid key/],
    [[{ ...key, crv: undefined }], "jwks.keys[0].crv", /is required/],
    [[{ ...key, y: undefined }], "jwks.keys[0].y", /is required/],
    [[{ ...rsa1024, n: undefined }], "jwks.keys[0].n", /is required/],
    [[rsa1024], "jwks.keys[0]", /2,048/],
    [[{ ...key }, { ...key }], "jwks.keys", /kid/],
    [[], "jwks.keys", /./],
  ];
  for (const [keys, path, message] of wrong)
    expect([path, await asAdmin("POST", "/auth/clients", { name: "x", scopes: ["patient:read"], jwks: { keys } })]).toMatchObject([
      path,
      { status: 400, body: { errors: [{ path, message: expect.stringMatching(message) }] } },
    ]);
  const extra = await register({ jwks: { keys: [{ ...key, x5c: ["MIIC"], ext: true }] } });
  expect((await asAdmin("GET", `/auth/clients/${extra.id}`)).body.jwks).toEqual({ keys: [key] });
});
const rsa = { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256", publicExponent: new Uint8Array([1, 0, 1]) };

test("whatever changes what a client may do makes its tokens void at once, and the snapshot names them", async () => {
  const { id: teamId } = (await asAdmin("POST", "/auth/teams", { name: `Ward ${randomUUID()}` })).body;
  const ways: Record<string, (client: Client) => Promise<unknown>> = {
    "another secret": ({ id }) => asAdmin("POST", `/auth/clients/${id}:rotateSecret`),
    disabled: ({ id }) => asAdmin("POST", `/auth/clients/${id}:disable`),
    "other scopes": ({ id }) => asAdmin("PATCH", `/auth/clients/${id}`, { scopes: ["billing:read"] }),
    "no team": ({ id }) => asAdmin("PATCH", `/auth/clients/${id}`, { teamId: null }),
    keys: async ({ id }) => asAdmin("PATCH", `/auth/clients/${id}`, { jwks: await jwks("ES256") }),
    deleted: ({ id }) => asAdmin("DELETE", `/auth/clients/${id}`),
    "the team deleted": () => asAdmin("DELETE", `/auth/teams/${teamId}`),
  };
  for (const [name, change] of Object.entries(ways)) {
    const client = await register({ teamId });
    const token = await tokenOf(client);
    expect(decodeJwt(token).teams).toEqual([teamId]);
    expect([name, await statusOf(token)]).toEqual([name, 200]);
    await change(client);
    expect([name, await statusOf(token)]).toEqual([name, 401]);
    const service = await auth.call("POST", "/auth/token", {
      headers: { ...form, ...basic("patient", secrets.patient) },
      body: String(new URLSearchParams(grant)),
    });
    // Requests for the snapshot share an answer for a second.
    await expect
      .poll(async () => JSON.stringify((await auth.call("GET", "/auth/revocations", { token: String(service.body.access_token) })).body), {
        timeout: 3_000,
      })
      .toContain(decodeJwt(token).sid);
  }
});

test("a new name and what is no change leave tokens valid; a former secret gets none, a new one does; a disabled client gets none until enabled", async () => {
  const client = await register();
  const token = await tokenOf(client);
  await asAdmin("PATCH", `/auth/clients/${client.id}`, { name: `Renamed ${client.id}` });
  for (const same of [{}, { scopes: ["billing:read", "patient:read"] }, { teamId: null, name: `Renamed ${client.id}` }])
    expect((await asAdmin("PATCH", `/auth/clients/${client.id}`, same)).status).toBe(200);
  expect(await statusOf(token)).toBe(200);
  const { secret } = (await asAdmin("POST", `/auth/clients/${client.id}:rotateSecret`)).body as Client;
  expect((await askBySecret(client)).status).toBe(400);
  const renewed = { id: client.id, secret };
  expect(await statusOf(await tokenOf(renewed))).toBe(200);
  await asAdmin("POST", `/auth/clients/${client.id}:disable`);
  expect((await askBySecret(renewed)).status).toBe(400);
  await asAdmin("POST", `/auth/clients/${client.id}:enable`);
  expect(await statusOf(await tokenOf(renewed))).toBe(200);
  await asAdmin("DELETE", `/auth/clients/${client.id}`);
  expect((await askBySecret(renewed)).status).toBe(400);
  for (const method of ["GET", "DELETE"]) expect((await asAdmin(method, `/auth/clients/${client.id}`)).status).toBe(404);
  const { rows } = await auth.pool.query("select action from audit_entries where subject = $1 and actor = $2 order by id", [
    `client:${client.id}`,
    decodeJwt(admin).sub,
  ]);
  const revoked = "authn_token_revoked";
  expect(rows.map(({ action }) => action)).toEqual([
    ...["authz_client_created", "authz_client_updated", "authn_client_secret_change", revoked],
    ...["authz_client_disabled", revoked, "authz_client_enabled", revoked, "authz_client_deleted"],
  ]);
});

test("a client with keys has no secret to rotate, and no client has user:admin or a team beside patient:all", async () => {
  const { id } = await register({ jwks: await jwks("ES256") });
  expect((await asAdmin("POST", `/auth/clients/${id}:rotateSecret`)).status).toBe(409);
  const { id: teamId } = (await asAdmin("POST", "/auth/teams", { name: `Ward ${randomUUID()}` })).body;
  const wrong: [object, string][] = [
    [{ scopes: ["user:admin"] }, "scopes[0]"],
    [{ scopes: ["internal:totals"] }, "scopes[0]"],
    [{ scopes: [] }, "scopes"],
    [{ scopes: ["patient:all"], teamId }, "teamId"],
    [{ scopes: ["patient:read"], teamId: randomUUID() }, "teamId"],
  ];
  for (const [body, path] of wrong)
    expect(await asAdmin("POST", "/auth/clients", { name: `N ${randomUUID()}`, ...body })).toMatchObject({
      status: 400,
      body: { errors: [{ path }] },
    });
});

test("a client has no account and manages nobody, and only administrators manage clients", async () => {
  const token = await tokenOf(await register());
  expect(await auth.call("GET", "/auth/me", { token })).toMatchObject({ status: 403 });
  expect(await auth.call("GET", "/auth/sessions", { token })).toMatchObject({ status: 403 });
  expect(await auth.call("POST", "/auth/logout", { token })).toMatchObject({ status: 403 });
  const refused = await auth.call("GET", "/auth/clients", { token });
  expect(refused).toMatchObject({ status: 403, body: { detail: "This needs the scope user:admin, which this API client does not have." } });
  const email = freshEmail();
  const password = "correct horse battery";
  await asAdmin("POST", "/auth/users", { email, role: "user", password });
  const user = await auth.login({ email, password });
  expect((await auth.call("GET", "/auth/clients", { token: user.token })).status).toBe(403);
});

test("the secret of a service gets nothing through the gateway", async () => {
  const inside = await ask({}, basic("patient", secrets.patient));
  expect(inside.status).toBe(200);
  const outside = await ask({}, { ...basic("patient", secrets.patient), ...from("203.0.113.9") });
  expect(outside).toMatchObject({ status: 401, body: { error: "invalid_client" } });
});

test("a client that goes on with a wrong secret has to wait, its other addresses and people do not", async () => {
  const client = await register();
  const address = from("203.0.113.50");
  const guess = () => ask({ client_id: client.id, client_secret: "wrong" }, address);
  const answers = await Promise.all(Array.from({ length: 60 }, guess));
  const statuses = answers.map(({ status }) => status);
  expect(statuses.filter((status) => status === 400)).toHaveLength(51);
  const refused = await guess();
  expect(refused).toMatchObject({ status: 429, body: { error: "temporarily_unavailable" } });
  expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
  expect((await askBySecret(client)).status).toBe(200);
  const body = { email: "admin@example.com", password: "the-first-password" };
  expect((await auth.call("POST", "/auth/login", { body, headers: address })).status).toBe(200);
  const { rows } = await auth.pool.query("select count(*)::int as n from audit_entries where action = 'excess_rate_limit_exceeded'");
  expect(rows).toEqual([{ n: 1 }]);
});

test("a hundred workers of a client that start together all get a token", async () => {
  const client = await register();
  for (let batch = 0; batch < 4; batch++) {
    const answers = await Promise.all(Array.from({ length: 25 }, () => askBySecret(client)));
    expect(answers.every(({ status }) => status === 200)).toBe(true);
  }
});
