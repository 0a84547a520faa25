import { AppError, type ErrorCode, toErrorResponse } from "@pm/kit/errors";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { eventually, type Gateway, startGateway } from "./gateway.ts";
import type { Arrival } from "./upstreams.ts";

let gateway: Gateway;
beforeAll(async () => {
  gateway = await startGateway({ variables: { CORS_ORIGINS: JSON.stringify([{ exact: "https://app.example" }]) } });
});
afterAll(() => gateway.stop());
afterEach(() => {
  gateway.upstreams.patient.handler = () => false;
});

const get = (path: string, headers: Record<string, string> = {}) =>
  fetch(`${gateway.url}${path}`, { headers: { ...gateway.signedIn, ...headers } });

describe("a request", () => {
  test("has an id: its own, or a new one; the service and the client see the same", async () => {
    for (const headers of [{}, { "x-request-id": "order-4711" }]) {
      const answer = await get("/patients", headers);
      const id = answer.headers.get("x-request-id");
      expect(((await answer.json()) as Arrival).headers["x-request-id"]).toBe(id);
      expect(id).toMatch("x-request-id" in headers ? /^order-4711$/ : /^[0-9a-f-]{36}$/);
    }
  });

  test("to a service that is down is 503, soon and with a hint, and is served again when it is back", async () => {
    await gateway.upstreams.analytics.stop();
    for (const method of ["GET", "POST"]) {
      const started = performance.now();
      const answer = await fetch(`${gateway.url}/analytics/summary`, { method, headers: gateway.signedIn });
      expect(performance.now() - started).toBeLessThan(2_000);
      expect(answer.status).toBe(503);
      expect(answer.headers.get("retry-after")).toBe("1");
      expect(await answer.json()).toMatchObject({ title: "Temporarily unavailable", status: 503, code: "unavailable" });
    }
    expect((await get("/patients")).status).toBe(200);
    // Wait until the health check has noticed too.
    await eventually(
      () => clusterHealth("analytics"),
      (flags) => flags.includes("failed_active_hc"),
      10_000,
    );
    expect((await get("/analytics/summary")).status).toBe(503);
    await gateway.upstreams.analytics.start();
    await eventually(
      async () => (await get("/analytics/summary")).status,
      (status) => status === 200,
      2_500,
    );
  });

  test("does not go to a service that says that it is not ready", async () => {
    gateway.upstreams.patient.handler = (request, answer) => {
      if (request.url !== "/health/ready") return false;
      answer.statusCode = 503;
      answer.end();
      return true;
    };
    await eventually(
      async () => (await get("/patients")).status,
      (status) => status === 503,
      3_000,
    );
    gateway.upstreams.patient.handler = () => false;
    await eventually(
      async () => (await get("/patients")).status,
      (status) => status === 200,
      3_000,
    );
  });

  test("is sent again where its answer broke off and it only reads, and never where it changes something", async () => {
    const arrivals = { GET: 0, POST: 0 };
    gateway.upstreams.patient.handler = (request) => {
      if (request.url !== "/patients/1") return false;
      const method = request.method as keyof typeof arrivals;
      arrivals[method] += 1;
      if (method === "GET" && arrivals.GET > 1) return false;
      request.socket.destroy();
      return true;
    };
    expect((await get("/patients/1")).status).toBe(200);
    const changed = await fetch(`${gateway.url}/patients/1`, { method: "POST", headers: gateway.signedIn });
    expect(changed.status).toBe(503);
    expect(arrivals).toEqual({ GET: 2, POST: 1 });
  });
});

const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";

test("a request keeps its traceparent where nothing is traced, and never its baggage", async () => {
  const sent = { traceparent: `${trace}-01`, tracestate: "a=b", baggage: "name=Ada", "x-client-trace-id": "Ada" };
  const { headers } = (await (await get("/patients", sent)).json()) as Arrival;
  expect(headers).toMatchObject({ traceparent: `${trace}-01` });
  for (const name of ["tracestate", "baggage", "x-client-trace-id"]) expect(headers).not.toHaveProperty(name);
});

test.each([
  ["as the gateway decides, in the caller's trace", "false", "00"],
  ["as its caller says, where callers are trusted", "true", "01"],
])("a request is traced %s", async (_, TRUST_TRACEPARENT, flags) => {
  const tracing = await startGateway({ variables: { TRACING: "on", TRUST_TRACEPARENT } });
  const answer = await fetch(`${tracing.url}/patients`, { headers: { ...tracing.signedIn, traceparent: `${trace}-01`, baggage: "a=b" } });
  const { headers } = (await answer.json()) as Arrival;
  expect(headers.traceparent).toMatch(new RegExp(`^${trace.slice(0, 35)}-(?!b7ad6b7169203331)[0-9a-f]{16}-${flags}$`));
  expect(headers).not.toHaveProperty("baggage");
  await tracing.stop();
});

test.each(["ada@example.com", "x", "x".repeat(65), "ä".repeat(9)])(
  "a request that calls itself %s gets an id of the form that services take",
  async (odd) => {
    const headers = { "x-request-id": Buffer.from(odd).toString("latin1") };
    const [served, refused] = [await get("/patients", headers), await get("/nowhere", headers)];
    const [seen, told] = [
      ((await served.json()) as Arrival).headers["x-request-id"],
      ((await refused.json()) as { requestId: string }).requestId,
    ];
    expect([seen, told]).toEqual([served, refused].map((answer) => answer.headers.get("x-request-id")));
    for (const id of [seen, told]) expect(id).toMatch(/^[0-9a-f-]{36}$/);
    await eventually(
      () => gateway.log.some((line) => line.includes(told)),
      (isLogged) => isLogged,
      5_000,
    );
    expect(gateway.log.some((line) => line.includes("ada@example"))).toBe(false);
  },
);

