import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import { text } from "node:stream/consumers";
import { createLocalJWKSet, decodeJwt, decodeProtectedHeader, type JSONWebKeySet, jwtVerify } from "jose";
import { afterAll, expect, test } from "vitest";
import { admin, secrets, startAuth } from "./testing.ts";

const auth = await startAuth({ REFRESH_GRACE_SECONDS: "2" });
afterAll(() => auth.stop());

test("the first administrator signs in and gets an ES256 token that the published keys verify", async () => {
  const { status, body, headers } = await auth.call("POST", "/auth/login", { body: admin });
  expect(status).toBe(200);
  expect(headers.get("cache-control")).toBe("no-store");
  expect(body).toEqual({ token: expect.any(String), tokenType: "Bearer", expiresIn: 300, refreshToken: expect.any(String) });
  const token = String(body.token);
  expect(decodeProtectedHeader(token)).toEqual({ alg: "ES256", typ: "at+jwt", kid: expect.any(String) });

  const jwks = await auth.call("GET", "/.well-known/jwks.json");
  expect(jwks.headers.get("cache-control")).toBe("public, max-age=60");
  expect(JSON.stringify(jwks.body)).not.toContain('"d"');
  const keySet = createLocalJWKSet(jwks.body as unknown as JSONWebKeySet);
  const { payload } = await jwtVerify(token, keySet, { issuer: "http://localhost:4004", audience: "patient-management", typ: "at+jwt" });
  expect(payload).toMatchObject({ sid: expect.any(String), jti: expect.any(String), roles: ["admin"], teams: [] });
  expect(payload.scope).toContain("user:admin");
  expect((payload.exp ?? 0) - (payload.iat ?? 0)).toBe(300);
});

test("e-mail addresses are the same in any case", async () => {
  expect((await auth.call("POST", "/auth/login", { body: { ...admin, email: "ADMIN@Example.com" } })).status).toBe(200);
});

test("an unknown account and a wrong password get the same answer", async () => {
  const wrong = await auth.call("POST", "/auth/login", { body: { ...admin, password: "not-the-password" } });
  const unknown = await auth.call("POST", "/auth/login", { body: { email: "nobody@example.com", password: "not-the-password" } });
  expect(wrong.status).toBe(401);
  const { requestId: _, ...first } = wrong.body;
  const { requestId: __, ...second } = unknown.body;
  expect(second).toEqual(first);
});

test.each([
  ["no body", undefined, 400],
  ["not JSON", "{", 400],
  ["no password", { email: admin.email }, 400],
  ["no e-mail", { password: "x" }, 400],
  ["a number as password", { email: admin.email, password: 1 }, 400],
])("login with %s is refused as a problem", async (_, body, status) => {
  const answer = await auth.call("POST", "/auth/login", { body });
  expect(answer.status).toBe(status);
  expect(answer.headers.get("content-type")).toBe("application/problem+json");
});

test("a valid token is validated and tells who it is; none and a changed one are not", async () => {
  const { token } = await auth.login();
  expect(await auth.call("GET", "/auth/validate", { token })).toMatchObject({ status: 200, body: { valid: true, roles: ["admin"] } });
  expect(await auth.call("GET", "/auth/me", { token })).toMatchObject({ status: 200, body: { email: admin.email, roles: ["admin"] } });
  expect((await auth.call("GET", "/auth/validate")).status).toBe(401);
  expect((await auth.call("GET", "/auth/validate", { token: `${token.slice(0, -4)}AAAA` })).status).toBe(401);
});

test("fifty refreshes at once give one successor, and it goes on working", async () => {
  const { refreshToken } = await auth.login();
  const answers = await Promise.all(Array.from({ length: 50 }, () => auth.call("POST", "/auth/refresh", { body: { refreshToken } })));
  expect(new Set(answers.map((answer) => answer.status))).toEqual(new Set([200]));
  expect(new Set(answers.map((answer) => answer.body.refreshToken)).size).toBe(1);
  expect(new Set(answers.map((answer) => answer.body.token)).size).toBe(1);
  const next = await auth.call("POST", "/auth/refresh", { body: { refreshToken: answers[0]?.body.refreshToken } });
  expect(next.status).toBe(200);
  const { rows } = await auth.pool.query("select count(*)::int as n from refresh_tokens where session_id = $1", [
    decodeJwt(String(next.body.token)).sid,
  ]);
  expect(rows).toEqual([{ n: 3 }]);
});

