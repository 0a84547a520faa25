import { UnsecuredJWT } from "jose";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { audience, createSigningKey, eventually, type Gateway, inSeconds, issuer, signToken, startGateway } from "./gateway.ts";
import type { Arrival } from "./upstreams.ts";

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

describe("a token", () => {
  let gateway: Gateway;
  beforeAll(async () => {
    gateway = await startGateway();
  });
  afterAll(() => gateway.stop());

  const key = () => gateway.keys[0] ?? expect.fail("there is no key");
  const withoutSignature = () =>
    new UnsecuredJWT({}).setIssuer(issuer).setAudience(audience).setSubject("user-1").setIssuedAt().setExpirationTime("5m").encode();

  async function signedByAnother(keyId: string): Promise<string> {
    return signToken(await createSigningKey(keyId));
  }

  async function tamperedWith(): Promise<string> {
    const [head, , signature] = (await signToken(key())).split(".");
    const claims = { iss: issuer, aud: audience, sub: "somebody-else", exp: inSeconds(300) };
    return [head, Buffer.from(JSON.stringify(claims)).toString("base64url"), signature].join(".");
  }

  const wrong: [string, () => Promise<Record<string, string>> | Record<string, string>][] = [
    ["missing", () => ({})],
    ["empty", () => ({ authorization: "Bearer " })],
    ["of another scheme", () => ({ authorization: "Basic YWRtaW46YWRtaW4=" })],
    ["garbage", () => bearer("garbage")],
    ["garbage in three parts", () => bearer("a.b.c")],
    ["expired", async () => bearer(await signToken(key(), { expiresAt: inSeconds(-60) }))],
    ["without an expiry", async () => bearer(await signToken(key(), { expiresAt: undefined }))],
    ["of another issuer", async () => bearer(await signToken(key(), { issuer: "http://evil.example" }))],
    ["for another audience", async () => bearer(await signToken(key(), { audience: "another-system" }))],
    ["not signed (alg none)", () => bearer(withoutSignature())],
    ["signed by another key of the same id", async () => bearer(await signedByAnother("key-1"))],
    ["signed by a key that nobody published", async () => bearer(await signedByAnother("key-9"))],
    ["changed after it was signed", async () => bearer(await tamperedWith())],
  ];

  test.each(wrong)("that is %s is 401 problem+json and reaches nobody", async (_, headers) => {
    let reached = 0;
    gateway.upstreams.patient.handler = (request) => {
      if (request.url?.startsWith("/patients")) reached += 1;
      return false;
    };
    for (const method of ["GET", "POST"]) {
      const answer = await fetch(`${gateway.url}/patients`, { method, headers: await headers() });
      expect(answer.status).toBe(401);
      expect(answer.headers.get("content-type")).toBe("application/problem+json");
      expect(answer.headers.get("www-authenticate")).toBe("Bearer");
      expect(await answer.json()).toMatchObject({ title: "Not signed in", status: 401, code: "unauthenticated" });
    }
    expect(reached).toBe(0);
  });

  test("in the query is not one", async () => {
    const token = await signToken(key());
    const answer = await fetch(`${gateway.url}/patients?access_token=${token}`);
    expect(answer.status).toBe(401);
  });

  test.each(["Bearer", "bearer", "bEARER"])("that holds is passed on after %s, with the user and the session beside it", async (scheme) => {
    const signedIn = { authorization: gateway.signedIn.authorization.replace("Bearer", scheme) };
    const answer = await fetch(`${gateway.url}/patients`, { headers: signedIn });
    const { headers } = (await answer.json()) as Arrival;
    expect(headers).toMatchObject({ ...signedIn, "x-user-id": "user-1", "x-session-id": "session-1" });
  });

  test.each(["/patients", "/analytics/dashboard", "/docs"])("is the only identity that reaches %s", async (path) => {
    const claimed = {
      "x-user-id": "admin",
      "X-User-Roles": "admin",
      "x-user-anything": "1",
      "x-session-id": "other",
      "x-on-behalf-of": "Bearer x",
      "x-jwt-payload": "e30=",
      x_user_id: "admin",
      "x-envoy-original-path": "/auth/token",
      "x-envoy-retry-on": "5xx",
    };
    const spoofed = await fetch(`${gateway.url}${path}`, { headers: { ...claimed, ...gateway.signedIn } });
    const honest = await fetch(`${gateway.url}${path}`, { headers: gateway.signedIn });
    const names = async (answer: Response) => Object.keys(((await answer.json()) as Arrival).headers).sort();
    const [spoofedNames, honestNames] = [await names(spoofed), await names(honest)];
    expect(spoofedNames).toEqual(honestNames);
  });

  test("that was accepted before is refused when it has expired", async () => {
    // Envoy allows for five seconds of clock difference, so this token is valid for one or two more seconds.
    const headers = bearer(await signToken(key(), { expiresAt: inSeconds(-3) }));
    const ask = async () => (await fetch(`${gateway.url}/patients`, { headers })).status;
    expect(await ask()).toBe(200);
    await eventually(ask, (status) => status === 401, 5_000);
  });
});

