import http from "node:http";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually, type Gateway, startGateway } from "./gateway.ts";
import type { Arrival } from "./upstreams.ts";

const MIB = 1024 * 1024;

describe("a body", () => {
  let gateway: Gateway;
  beforeAll(async () => {
    gateway = await startGateway();
  });
  afterAll(() => gateway.stop());

  const post = (path: string, body: Uint8Array<ArrayBuffer> | ReadableStream, headers: Record<string, string> = gateway.signedIn) =>
    fetch(`${gateway.url}${path}`, {
      method: "POST",
      headers,
      body,
      ...(body instanceof ReadableStream && { duplex: "half" }),
    } as RequestInit);
  const streamed = (bytes: number) => new Blob([new Uint8Array(bytes)]).stream();

  test("of 1 MiB passes", async () => {
    const answer = await post("/patients", new Uint8Array(MIB));
    expect(await answer.json()).toMatchObject({ service: "patient", bodyBytes: MIB });
  });

  test.each([
    ["with its length said", () => new Uint8Array(MIB + 1)],
    ["in chunks", () => streamed(MIB + 1)],
    ["of 20 MiB", () => new Uint8Array(20 * MIB)],
  ])("over 1 MiB, %s, is 413 problem+json", async (_, body) => {
    const answer = await post("/patients", body());
    expect(answer.status).toBe(413);
    expect(answer.headers.get("content-type")).toBe("application/problem+json");
    expect(await answer.json()).toMatchObject({ title: "Body too large", status: 413, code: "payload_too_large" });
  });

  test("is not waited for where there is no token", async () => {
    const answer = await new Promise<http.IncomingMessage>((resolve, reject) => {
      const request = http.request(`${gateway.url}/patients`, { method: "POST", headers: { "content-length": "1000" } }, resolve);
      request.on("error", reject).flushHeaders();
    });
    expect(answer.statusCode).toBe(401);
    answer.destroy();
  });

  test("of an import may be larger, and reaches the service while the client still sends", async () => {
    let firstChunk = () => {};
    const arrived = new Promise<void>((resolve) => {
      firstChunk = resolve;
    });
    gateway.upstreams.patient.handler = (request) => {
      request.once("data", firstChunk);
      return false;
    };
    const answer = await new Promise<http.IncomingMessage>((resolve, reject) => {
      const request = http.request(`${gateway.url}/patients:import`, { method: "POST", headers: gateway.signedIn }, resolve);
      request.on("error", reject);
      request.write(new Uint8Array(2 * MIB));
      arrived.then(() => request.end(new Uint8Array(MIB)));
    });
    gateway.upstreams.patient.handler = () => false;
    expect(answer.statusCode).toBe(200);
    answer.destroy();
  });

  test("of an export reaches the client while the service still sends", async () => {
    let finish = () => {};
    gateway.upstreams.patient.handler = (request, answer) => {
      if (request.url !== "/patients:export") return false;
      answer.setHeader("content-type", "application/x-ndjson");
      answer.write('{"row":1}\n');
      finish = () => answer.end('{"row":2}\n');
      return true;
    };
    const answer = await fetch(`${gateway.url}/patients:export`, { headers: { ...gateway.signedIn, "accept-encoding": "gzip" } });
    const reader = (answer.body ?? expect.fail()).pipeThrough(new TextDecoderStream()).getReader();
    expect((await reader.read()).value).toBe('{"row":1}\n');
    finish();
    expect((await reader.read()).value).toBe('{"row":2}\n');
    gateway.upstreams.patient.handler = () => false;
  });

  test("does not matter where the head alone is too large: 431 problem+json", async () => {
    const answer = await fetch(`${gateway.url}/patients`, { headers: { ...gateway.signedIn, "x-filler": "x".repeat(20_000) } });
    expect(answer.status).toBe(431);
    expect(await answer.json()).toMatchObject({ status: 431, code: "invalid_argument" });
  });
});