const refreshWith = (refreshToken: unknown) => auth.call("POST", "/auth/refresh", { body: { refreshToken } });
const parallel = <T>(count: number, call: (index: number) => Promise<T>) => Promise.all(Array.from({ length: count }, (_, i) => call(i)));

/** A session whose first refresh token was exchanged longer ago than the grace time. */
async function refreshedLongAgo() {
  const { token, refreshToken: first } = await auth.login();
  const { body } = await refreshWith(first);
  const sid = String(decodeJwt(token).sid);
  await auth.owner.query("update refresh_tokens set used_at = used_at - interval '1 hour' where session_id = $1", [sid]);
  return { sid, first, successor: String(body.refreshToken) };
}
const actionsOf = async (sid: string) => {
  const { rows } = await auth.pool.query("select action from audit_entries where details->>'sessionId' = $1 order by id", [sid]);
  return rows.map((row) => row.action);
};

test("a refresh token that is used again after its successor was used ends its whole session, and that is audited", async () => {
  const { sid, first, successor } = await refreshedLongAgo();
  const last = await refreshWith(successor);
  expect(new Set((await parallel(20, () => refreshWith(first))).map(({ status }) => status))).toEqual(new Set([401]));
  for (const refreshToken of [successor, last.body.refreshToken]) expect((await refreshWith(refreshToken)).status).toBe(401);
  expect((await auth.call("GET", "/auth/me", { token: String(last.body.token) })).status).toBe(401);
  expect(await actionsOf(sid)).toEqual(["authn_login_success", "session_renewed", "session_renewed", "authn_token_reuse"]);
});

test("a client that never got its answer gets the same successor an hour later, with an access token that is valid", async () => {
  const { sid, first, successor } = await refreshedLongAgo();
  const answers = await parallel(10, () => refreshWith(first));
  for (const { status, body } of answers) {
    expect([status, body.refreshToken, body.expiresIn]).toEqual([200, successor, 300]);
    const { iat = 0 } = decodeJwt(String(body.token));
    expect(Date.now() / 1_000 - iat).toBeLessThan(60);
    expect((await auth.call("GET", "/auth/me", { token: String(body.token) })).status).toBe(200);
  }
  expect((await refreshWith(successor)).status).toBe(200);
  expect(await actionsOf(sid)).toEqual([
    "authn_login_success",
    "session_renewed",
    ...answers.map(() => "session_renewed_again"),
    "session_renewed",
  ]);
});

test("of clients that race with a token and its successor each gets the one line of successors, or the theft is seen", async () => {
  for (let round = 0; round < 5; round++) {
    const { sid, first, successor } = await refreshedLongAgo();
    const answers = await parallel(20, async (index) => ({
      early: index % 2 === 0,
      ...(await refreshWith(index % 2 ? successor : first)),
    }));
    const answered = (early: boolean) => answers.filter((answer) => answer.early === early && answer.status === 200);
    expect(answered(true).every(({ body }) => body.refreshToken === successor)).toBe(true);
    expect(new Set(answered(false).map(({ body }) => body.refreshToken)).size).toBeLessThanOrEqual(1);
    const { rows } = await auth.pool.query("select count(*)::int as n from refresh_tokens where session_id = $1", [sid]);
    expect(rows[0].n).toBeLessThanOrEqual(3);
    const wasSeen = (await actionsOf(sid)).filter((action) => action === "authn_token_reuse").length;
    expect(wasSeen).toBe(answers.some(({ status }) => status === 401) ? 1 : 0);
    expect((await refreshWith(first)).status).toBe(401);
  }
});

test("refresh tokens are not in the database, neither plain nor in the sealed answer", async () => {
  const { refreshToken } = await auth.login();
  const { body } = await auth.call("POST", "/auth/refresh", { body: { refreshToken } });
  const { rows } = await auth.pool.query(
    "select encode(hash, 'escape') || encode(coalesce(sealed_answer, ''), 'escape') as bytes from refresh_tokens",
  );
  for (const secret of [refreshToken, String(body.refreshToken)]) expect(rows.some((row) => row.bytes.includes(secret))).toBe(false);
});

test("after logout the session's refresh token is dead", async () => {
  const { token, refreshToken } = await auth.login();
  expect((await auth.call("POST", "/auth/logout", { token })).status).toBe(204);
  expect((await auth.call("POST", "/auth/refresh", { body: { refreshToken } })).status).toBe(401);
  const { rows } = await auth.pool.query("select type, count(*)::int as n from outbox where key = $1 group by type order by type", [
    decodeJwt(token).sid,
  ]);
  expect(rows).toEqual([
    { type: "auth.v1.session_revoked", n: 1 },
    { type: "auth.v1.signed_in", n: 1 },
  ]);
});

