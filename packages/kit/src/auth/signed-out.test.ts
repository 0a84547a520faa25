/** Streams of RPC and REST end with the session of their caller, and leave nothing behind. */
import { randomUUID } from "node:crypto";
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { type CallOptions, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { BillingService } from "@pm/proto/billing/v1/billing";
import { Health } from "@pm/proto/grpc/health/v1/health";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { testLifecycle } from "../../test/lifecycle.ts";
import { AppError } from "../errors.ts";
import { createRestApp } from "../http/rest.ts";
import { createLogger } from "../log.ts";
import { createGuard } from "../rpc/guard.ts";
import { listenRpc } from "../rpc/server.ts";
import type { Scope } from "./access.ts";
import { createRevocationList } from "./revocation-list.ts";
import type { Verifier } from "./verifier.ts";

const log = createLogger("test", "silent");
const audit = { record: async () => undefined };
const lifecycle = testLifecycle();

let revocations = createRevocationList();
/** How many calls wait for the end of a session. */
let waiting = 0;
/** The token is the session; that of a service is `service`. */
const verifier: Verifier = {
  async verify(authorization) {
    const token = authorization?.replace("Bearer ", "") ?? "";
    return {
      ...{
        kind: token === "service" ? "service" : "user",
        id: `user of ${token}`,
        sessionId: token,
        roles: [],
        teams: [],
        hasSecondFactor: false,
        token,
      },
      ...{ scopes: new Set<Scope>(["billing:read", "patient:read"]), issuedAt: 0, expiresAt: 0 },
    };
  },
  onRevoked(caller, end) {
    waiting += 1;
    const stop = revocations.onRevoked({ ...caller, userId: caller.id }, () =>
      end(new AppError("unauthenticated", "This session has ended.")),
    );
    let isWaiting = true;
    return () => {
      if (isWaiting) waiting -= 1;
      isWaiting = false;
      stop();
    };
  },
};
const signOut = (id: string) => revocations.add({ sessions: [{ id, until: Date.now() + 60_000 }] });

/** What a watch does; each test sets it. */
let watch: (signal: AbortSignal) => AsyncGenerator<Record<string, never>>;
let url = "";
beforeAll(async () => {
  const rest = createRestApp({ service: "patient", title: "T", description: "D", log, lifecycle, verifier, audit });
  const responses = { 200: { description: "Lines" } };
  rest.operation(
    { operationId: "exportPatients", method: "get", path: "/lines", responses },
    (c) => c.body(ReadableStream.from(["one\n", "two\n"]).pipeThrough(new TextEncoderStream())),
    { streams: true },
  );
  const server = await listenRpc({
    routes: (router) => router.service(BillingService, { watchAccount: (_, { signal }) => watch(signal) }),
    ...{
      services: [BillingService],
      rest: rest.app,
      guard: createGuard({ log, verifier, audit }),
      host: "127.0.0.1",
      port: 0,
      log,
      lifecycle,
    },
  });
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(async () => {
  await lifecycle.shutdown("the test has ended");
});
beforeEach(() => {
  revocations = createRevocationList();
  expect(waiting).toBe(0);
});

const transports = {
  gRPC: () => createGrpcTransport({ baseUrl: url }),
  "gRPC-Web": () => createGrpcWebTransport({ baseUrl: url, httpVersion: "1.1" }),
  Connect: () => createConnectTransport({ baseUrl: url, httpVersion: "1.1" }),
};
/** Reads until the end; returns the number of messages and the code. */
async function read(transport: ReturnType<typeof createGrpcTransport>, options: CallOptions) {
  let messages = 0;
  try {
    for await (const _ of createClient(BillingService, transport).watchAccount({ accountId: randomUUID() }, options)) messages += 1;
    return { messages, code: "ok" };
  } catch (error) {
    return { messages, code: Code[ConnectError.from(error).code] };
  }
}

test.each(Object.entries(transports))(
  "over %s a stream ends with the session, whether it listens to its signal or goes on",
  async (_, transport) => {
    const headers = { authorization: "Bearer mine" };
    watch = async function* (signal) {
      yield {};
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
    };
    const listening = read(transport(), { headers });
    await expect.poll(() => waiting).toBe(1);
    await delay(50);
    signOut("another");
    await delay(50);
    signOut("mine");
    expect(await listening).toEqual({ messages: 1, code: "Unauthenticated" });
    await expect.poll(() => waiting).toBe(0);

    revocations = createRevocationList();
    watch = async function* () {
      for (;;) {
        yield {};
        await delay(10);
      }
    };
    const going = read(transport(), { headers });
    await delay(100);
    signOut("mine");
    expect((await going).code).toBe("Unauthenticated");
    await expect.poll(() => waiting).toBe(0);
  },
);

test.each([
  ["gRPC", "grpc-timeout", "200m"],
  ["gRPC-Web", "grpc-timeout", "200m"],
  ["Connect", "connect-timeout-ms", "200"],
] as const)("over %s a stream that ends because of its deadline does not look complete", async (protocol, header, value) => {
  watch = async function* (signal) {
    yield {};
    await new Promise((resolve) => signal.addEventListener("abort", resolve));
  };
  // The client has no clock of its own here, so the answer is the service's.
  const ended = await read(transports[protocol](), { headers: { authorization: "Bearer mine", [header]: value } });
  expect(ended).toEqual({ messages: 1, code: "DeadlineExceeded" });
  await expect.poll(() => waiting).toBe(0);
});

test("a watch of the health, which needs no session, does not look complete at its deadline either", async () => {
  const states: number[] = [];
  const reading = (async () => {
    const client = createClient(Health, transports.gRPC());
    for await (const { status } of client.watch({ service: "" }, { headers: { "grpc-timeout": "200m" } })) states.push(status);
  })();
  await expect(reading).rejects.toMatchObject({ code: Code.DeadlineExceeded });
  expect(states).toHaveLength(1);
});

test("a stream that a service reads for somebody ends with that person's session", async () => {
  watch = async function* (signal) {
    yield {};
    await new Promise((resolve) => signal.addEventListener("abort", resolve));
  };
  const going = read(transports.gRPC(), { headers: { authorization: "Bearer service", "x-on-behalf-of": "Bearer theirs" } });
  await expect.poll(() => waiting).toBe(2);
  signOut("theirs");
  expect((await going).code).toBe("Unauthenticated");
  await expect.poll(() => waiting).toBe(0);
});

test("nothing waits any more for a stream that has ended, whose caller has gone, or that was answered", async () => {
  watch = async function* () {
    yield {};
  };
  const headers = { authorization: "Bearer mine" };
  for (const transport of Object.values(transports)) expect(await read(transport(), { headers })).toEqual({ messages: 1, code: "ok" });
  watch = async function* (signal) {
    yield {};
    await new Promise((resolve) => signal.addEventListener("abort", resolve));
  };
  const gone = new AbortController();
  const going = read(transports.gRPC(), { headers, signal: gone.signal });
  await expect.poll(() => waiting).toBe(1);
  gone.abort();
  await going;
  await expect.poll(() => waiting).toBe(0);
  expect(await (await fetch(`${url}/lines`, { headers })).text()).toBe("one\ntwo\n");
  await expect.poll(() => waiting).toBe(0);
});
