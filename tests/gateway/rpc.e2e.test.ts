import http from "node:http";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { BillingService } from "@pm/proto/billing/v1/billing";
import { Health, HealthCheckResponse_ServingStatus } from "@pm/proto/grpc/health/v1/health";
import { ServerReflection } from "@pm/proto/grpc/reflection/v1/reflection";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually, type Gateway, signToken, startGateway } from "./gateway.ts";

let gateway: Gateway;
let sessions: Http2SessionManager;
beforeAll(async () => {
  gateway = await startGateway();
  sessions = new Http2SessionManager(gateway.url);
});
afterAll(async () => {
  sessions.abort();
  await gateway.stop();
});

const account = { patientId: crypto.randomUUID(), name: "Ada Lovelace", email: "ada@example.com", requestId: crypto.randomUUID() };

const transports = {
  gRPC: () => createGrpcTransport({ baseUrl: gateway.url, sessionManager: sessions }),
  "gRPC-Web": () => createGrpcWebTransport({ baseUrl: gateway.url, httpVersion: "1.1" }),
  "gRPC-Web over HTTP/2": () => createGrpcWebTransport({ baseUrl: gateway.url, httpVersion: "2", sessionManager: sessions }),
  Connect: () => createConnectTransport({ baseUrl: gateway.url, httpVersion: "1.1" }),
  "Connect over HTTP/2": () => createConnectTransport({ baseUrl: gateway.url, httpVersion: "2", sessionManager: sessions }),
};

const codeOf = (call: Promise<unknown>) =>
  call.then(
    () => "ok",
    (error: unknown) => Code[ConnectError.from(error).code],
  );

describe.each(Object.entries(transports))("%s", (_, transport) => {
  test("calls reach billing with the token and the user", async () => {
    let seen = new Headers();
    const options = {
      headers: { ...gateway.signedIn, "x-user-id": "somebody-else" },
      onHeader: (headers: Headers) => {
        seen = headers;
      },
    };
    const answer = await createClient(BillingService, transport()).createBillingAccount(account, options);
    expect(answer.accountId).toBe(`account of ${account.patientId}`);
    expect(seen.get("seen-authorization")).toBe(gateway.signedIn.authorization);
    expect(seen.get("seen-x-user-id")).toBe("user-1");
  });

  test("calls without a token, or with one for somebody else, are UNAUTHENTICATED", async () => {
    const client = createClient(BillingService, transport());
    const foreign = await signToken(gateway.keys[0] ?? expect.fail(), { audience: "another-system" });
    expect(await codeOf(client.createBillingAccount(account))).toBe("Unauthenticated");
    expect(await codeOf(client.createBillingAccount(account, { headers: { authorization: `Bearer ${foreign}` } }))).toBe("Unauthenticated");
  });

  test("a stream's messages arrive as they are sent", async () => {
    const client = createClient(BillingService, transport());
    const stop = new AbortController();
    const messages = client.watchAccount({ accountId: crypto.randomUUID() }, { headers: gateway.signedIn, signal: stop.signal });
    const iterator = messages[Symbol.asyncIterator]();
    expect((await iterator.next()).done).toBe(false);
    stop.abort();
  });
});

test("a statement takes as long as its reader, over every protocol, and its deadline is kept", { timeout: 60_000 }, async () => {
  const read = async (transport: keyof typeof transports, options: object = {}) => {
    const client = createClient(BillingService, transports[transport]());
    const messages = await Array.fromAsync(client.streamStatement({}, { headers: gateway.signedIn, ...options }));
    return messages.flatMap(({ transactions }) => transactions.map(({ sequence }) => sequence));
  };
  const names = Object.keys(transports) as (keyof typeof transports)[];
  const whole = names.map((name) => read(name));
  for (const name of names) expect(await codeOf(read(name, { timeoutMs: 300 })), name).toBe("DeadlineExceeded");
  for (const sequences of await Promise.all(whole)) expect(sequences).toEqual([1n, 2n]);
});

test("gRPC-Web as text, as browsers without streams send it, reaches billing", async () => {
  const message = Buffer.from([0, 0, 0, 0, 0]).toString("base64");
  const headers = { ...gateway.signedIn, "content-type": "application/grpc-web-text", accept: "application/grpc-web-text" };
  const answer = await fetch(`${gateway.url}/billing.v1.BillingService/CreateBillingAccount`, { method: "POST", headers, body: message });
  expect(answer.headers.get("content-type")).toMatch(/^application\/grpc-web-text/);
  expect(answer.headers.get("seen-content-type")).toBe("application/grpc");
  expect((await answer.text()).length).toBeGreaterThan(0);
});