test("log-out takes the refresh token, with an access token that has expired or with none", async () => {
  for (const token of [undefined, "an.expired.token"]) {
    const session = await auth.login();
    const { refreshToken } = session;
    expect(await auth.call("POST", "/auth/logout", { token, body: { refreshToken } })).toMatchObject({ status: 204 });
    expect((await auth.call("POST", "/auth/refresh", { body: { refreshToken } })).status).toBe(401);
    expect((await auth.call("GET", "/auth/me", { token: session.token })).status).toBe(401);
    const { sid, sub } = decodeJwt(session.token);
    const { rows } = await auth.pool.query(
      "select actor, action, details->>'because' as because from audit_entries where details->>'sessionId' = $1 order by id desc limit 1",
      [sid],
    );
    expect(rows).toEqual([{ actor: sub, action: "authn_token_revoked", because: "LOGOUT" }]);
  }
});

test("any refresh token of a session ends it, the last one and those before", async () => {
  const { refreshToken } = await auth.login();
  const { body } = await auth.call("POST", "/auth/refresh", { body: { refreshToken } });
  expect((await auth.call("POST", "/auth/logout", { body: { refreshToken } })).status).toBe(204);
  expect((await auth.call("POST", "/auth/refresh", { body: { refreshToken: body.refreshToken } })).status).toBe(401);
});

test("log-out answers the same for refresh tokens that are alive, unknown, or of a session that has ended", async () => {
  const { refreshToken } = await auth.login();
  const bodies = [{ refreshToken }, { refreshToken }, { refreshToken: "nobody's" }];
  const answers: unknown[] = [];
  for (const body of bodies) {
    const { status, headers, body: answer } = await auth.call("POST", "/auth/logout", { body });
    answers.push([status, [...headers.keys()], answer]);
  }
  expect(answers).toEqual(bodies.map(() => answers[0]));
  expect(await auth.call("POST", "/auth/logout", { body: { refreshToken: 1 } })).toMatchObject({
    status: 400,
    body: { errors: [{ path: "refreshToken" }] },
  });
});

test("log-out with tokens of two sessions ends both", async () => {
  const [one, other] = [await auth.login(), await auth.login()];
  const { refreshToken } = other;
  expect((await auth.call("POST", "/auth/logout", { token: one.token, body: { refreshToken } })).status).toBe(204);
  for (const { token } of [one, other]) expect((await auth.call("GET", "/auth/me", { token })).status).toBe(401);
});

test("log-out without a refresh token takes a valid access token, also from clients that announce JSON and send none", async () => {
  const { token } = await auth.login();
  expect((await auth.call("POST", "/auth/logout")).status).toBe(401);
  expect((await auth.call("POST", "/auth/logout", { token: "an.expired.token" })).status).toBe(401);
  expect((await auth.call("POST", "/auth/logout", { token, headers: { "content-type": "application/json" } })).status).toBe(204);
  expect((await auth.call("GET", "/auth/me", { token })).status).toBe(401);
});

test("a service gets its token by Basic or by form, and nobody else does", async () => {
  const form = { "content-type": "application/x-www-form-urlencoded" };
  const basic = (id: string, secret: string) => ({ ...form, authorization: `Basic ${Buffer.from(`${id}:${secret}`).toString("base64")}` });
  const grant = "grant_type=client_credentials";
  const byBasic = await auth.call("POST", "/auth/token", { headers: basic("patient", secrets.patient), body: grant });
  expect(byBasic).toMatchObject({ status: 200, body: { token_type: "Bearer", expires_in: 300 } });
  expect(decodeJwt(String(byBasic.body.access_token))).toMatchObject({
    sub: "service:patient",
    scope: "billing:read billing:write internal:links internal:erasure auth:internal",
  });
  const byForm = await auth.call("POST", "/auth/token", {
    headers: form,
    body: `${grant}&client_id=billing&client_secret=${secrets.billing}`,
  });
  expect(byForm.status).toBe(200);
  for (const [id, secret] of [
    ["patient", secrets.billing],
    ["nobody", "x"],
    ["patient", ""],
  ] as const) {
    const refused = await auth.call("POST", "/auth/token", { headers: basic(id, secret), body: grant });
    expect(refused).toMatchObject({ status: 401, body: { error: "invalid_client" } });
    expect(refused.headers.get("www-authenticate")).toContain("Basic");
  }
  const otherGrant = await auth.call("POST", "/auth/token", { headers: basic("patient", secrets.patient), body: "grant_type=password" });
  expect(otherGrant).toMatchObject({ status: 400, body: { error: "unsupported_grant_type" } });
});

