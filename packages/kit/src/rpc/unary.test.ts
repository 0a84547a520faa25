/** Answers to unary gRPC calls, sent byte by byte if no client would send such a call. */
import { randomUUID } from "node:crypto";
import http2 from "node:http2";
import { setTimeout as delay } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, type HandlerContext } from "@connectrpc/connect";
import { compressionGzip, createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { BillingService, GetBillingAccountRequestSchema } from "@pm/proto/billing/v1/billing";
import { BillingInternalService } from "@pm/proto/billing/v1/internal";
import { ErrorInfoSchema } from "@pm/proto/google/rpc/error_details";
import { ServerReflection, type ServerReflectionRequest } from "@pm/proto/grpc/reflection/v1/reflection";
import { afterAll, beforeAll, expect, test } from "vitest";
import { testLifecycle } from "../../test/lifecycle.ts";
import type { AuditEntry } from "../audit/audit.ts";
import type { AuditTrail } from "../audit/trail.ts";
import type { Caller } from "../auth/verifier.ts";
import { AppError } from "../errors.ts";
import { maxBodyBytes } from "../http/request-input.ts";
import { createRestApp } from "../http/rest.ts";
import { createLogger } from "../log.ts";
import { createGuard } from "./guard.ts";
import { listenRpc } from "./server.ts";

const log = createLogger("test", "silent");
const entries: AuditEntry[] = [];
let auditFails = false;
const audit: AuditTrail = {
  async record(entry) {
    if (auditFails) throw Object.assign(new Error("down"), { code: "ECONNREFUSED" });
    entries.push(entry);
  },
};
const lifecycle = testLifecycle();
const caller: Caller = {
  ...{ kind: "user", id: "u", sessionId: undefined, roles: [], teams: [], hasSecondFactor: false, token: "", issuedAt: 0, expiresAt: 0 },
  scopes: new Set(["billing:read", "billing:write", "internal:links", "internal:erasure"]),
};
const reader: Caller = { ...caller, scopes: new Set(["billing:read"]) };
const verifier = {
  async verify(authorization: string | null | undefined) {
    if (!authorization) throw new AppError("unauthenticated", "Send an access token.");
    return authorization === "Bearer reader" ? reader : caller;
  },
  onRevoked: () => () => undefined,
};
/** What the method does; each test sets it. */
let work: (context: HandlerContext) => Promise<void> = async () => undefined;
let url = "";
let session: http2.ClientHttp2Session;

beforeAll(async () => {
  const rest = createRestApp({ service: "test", title: "Test", description: "Test", log, lifecycle, verifier, audit });
  const server = await listenRpc({
    routes: (router) =>
      router.service(BillingService, {
        async getBillingAccount({ key }, context) {
          await work(context);
          return { account: { accountId: String(key.value) } };
        },
      }),
    ...{
      services: [BillingService, BillingInternalService],
      rest: rest.app,
      guard: createGuard({ log, verifier, audit }),
      host: "127.0.0.1",
      port: 0,
      log,
      lifecycle,
    },
  });
  const address = server.address();
  url = `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
  session = http2.connect(url);
});
afterAll(async () => {
  session.destroy();
  await lifecycle.shutdown("the test has ended");
});

const accountId = randomUUID();
const message = toBinary(
  GetBillingAccountRequestSchema,
  create(GetBillingAccountRequestSchema, { key: { case: "accountId", value: accountId } }),
);
const frame = (bytes: Uint8Array, { flags = 0, length = bytes.byteLength } = {}) => {
  const head = Buffer.alloc(5);
  head[0] = flags;
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, bytes]);
};

/**
 * Sends bytes as the body of a call, or as the beginning of one that never ends, and gives the status, headers and
 * trailers of the answer.
 */
function send(body: Uint8Array, headers: http2.OutgoingHttpHeaders = {}, { endless = false } = {}) {
  const stream = session.request({
    ...{ ":method": "POST", ":path": "/billing.v1.BillingService/GetBillingAccount", te: "trailers" },
    ...{ "content-type": "application/grpc", authorization: "Bearer x", ...headers },
  });
  return new Promise<{ code: number; message: string; headers: http2.IncomingHttpHeaders; bytes: number }>((resolve, reject) => {
    let [answer, bytes]: [http2.IncomingHttpHeaders, number] = [{}, 0];
    stream.on("response", (received) => {
      answer = received;
    });
    stream.on("data", (chunk) => {
      bytes += chunk.byteLength;
    });
    stream.on("trailers", (trailers) => {
      const text = decodeURIComponent(String(trailers["grpc-message"] ?? ""));
      resolve({ code: Number(trailers["grpc-status"]), message: text, headers: answer, bytes });
    });
    stream.on("error", reject);
    if (endless) stream.write(body);
    else stream.end(body);
  });
}

const client = (compressed = false) =>
  createClient(
    BillingService,
    createGrpcTransport({ baseUrl: url, ...(compressed && { sendCompression: compressionGzip, compressMinBytes: 0 }) }),
  );
const get = { key: { case: "accountId" as const, value: accountId } };
const signedIn = { headers: { authorization: "Bearer x" } };

test("a call is answered with the request's id in a header and status 0 in a trailer", async () => {
  expect(await send(frame(message), { "x-request-id": "request-1" })).toMatchObject({
    ...{ code: 0, bytes: frame(message).byteLength + 2 },
    headers: { ":status": 200, "content-type": "application/grpc+proto", "x-request-id": "request-1" },
  });
});

test("a compressed call is answered too", async () => {
  expect(await client(true).getBillingAccount(get, signedIn)).toMatchObject({ account: { accountId } });
});

test("a method that does not exist is unimplemented in the caller's protocol, for calls and for streams", async () => {
  const grpc = await send(frame(message), { ":path": "/billing.v1.BillingService/Nope" });
  expect([grpc.code, grpc.message, grpc.headers[":status"]]).toEqual([12, "There is no such method here.", 200]);
  const json = await fetch(`${url}/billing.v1.BillingService/Nope`, {
    ...{ method: "POST", headers: { "content-type": "application/json", "x-request-id": "request-12" }, body: "{}" },
  });
  expect([json.status, json.headers.get("x-request-id"), await json.json()]).toMatchObject([
    501,
    "request-12",
    { code: "unimplemented", message: "There is no such method here." },
  ]);
  const { getBillingAccount, watchAccount } = BillingService.method;
  const transports = [
    createGrpcTransport({ baseUrl: url }),
    createGrpcWebTransport({ baseUrl: url, httpVersion: "1.1" }),
    createConnectTransport({ baseUrl: url, httpVersion: "1.1" }),
    createConnectTransport({ baseUrl: url, httpVersion: "2", useBinaryFormat: false }),
  ];
  for (const transport of transports) {
    const call = () => transport.unary({ ...getBillingAccount, name: "Nope" }, undefined, undefined, signedIn.headers, {});
    const read = async () => {
      const { message: messages } = await transport.stream(
        { ...watchAccount, name: "Nope" },
        ...([undefined, undefined, signedIn.headers, (async function* () {})()] as const),
      );
      for await (const _ of messages);
    };
    for (const ask of [call, read]) {
      const error = ConnectError.from(await ask().catch((thrown: unknown) => thrown));
      expect([error.code, error.rawMessage, error.findDetails(ErrorInfoSchema)[0]?.reason]).toEqual([
        Code.Unimplemented,
        "There is no such method here.",
        "UNIMPLEMENTED",
      ]);
    }
  }
  expect((await fetch(`${url}/billing.v1.BillingService/Nope`)).status).toBe(404);
});

test("reflection describes what callers may call, and nothing that only services may", async () => {
  const reflection = createClient(ServerReflection, createGrpcTransport({ baseUrl: url }));
  const ask = async (messageRequest: ServerReflectionRequest["messageRequest"]) => {
    const question = (async function* () {
      yield { host: "", messageRequest };
    })();
    for await (const answer of reflection.serverReflectionInfo(question)) return answer.messageResponse;
    return expect.fail("no answer");
  };
  const { value } = await ask({ case: "listServices", value: "*" });
  expect(value).toMatchObject({
    service: [
      { name: "billing.v1.BillingService" },
      { name: "grpc.health.v1.Health" },
      { name: "grpc.reflection.v1.ServerReflection" },
      { name: "grpc.reflection.v1alpha.ServerReflection" },
    ],
  });
  for (const symbol of ["billing.v1.BillingInternalService", "billing.v1.ErasePartyRequest"])
    expect((await ask({ case: "fileContainingSymbol", value: symbol })).case).toBe("errorResponse");
  expect((await ask({ case: "fileContainingSymbol", value: "billing.v1.BillingService" })).case).toBe("fileDescriptorResponse");
});

test("errors have a code, a reason and a domain, and who is not signed in learns nothing about the message", async () => {
  expect(await send(frame(Buffer.from([255])), { authorization: "" })).toMatchObject({ code: Code.Unauthenticated });
  work = async () => {
    throw new AppError("failed_precondition", "The account is closed – for good.", { reason: "ACCOUNT_CLOSED" });
  };
  const error = await client()
    .getBillingAccount(get, signedIn)
    .catch((reason: unknown) => ConnectError.from(reason));
  work = async () => undefined;
  expect(error).toMatchObject({ code: Code.FailedPrecondition, rawMessage: "The account is closed – for good." });
  expect((error as ConnectError).findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "ACCOUNT_CLOSED" }]);
});

test.each([
  ["nothing", Buffer.alloc(0), Code.Unimplemented],
  ["half a message", frame(message).subarray(0, 20), Code.InvalidArgument],
  ["two messages", Buffer.concat([frame(message), frame(message)]), Code.Unimplemented],
  ["another message", frame(Buffer.from([255, 255])), Code.InvalidArgument],
  ["a compressed message that is not announced", frame(message, { flags: 1 }), Code.InvalidArgument],
  ["too much", frame(Buffer.alloc(maxBodyBytes + 1)), Code.ResourceExhausted],
  ["what protovalidate refuses", frame(Buffer.alloc(0)), Code.InvalidArgument],
])("%s is refused", async (_, body, code) => {
  expect(await send(body)).toMatchObject({ code });
});

/** The message with one byte of its account's id wrong. */
const notUtf8 = Buffer.from(message).fill(0xff, 20, 21);
const zipped = gzipSync(message);

/** Sends bytes as the body of a call by another protocol than gRPC, over HTTP/1.1. */
async function post(type: string, body: string | Uint8Array, headers: Record<string, string> = {}, method = "GetBillingAccount") {
  const answer = await fetch(`${url}/billing.v1.BillingService/${method}`, {
    ...{ method: "POST", headers: { "content-type": type, authorization: "Bearer x", ...headers } },
    body: typeof body === "string" ? body : Buffer.from(body),
  });
  return { status: answer.status, text: await answer.text() };
}
const latin1 = (text: string) => Buffer.from(text, "latin1");

test("a text that is not UTF-8 is refused by every protocol, in binary and in JSON", async () => {
  const refused = { code: Code.InvalidArgument, message: expect.stringContaining("is not UTF-8") };
  expect(await send(frame(notUtf8))).toMatchObject(refused);
  expect(await send(frame(gzipSync(notUtf8), { flags: 1 }), { "grpc-encoding": "gzip" })).toMatchObject(refused);
  const json = latin1('{"accountId":"\xff"}');
  expect(await send(frame(json), { "content-type": "application/grpc+json" })).toMatchObject(refused);

  const invalid = { status: 400, text: expect.stringMatching(/"code":"invalid_argument","message":"[^"]*is not UTF-8/) };
  expect(await post("application/proto", notUtf8)).toEqual(invalid);
  expect(await post("application/json", json)).toEqual(invalid);
  expect(await post("application/json", gzipSync(json), { "content-encoding": "gzip" })).toEqual(invalid);
  for (const [type, body] of [
    ["application/grpc-web+proto", notUtf8],
    ["application/grpc-web+json", json],
  ] as const)
    expect((await post(type, frame(body))).text).toMatch(/grpc-message: .*is%20not%20UTF-8.*\r\ngrpc-status: 3\r\n/);
  const stream = await post("application/connect+json", frame(latin1('{"accountId":"\xff"}')), {}, "WatchAccount");
  expect(stream.text).toMatch(/"code":"invalid_argument","message":"[^"]*is not UTF-8/);
  const binary = await post("application/connect+proto", frame(notUtf8), {}, "WatchAccount");
  expect(binary.text).toMatch(/"code":"invalid_argument","message":"[^"]*is not UTF-8/);
});

test("wrong text in JSON is refused by the name of its field, and as a violation of it", async () => {
  const error = JSON.parse((await post("application/json", '{"accountId":"\\ud800"}')).text);
  expect(error).toMatchObject({ code: "invalid_argument", message: expect.stringContaining("accountId: has half of a surrogate pair") });
  expect(JSON.stringify(error.details)).toContain('"field":"accountId"');
  expect((await post("application/json", `{"accountId":"${accountId}"}`)).status).toBe(200);
});

test("a field that a message does not have is refused by its name, in the JSON of every method and protocol", async () => {
  for (const { name, methodKind, input } of BillingService.methods) {
    const body = latin1('{"dateOfPayment":"2026-11-27"}');
    const { text } =
      methodKind === "unary"
        ? await post("application/json", body, {}, name)
        : await post("application/connect+json", frame(body), {}, name);
    expect(text).toContain(`"message":"dateOfPayment: is not a known field of ${input.typeName}; check its spelling"`);
    expect(text).toContain('"field":"dateOfPayment"');
    const web = await post("application/grpc-web+json", frame(body), {}, name);
    expect(web.text).toMatch(/grpc-message: dateOfPayment.*\r\ngrpc-status: 3\r\n/);
  }
  expect(await send(frame(latin1('{"accountNumber":"1"}')), { "content-type": "application/grpc+json" })).toMatchObject({
    ...{ code: Code.InvalidArgument, message: expect.stringMatching(/^accountNumber: is not a known field/) },
  });
});

test("a value of another type is refused by the name of its field, in plain words", async () => {
  const whole = "must be a whole number in the range of its type";
  for (const [body, field, description] of [
    ['{"amount":{"minorUnits":12.5}}', "minor_units", whole],
    ['{"amount":{"minorUnits":"many"}}', "minor_units", whole],
    ['{"tax":{"rateBasisPoints":1.5}}', "rate_basis_points", whole],
    ['{"description":5}', "description", "must be a text"],
  ] as const) {
    const { status, text } = await post("application/json", body, {}, "CreateCharge");
    const { code, message: told, details } = JSON.parse(text) as { code: string; message: string; details: { debug?: unknown }[] };
    expect([status, code, told]).toEqual([400, "invalid_argument", `${field}: ${description}`]);
    expect(details).toContainEqual(expect.objectContaining({ debug: { fieldViolations: [{ field, description }] } }));
  }
});

test("a text that has not the form of a date or a currency is told what is expected", async () => {
  const body = JSON.stringify({
    ...{ accountId, requestId: randomUUID(), description: "Visit" },
    ...{ amount: { minorUnits: "1", currencyCode: "eu" }, serviceDate: "yesterday" },
  });
  const { details } = JSON.parse((await post("application/json", body, {}, "CreateCharge")).text) as { details: { debug?: unknown }[] };
  const fieldViolations = [
    { field: "amount.currency_code", description: "must be a currency of ISO 4217, such as EUR" },
    { field: "service_date", description: "must be a date as YYYY-MM-DD" },
  ];
  expect(details).toContainEqual(expect.objectContaining({ debug: { fieldViolations } }));
});

test("a message in JSON beyond the bounds of fields and levels is refused by them", async () => {
  for (const [body, refusal] of [
    [`{${Array.from({ length: 10_001 }, (_, index) => `"f${index}":1`).join()}}`, "has more than 10,000 fields"],
    [`{"accountId":${"[".repeat(40)}${"]".repeat(40)}}`, "is nested more than 32 levels deep"],
  ] as const) {
    expect((await post("application/json", body)).text).toContain(`"code":"invalid_argument","message":"The body: ${refusal}"`);
    expect(await send(frame(latin1(body)), { "content-type": "application/grpc+json" })).toMatchObject({
      ...{ code: Code.InvalidArgument, message: expect.stringContaining(refusal) },
    });
  }
});

test("an unknown field of an inner message, and an unknown value of an enum, are refused with the name of its type", async () => {
  const money = await post("application/json", '{"amount":{"currencyCode":"EUR","minorUnit":1}}', {}, "CreateCharge");
  expect(money.text).toContain('"message":"minorUnit: is not a known field of common.v1.Money; check its spelling"');
  const accounts = await post("application/json", '{"status":"BILLING_ACCOUNT_STATUS_SHUT"}', {}, "ListBillingAccounts");
  expect(accounts.text).toMatch(/"code":"invalid_argument","message":"[^,]*BillingAccountStatus[^,]*BILLING_ACCOUNT_STATUS_SHUT/);
  const many = await post("application/json", `{"${"x".repeat(1_000_000)}":1}`);
  expect(many.text.length).toBeLessThan(2_000);
});

test("what cannot be read is the caller's to mend, not an error of the service", async () => {
  for (const [type, body, headers] of [
    ["application/proto", Buffer.from([255, 255]), {}],
    ["application/proto", zipped.subarray(0, 12), { "content-encoding": "gzip" }],
    ["application/json", "{}", { "content-encoding": "gzip" }],
    ["application/json", "{", {}],
  ] as const)
    expect(await post(type, body, headers)).toMatchObject({ status: 400, text: expect.stringContaining('"code":"invalid_argument"') });
});

test("compressed messages are bounded by what comes out of them, and an unknown compression is refused", async () => {
  const bomb = gzipSync(Buffer.alloc(maxBodyBytes + 1, " "));
  expect(bomb.byteLength).toBeLessThan(2_000);
  expect((await post("application/json", bomb, { "content-encoding": "gzip" })).text).toContain('"code":"resource_exhausted"');
  expect(await send(frame(bomb, { flags: 1 }), { "grpc-encoding": "gzip" })).toMatchObject({ code: Code.ResourceExhausted });
  expect(await post("application/json", "{}", { "content-encoding": "zstd" })).toMatchObject({
    text: expect.stringMatching(/"code":"unimplemented".*zstd.*gzip/),
  });
});

test("JSON in another character set, and gRPC-Web in base64, are media types that nobody takes", async () => {
  expect((await post("application/json; charset=iso-8859-1", "{}")).status).toBe(415);
  expect((await post("application/grpc-web-text", frame(message).toString("base64"))).status).toBe(415);
});

test("a call is refused before it has ended, where it will not be heard", async () => {
  expect(await send(frame(message), { authorization: "" }, { endless: true })).toMatchObject({ code: Code.Unauthenticated });
  const tooMuch = frame(Buffer.alloc(maxBodyBytes + 1));
  expect(await send(tooMuch, {}, { endless: true })).toMatchObject({ code: Code.ResourceExhausted });
});

test("a refusal leaves an audit entry, and is no answer without one", async () => {
  entries.length = 0;
  const create = async () =>
    ConnectError.from(
      await client()
        .createBillingAccount({}, { headers: { authorization: "Bearer reader" } })
        .catch((error: unknown) => error),
    );
  expect((await create()).code).toBe(Code.PermissionDenied);
  work = async () => {
    throw new AppError("not_found", "There is no such account.", { refused: { subject: accountId } });
  };
  const read = async () =>
    ConnectError.from(
      await client()
        .getBillingAccount(get, signedIn)
        .catch((error: unknown) => error),
    );
  expect((await read()).code).toBe(Code.NotFound);
  const operation = (name: string) => `billing.v1.BillingService/${name}`;
  const refusal = { actorId: "u", action: "access.refused", requestId: expect.stringMatching(/./) };
  expect(entries).toEqual([
    {
      ...refusal,
      subject: operation("CreateBillingAccount"),
      details: { operation: operation("CreateBillingAccount"), code: "permission_denied", scope: "billing:write" },
    },
    { ...refusal, subject: accountId, details: { operation: operation("GetBillingAccount"), code: "not_found" } },
  ]);
  auditFails = true;
  expect([(await create()).code, (await read()).code]).toEqual([Code.Unavailable, Code.Unavailable]);
  auditFails = false;
  work = async () => undefined;
});

test("a deadline of another form is refused, and one that passes ends the work", async () => {
  expect(await send(frame(message), { "grpc-timeout": "soon" })).toMatchObject({ code: Code.InvalidArgument });
  const reasons: unknown[] = [];
  work = async ({ signal }) => {
    await delay(5_000, undefined, { signal }).catch(() => reasons.push(signal.reason));
    signal.throwIfAborted();
  };
  expect(await send(frame(message), { "grpc-timeout": "50m" })).toMatchObject({ code: Code.DeadlineExceeded });
  work = async () => undefined;
  expect(reasons).toMatchObject([{ code: Code.DeadlineExceeded }]);
});

test("a caller that goes away ends the work", async () => {
  const gone = new AbortController();
  const seen = new Promise((resolve) => {
    work = async ({ signal }) => {
      signal.addEventListener("abort", () => resolve(signal.reason));
      gone.abort();
      await delay(200);
    };
  });
  await expect(client().getBillingAccount(get, { ...signedIn, signal: gone.signal })).rejects.toMatchObject({ code: Code.Canceled });
  expect(await seen).toMatchObject({ code: Code.Canceled });
  work = async () => undefined;
});