test("a token of a service reaches nobody: 403 for every route that needs a token", async () => {
  const gateway = await startGateway();
  const headers = bearer(await signToken(gateway.keys[0] ?? expect.fail(), { subject: "service:analytics" }));
  let reached = 0;
  for (const upstream of [gateway.upstreams.patient, gateway.upstreams.billing, gateway.upstreams.analytics])
    upstream.handler = ({ url = "" }) => {
      if (!url.startsWith("/health")) reached += 1;
      return false;
    };
  for (const path of ["/patients", "/api/patients", "/patients:export", "/analytics/summary", "/auth/me", "/billing/invoices/1"]) {
    const answer = await fetch(`${gateway.url}${path}`, { headers });
    expect([answer.status, answer.headers.get("content-type")], path).toEqual([403, "application/problem+json"]);
    expect(await answer.json()).toMatchObject({
      title: "Not allowed",
      status: 403,
      code: "permission_denied",
      requestId: expect.any(String),
    });
  }
  const call = `${gateway.url}/billing.v1.BillingService/GetBillingAccount`;
  expect((await fetch(call, { method: "POST", headers: { ...headers, "content-type": "application/json" }, body: "{}" })).status).toBe(403);
  const grpc = await fetch(call, { method: "POST", headers: { ...headers, "content-type": "application/grpc" } });
  expect([grpc.status, grpc.headers.get("grpc-status")]).toEqual([200, "7"]);
  expect(reached).toBe(0);
  await gateway.stop();
});

describe("signing keys", () => {
  let gateway: Gateway;
  afterEach(() => gateway.stop());

  test("rotate without a single 401 where the next one is published before it is used", async () => {
    gateway = await startGateway({ variables: { JWKS_CACHE_SECONDS: "1" } });
    const statuses = new Map<number, number>();
    let token = await signToken(gateway.keys[0] ?? expect.fail());
    let rotating = true;
    const load = (async () => {
      while (rotating) {
        const { status } = await fetch(`${gateway.url}/patients`, { headers: bearer(token) });
        statuses.set(status, (statuses.get(status) ?? 0) + 1);
      }
    })();
    const untilFetched = async () => {
      const before = gateway.keyFetches();
      // Wait for two, because the first one may have started before the list changed.
      await eventually(gateway.keyFetches, (now) => now >= before + 2, 10_000);
    };
    for (const id of ["key-2", "key-3"]) {
      const next = await createSigningKey(id);
      gateway.keys.push(next);
      await untilFetched();
      token = await signToken(next);
      gateway.keys.shift();
      await untilFetched();
    }
    rotating = false;
    await load;
    expect([...statuses.keys()]).toEqual([200]);
    expect(statuses.get(200)).toBeGreaterThan(100);
  });

  test("that were withdrawn sign nothing any more", async () => {
    gateway = await startGateway({ variables: { JWKS_CACHE_SECONDS: "1" } });
    const old = gateway.keys[0] ?? expect.fail();
    gateway.keys.splice(0, 1, await createSigningKey("key-2"));
    const ask = async () => (await fetch(`${gateway.url}/patients`, { headers: bearer(await signToken(old)) })).status;
    await eventually(ask, (status) => status === 401, 10_000);
  });

  test("are kept while auth is away", async () => {
    gateway = await startGateway({ variables: { JWKS_CACHE_SECONDS: "1" } });
    const ask = async () => (await fetch(`${gateway.url}/patients`, { headers: gateway.signedIn })).status;
    expect(await ask()).toBe(200);
    await gateway.upstreams.auth.stop();
    const failures = () => gateway.log.filter((line) => line.includes("jwks.json: failed")).length;
    await eventually(failures, (count) => count >= 3, 15_000);
    expect(await ask()).toBe(200);
    await gateway.upstreams.auth.start();
  });

  test("that could not be fetched yet are nobody's fault: 503, and within two seconds of auth's start all is well", async () => {
    gateway = await startGateway({ down: ["auth"] });
    const ask = () => fetch(`${gateway.url}/patients`, { headers: gateway.signedIn });
    const refused = await ask();
    expect(refused.status).toBe(503);
    expect(refused.headers.get("retry-after")).toBe("1");
    expect(await refused.json()).toMatchObject({ status: 503, code: "unavailable" });
    expect((await fetch(`${gateway.url}/patients`)).status).toBe(401);
    await gateway.upstreams.auth.start();
    await eventually(
      async () => (await ask()).status,
      (status) => status === 200,
      2_000,
    );
  });
});