describe("a request that takes long", () => {
  const shorter = (template: string) => template.replace("duration: 120s", "duration: 1s").replace("duration: 3660s", "duration: 2s");
  let gateway: Gateway;
  beforeAll(async () => {
    gateway = await startGateway({ change: shorter });
  });
  afterAll(() => gateway.stop());

  const beginning = (path: string) =>
    new Promise<{ status: number | undefined; body: Record<string, unknown>; seconds: number }>((resolve, reject) => {
      const started = performance.now();
      const call = http.request(`${gateway.url}${path}`, { method: "POST", headers: gateway.signedIn, agent: false });
      call.on("error", reject).on("response", async (answer) => {
        const body = JSON.parse(Buffer.concat(await answer.toArray()).toString());
        resolve({ status: answer.statusCode, body, seconds: (performance.now() - started) / 1_000 });
        call.destroy();
      });
      call.write("{");
    });

  test("to arrive is 408 problem+json, an import later than others", async () => {
    const [ordinary, file] = await Promise.all([beginning("/patients"), beginning("/patients:import")]);
    for (const { status, body } of [ordinary, file])
      expect([status, body]).toEqual([408, expect.objectContaining({ title: "Took too long to arrive", code: "request_timeout" })]);
    expect(ordinary.seconds).toBeLessThan(1.9);
    expect(file.seconds).toBeGreaterThan(1.9);
  });

  test("is not ended where it is a dashboard, a rebuild or a watch", async () => {
    gateway.upstreams.analytics.handler = (_, answer) => {
      answer.writeHead(200).write("first");
      setTimeout(() => answer.end("last"), 1_500);
      return true;
    };
    const whole = async (path: string, method = "GET") =>
      (await fetch(`${gateway.url}${path}`, { method, headers: gateway.signedIn })).text();
    expect(await Promise.all([whole("/analytics/dashboard"), whole("/analytics:rebuild", "POST")])).toEqual(["firstlast", "firstlast"]);
    gateway.upstreams.analytics.handler = () => false;
  });
});

test("imports and exports have 32 places of their own: more are 503 problem+json, and ordinary requests are served", async () => {
  const gateway = await startGateway();
  const headers = gateway.signedIn;
  let held = 0;
  gateway.upstreams.patient.handler = ({ url }, answer) => {
    if (url !== "/patients:export") return false;
    held += 1;
    answer.writeHead(200).write("first");
    return true;
  };
  const stop = new AbortController();
  const ask = () => fetch(`${gateway.url}/patients:export`, { headers, signal: stop.signal });
  const statuses = await Promise.all(Array.from({ length: 40 }, async () => (await ask()).status));
  expect([statuses.filter((status) => status === 200).length, held]).toEqual([32, 32]);
  const refused = await ask();
  expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "1"]);
  expect(await refused.json()).toMatchObject({
    code: "unavailable",
    detail: "All places for imports and exports are taken. Try again shortly.",
  });
  expect((await fetch(`${gateway.url}/patients`, { headers })).status).toBe(200);
  stop.abort();
  await gateway.stop();
});