test("discovery says what there is, and no more, under both well-known names", async () => {
  const issuer = "http://localhost:4004";
  for (const name of ["openid-configuration", "oauth-authorization-server"]) {
    const { body, headers } = await auth.call("GET", `/.well-known/${name}`);
    expect(body).toEqual({
      issuer,
      token_endpoint: `${issuer}/auth/token`,
      jwks_uri: `${issuer}/.well-known/jwks.json`,
      userinfo_endpoint: `${issuer}/auth/me`,
      scopes_supported: expect.arrayContaining(["patient:read", "billing:write"]),
      grant_types_supported: ["client_credentials"],
      response_types_supported: [],
      token_endpoint_auth_methods_supported: ["client_secret_basic", "client_secret_post", "private_key_jwt"],
      token_endpoint_auth_signing_alg_values_supported: ["RS256", "RS384", "PS256", "ES256", "ES384", "EdDSA", "Ed25519"],
    });
    expect(body.scopes_supported).not.toContain("user:admin");
    expect(headers.get("cache-control")).toBe("public, max-age=60");
  }
});

test("an access token has every claim that RFC 9068 makes mandatory, and the account has its sub", async () => {
  const { token } = await auth.login();
  const { sub, ...claims } = decodeJwt(token);
  expect(claims).toMatchObject({ client_id: "first-party", iss: "http://localhost:4004", aud: "patient-management" });
  for (const claim of ["exp", "iat", "jti"]) expect(claims).toHaveProperty(claim);
  expect((await auth.call("GET", "/auth/me", { token })).body).toMatchObject({ id: sub, sub });
});

test("a session ends when it is idle for too long, and at last however much it is used", async () => {
  const idle = await auth.login();
  const old = await auth.login();
  await auth.owner.query("update sessions set last_used_at = now() - interval '13 hours' where id = $1", [decodeJwt(idle.token).sid]);
  await auth.owner.query("update sessions set expires_at = now() where id = $1", [decodeJwt(old.token).sid]);
  for (const { refreshToken } of [idle, old])
    expect((await auth.call("POST", "/auth/refresh", { body: { refreshToken } })).status).toBe(401);
  const fresh = await auth.login();
  const { rows } = await auth.pool.query("select extract(epoch from expires_at - created_at)::int as seconds from sessions where id = $1", [
    decodeJwt(fresh.token).sid,
  ]);
  expect(rows).toEqual([{ seconds: 7 * 86_400 }]);
});

test("a refresh in the background gives tokens and does not make an idle session live longer", async () => {
  let { token, refreshToken } = await auth.login();
  const sid = decodeJwt(token).sid;
  await auth.owner.query("update sessions set last_used_at = now() - interval '11 hours' where id = $1", [sid]);
  const idleHours = async () => {
    const text = "select round(extract(epoch from now() - last_used_at) / 3600)::int as hours from sessions where id = $1";
    return (await auth.pool.query(text, [sid])).rows[0].hours;
  };
  const refresh = async (more: object) => {
    const { status, body } = await auth.call("POST", "/auth/refresh", { body: { refreshToken, ...more } });
    if (status === 200) refreshToken = body.refreshToken as string;
    return [status, await idleHours()];
  };
  expect(await refresh({ background: true })).toEqual([200, 11]);
  expect(await refresh({ background: true })).toEqual([200, 11]);
  expect(await refresh({ background: false })).toEqual([200, 0]);
  await auth.owner.query("update sessions set last_used_at = now() - interval '13 hours' where id = $1", [sid]);
  expect(await refresh({ background: true })).toEqual([401, 13]);
  expect((await refresh({ background: "yes" }))[0]).toBe(400);
});

test("TRACE is not served", async () => {
  const { port } = new URL(auth.url);
  const sent = request({ port, method: "TRACE", path: "/auth/me", headers: { authorization: "Bearer not-to-be-echoed" } });
  sent.end();
  const [answer] = (await once(sent, "response")) as [IncomingMessage];
  expect(answer.statusCode).toBe(405);
  expect(await text(answer)).not.toContain("not-to-be-echoed");
});

// The last test, because the server closes the connection without reading the body.
test("a body over 1 MiB is refused", async () => {
  const answer = await auth.call("POST", "/auth/login", { body: { email: admin.email, password: "x".repeat(1024 * 1024) } });
  expect(answer.status).toBe(413);
});