async function clusterHealth(name: string): Promise<string> {
  const lines = (await (await fetch(`${gateway.adminUrl}/clusters`)).text()).split("\n");
  return lines.find((line) => line.startsWith(`${name}::`) && line.includes("::health_flags::")) ?? "";
}

describe("an answer", () => {
  test("of the gateway's own has the form of a service's, word for word where both can give it", async () => {
    const problems: [ErrorCode, string, Response][] = [
      ["not_found", "There is nothing at this path.", await get("/nowhere")],
      ["payload_too_large", "The body is larger than 1 MiB. Send less at once.", await tooLarge()],
    ];
    for (const [code, message, answer] of problems) {
      const id = answer.headers.get("x-request-id") ?? "";
      const expected = toErrorResponse(new AppError(code, message), id);
      expect(answer.status).toBe(expected.status);
      expect(answer.headers.get("content-type")).toBe(expected.headers.get("content-type"));
      expect(await answer.json()).toEqual(await expected.json());
    }
  });

  const tooLarge = () =>
    fetch(`${gateway.url}/patients`, { method: "POST", headers: gateway.signedIn, body: new Uint8Array(1024 * 1024 + 1) });

  test.each(["/patients", "/nowhere", "/docs"])("to %s says how browsers should treat it, and not what serves it", async (path) => {
    gateway.upstreams.patient.handler = (_, answer) => {
      answer.setHeader("server", "something/1.0");
      answer.setHeader("x-powered-by", "something");
      return false;
    };
    const { headers } = await get(path);
    expect(Object.fromEntries(headers)).toMatchObject({
      "x-content-type-options": "nosniff",
      "referrer-policy": "no-referrer",
      "x-frame-options": "DENY",
      "content-security-policy": "frame-ancestors 'none'",
      "cache-control": "no-store",
    });
    for (const name of ["server", "x-powered-by", "x-envoy-upstream-service-time"]) expect(headers.get(name)).toBeNull();
  });

  test("tells browsers to come by HTTPS, where clients come by it, whatever a service says", async () => {
    expect((await get("/patients")).headers.get("strict-transport-security")).toBeNull();
    const value = "max-age=31536000; includeSubDomains";
    const secure = await startGateway({ variables: { HSTS: value } });
    secure.upstreams.patient.handler = (_, answer) => {
      answer.setHeader("strict-transport-security", "max-age=0");
      return false;
    };
    for (const path of ["/patients", "/nowhere", "/docs"])
      expect((await fetch(`${secure.url}${path}`)).headers.get("strict-transport-security"), path).toBe(value);
    await secure.stop();
  });

  test("keeps what a service says about caching and content", async () => {
    gateway.upstreams.patient.handler = (_, answer) => {
      answer.setHeader("cache-control", "public, max-age=60");
      answer.setHeader("content-security-policy", "default-src 'self'");
      return false;
    };
    const { headers } = await get("/docs");
    expect(headers.get("cache-control")).toBe("public, max-age=60");
    expect(headers.get("content-security-policy")).toBe("default-src 'self'");
  });

  test("is compressed where it is long, unless it has an ETag, which stays strong", async () => {
    const filler = "x".repeat(2_000);
    const plain = await get("/patients", { "x-filler": filler });
    expect(plain.headers.get("content-encoding")).toBe("gzip");
    expect(((await plain.json()) as Arrival).headers["x-filler"]).toBe(filler);
    expect((await get("/patients")).headers.get("content-encoding")).toBeNull();
    gateway.upstreams.patient.handler = (_, answer) => {
      answer.setHeader("etag", '"1"');
      return false;
    };
    const tagged = await get("/patients/1", { "x-filler": filler });
    expect(tagged.headers.get("content-encoding")).toBeNull();
    expect(tagged.headers.get("etag")).toBe('"1"');
  });

  test("may be read by the web pages that are listed, and by no others", async () => {
    const allowed = async (origin: string, method: string) => {
      const headers = { ...gateway.signedIn, origin, "access-control-request-method": "POST" };
      const answer = await fetch(`${gateway.url}/patients`, { method, headers });
      return answer.headers.get("access-control-allow-origin");
    };
    expect(await allowed("https://app.example", "OPTIONS")).toBe("https://app.example");
    expect(await allowed("https://app.example", "GET")).toBe("https://app.example");
    expect(await allowed("https://evil.example", "OPTIONS")).toBeNull();
    expect(await allowed("https://app.example.evil.example", "GET")).toBeNull();
  });
});

describe("the log", () => {
  test("has a line of JSON per request, with nothing in it that is somebody's", async () => {
    const id = crypto.randomUUID();
    await fetch(`${gateway.url}/auth/login?email=ada@example.com`, {
      method: "POST",
      headers: { ...gateway.signedIn, "x-request-id": id, "user-agent": "ada-browser", "x-name": "Ada", cookie: "pm_session=secret" },
      body: JSON.stringify({ email: "ada@example.com", password: "correct horse" }),
    });
    const line = await eventually(
      () => gateway.log.find((entry) => entry.includes(id)),
      (entry) => entry !== undefined,
      15_000,
    );
    expect(JSON.parse(line ?? "")).toEqual({
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      msg: "request",
      traceId: null,
      requestId: id,
      method: "POST",
      path: "/auth/login",
      route: "auth.login",
      protocol: "HTTP/1.1",
      status: 200,
      grpcStatus: null,
      flags: "-",
      details: "via_upstream",
      durationMs: expect.any(Number),
      upstreamMs: expect.any(Number),
      upstream: "auth",
      upstreamAddress: `127.0.0.1:${gateway.upstreams.auth.port}`,
      attempts: 1,
      bytesIn: expect.any(Number),
      bytesOut: expect.any(Number),
    });
  });
});