describe("who asks too often", () => {
  let gateway: Gateway;
  beforeAll(async () => {
    const rates = { LOGIN_RATE_PER_SECOND: "3", SIGNUP_RATE_PER_SECOND: "2", REFRESH_RATE_PER_SECOND: "4" };
    gateway = await startGateway({ variables: { ...rates, TRUSTED_HOPS: "1" } });
  });
  afterAll(() => gateway.stop());

  const ask = (path: string, address: string) =>
    fetch(`${gateway.url}${path}`, { method: "POST", headers: { "x-forwarded-for": address }, body: "{}" });

  /** Asks until a request is refused, faster than the token bucket refills. */
  async function exhaust(path: string, address: string): Promise<{ passed: number; refused: Response }> {
    for (let passed = 0; passed < 50; passed += 1) {
      const answer = await ask(path, address);
      if (answer.status !== 200) return { passed, refused: answer };
    }
    return expect.fail("it was never refused");
  }

  let addresses = 0;

  test.each([
    ["/auth/login", 3],
    ["/api/auth/login", 3],
    ["/auth/token", 3],
    ["/auth/signup", 2],
    ["/auth/password-reset", 2],
    ["/auth/refresh", 4],
    ["/auth/logout", 4],
  ])("%s is told 429 and when to come back", async (path, rate) => {
    const { passed, refused } = await exhaust(path, `203.0.113.${++addresses}`);
    // The bucket may be refilled once while it is being emptied.
    expect(passed).toBeGreaterThanOrEqual(rate);
    expect(passed).toBeLessThanOrEqual(2 * rate);
    expect(refused.status).toBe(429);
    expect(refused.headers.get("retry-after")).toBe("1");
    expect(refused.headers.get("content-type")).toBe("application/problem+json");
    expect(await refused.json()).toMatchObject({ title: "Too many requests", status: 429, code: "resource_exhausted" });
  });

  test("is let in again a second later", async () => {
    await exhaust("/auth/login", "198.51.100.1");
    await eventually(
      async () => (await ask("/auth/login", "198.51.100.1")).status,
      (status) => status === 200,
      2_000,
    );
  });

  test("keeps nobody else out, and nothing else from himself", async () => {
    await exhaust("/auth/login", "198.51.100.2");
    expect((await ask("/auth/login", "198.51.100.3")).status).toBe(200);
    expect((await ask("/auth/refresh", "198.51.100.2")).status).toBe(200);
  });

  test("gains nothing by addresses that he makes up, or that are of one network", async () => {
    await exhaust("/auth/login", "198.51.100.4");
    expect((await ask("/auth/login", "192.0.2.77, 198.51.100.4")).status).toBe(429);
    await exhaust("/auth/login", "2001:db8:1:2::1");
    expect((await ask("/auth/login", "2001:db8:1:2:ffff::99")).status).toBe(429);
    expect((await ask("/auth/login", "2001:db8:1:3::1")).status).toBe(200);
  });
});

describe("the address of a client", () => {
  let gateway: Gateway;
  const addressSeen = async (headers: Record<string, string>) => {
    const answer = await fetch(`${gateway.url}/auth/login`, { method: "POST", headers });
    return ((await answer.json()) as Arrival).headers["x-envoy-external-address"];
  };
  const claims = { "x-forwarded-for": "192.0.2.66, 203.0.113.7", "x-envoy-external-address": "192.0.2.66", "x-real-ip": "192.0.2.66" };

  test("is the connection's, whatever he says, where no proxy is trusted", async () => {
    gateway = await startGateway();
    expect(await addressSeen({})).toBe("127.0.0.1");
    expect(await addressSeen(claims)).toBe("127.0.0.1");
    expect(await addressSeen({ "x-forwarded-for": "10.0.0.1" })).toBe("127.0.0.1");
    await gateway.stop();
  });

  test("is believed by auth because of a secret that only the gateway has, also where the dashboard passes it on", async () => {
    process.env.GATEWAY_SECRET = "known to the gateway and to auth";
    gateway = await startGateway();
    const headers = { ...gateway.signedIn, "x-gateway-secret": "a client's" };
    const secretSeen = async (method: string, path: string) => {
      const answer = await fetch(`${gateway.url}${path}`, { method, headers });
      return ((await answer.json()) as Arrival).headers["x-gateway-secret"];
    };
    for (const [method, path] of [
      ["POST", "/auth/login"],
      ["POST", "/auth/signup"],
      ["POST", "/auth/logout"],
      ["GET", "/auth/me"],
      ["POST", "/analytics/dashboard/login"],
    ] as const)
      expect([path, await secretSeen(method, path)]).toEqual([path, process.env.GATEWAY_SECRET]);
    for (const path of ["/patients", "/analytics/summary"]) expect([path, await secretSeen("GET", path)]).toEqual([path, undefined]);
    delete process.env.GATEWAY_SECRET;
    await gateway.stop();
  });

  test("is what the trusted proxy says, not what stands before it", async () => {
    gateway = await startGateway({ variables: { TRUSTED_HOPS: "1" } });
    expect(await addressSeen(claims)).toBe("203.0.113.7");
    await gateway.stop();
  });
});