test("plain JSON by POST, as curl sends it, reaches billing", async () => {
  const headers = { ...gateway.signedIn, "content-type": "application/json" };
  const url = `${gateway.url}/billing.v1.BillingService/CreateBillingAccount`;
  const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(account) });
  expect(await answer.json()).toEqual({ accountId: `account of ${account.patientId}`, status: "ACTIVE" });
  const refused = await fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body: "{}" });
  expect(refused.status).toBe(401);
  expect(await refused.json()).toMatchObject({ code: "unauthenticated" });
});

test("a client that has read a whole answer may use its connection again, whatever becomes of billing", async () => {
  const { billing } = gateway.upstreams;
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const ask = (path: string) =>
    new Promise<{ status: number; reused: boolean }>((resolve, reject) => {
      const headers = { ...gateway.signedIn, "content-type": "application/json" };
      const asking = http.request(`${gateway.url}${path}`, { method: "POST", agent, headers }, (answer) => {
        answer.resume().on("end", () => resolve({ status: answer.statusCode ?? 0, reused: asking.reusedSocket }));
      });
      asking.on("error", reject).end("{}");
    });
  // Send all announced bytes, but not the end of the answer. Then billing dies.
  billing.handler = (request, answer) => {
    if (!request.url?.startsWith("/billing.v1.")) return false;
    answer.writeHead(200, { "content-type": "application/json", "content-length": "2" });
    answer.write("{}");
    return true;
  };
  try {
    expect((await ask("/billing.v1.BillingService/AnyMethod")).status).toBe(200);
    await billing.stop();
    expect(await ask("/patients")).toEqual({ status: 200, reused: true });
  } finally {
    agent.destroy();
    billing.handler = () => false;
    await billing.stop();
    await billing.start();
  }
});

test("a gRPC message over 1 MiB is RESOURCE_EXHAUSTED", async () => {
  const client = createClient(BillingService, transports.gRPC());
  const call = client.createBillingAccount({ ...account, name: "x".repeat(1024 * 1024) }, { headers: gateway.signedIn });
  expect(await codeOf(call)).toBe("ResourceExhausted");
});

test("reflection is a conversation, for who has a token", async () => {
  const client = createClient(ServerReflection, transports.gRPC());
  async function* questions() {
    yield { host: "", messageRequest: { case: "listServices" as const, value: "" } };
    await answered;
  }
  let answer = () => {};
  const answered = new Promise<void>((resolve) => {
    answer = resolve;
  });
  const first = await client.serverReflectionInfo(questions(), { headers: gateway.signedIn })[Symbol.asyncIterator]().next();
  answer();
  expect(first.value?.messageResponse.case).toBe("listServicesResponse");
  const closed = client.serverReflectionInfo(questions())[Symbol.asyncIterator]().next();
  expect(await codeOf(closed)).toBe("Unauthenticated");
});

test("a watch of health goes on, for who has a token", async () => {
  const stop = new AbortController();
  const options = { headers: gateway.signedIn, signal: stop.signal };
  const first = await createClient(Health, transports.gRPC()).watch({}, options)[Symbol.asyncIterator]().next();
  expect(first.value?.status).toBe(HealthCheckResponse_ServingStatus.SERVING);
  stop.abort();
});

test("while billing is down calls are UNAVAILABLE, and work again when it is back", async () => {
  await gateway.upstreams.billing.stop();
  const client = createClient(BillingService, transports.gRPC());
  const call = () => codeOf(client.createBillingAccount(account, { headers: gateway.signedIn }));
  expect(await call()).toBe("Unavailable");
  await gateway.upstreams.billing.start();
  await eventually(call, (code) => code === "ok", 2_500);
});

test("while no signing key could be fetched calls are UNAVAILABLE, not UNAUTHENTICATED", async () => {
  const early = await startGateway({ down: ["auth"] });
  const transport = createGrpcTransport({ baseUrl: early.url });
  const call = codeOf(createClient(BillingService, transport).createBillingAccount(account, { headers: early.signedIn }));
  expect(await call).toBe("Unavailable");
  await early.upstreams.auth.start();
  await early.stop();
});
