/**
 * Errors that Envoy makes itself, as real clients see them: Connect, gRPC and gRPC-Web by connect-node, gRPC by
 * grpc-js, plain JSON by fetch, and whatever is not HTTP by a socket.
 */
import { readFileSync } from "node:fs";
import { connect as connectSocket } from "node:net";
import { BinaryReader, base64Decode } from "@bufbuild/protobuf/wire";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { Client, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import { BillingService } from "@pm/proto/billing/v1/billing";
import { ErrorInfoSchema, RetryInfoSchema } from "@pm/proto/google/rpc/error_details";
import { Health, HealthCheckResponse_ServingStatus } from "@pm/proto/grpc/health/v1/health";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { eventually, type Gateway, signToken, startGateway, template } from "./gateway.ts";

let gateway: Gateway;
beforeAll(async () => {
  gateway = await startGateway({
    change: (text) => text.replace("duration: 120s", "duration: 2s").replace("headers_timeout: 10s", "headers_timeout: 1s"),
  });
});
afterAll(() => gateway.stop());

const http2 = { httpVersion: "2" as const };
const transports: [string, (baseUrl: string) => Transport][] = [
  ["gRPC", (baseUrl) => createGrpcTransport({ baseUrl })],
  ["gRPC-Web", (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: "1.1" })],
  ["gRPC-Web over HTTP/2", (baseUrl) => createGrpcWebTransport({ baseUrl, ...http2 })],
  ["Connect", (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "1.1" })],
  ["Connect in binary", (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "1.1", useBinaryFormat: true })],
  ["Connect over HTTP/2", (baseUrl) => createConnectTransport({ baseUrl, ...http2, useBinaryFormat: false })],
];

async function errorOf(call: Promise<unknown>): Promise<ConnectError> {
  const error = await call.then(() => undefined, ConnectError.from);
  return error ?? expect.fail("the call did not fail");
}

/** What a program and a person read of an error. */
function told(error: ConnectError) {
  const [info] = error.findDetails(ErrorInfoSchema);
  const retry = error.findDetails(RetryInfoSchema)[0]?.retryDelay?.seconds;
  return {
    code: Code[error.code],
    message: error.rawMessage,
    reason: info?.reason,
    domain: info?.domain,
    ...(retry !== undefined && { retry: Number(retry) }),
  };
}
const domain = "patient-management";
const unauthenticated = {
  code: "Unauthenticated",
  message: "Send an access token that is valid: `authorization: Bearer <token>` from POST /auth/login.",
  reason: "UNAUTHENTICATED",
  domain,
};
const tooLarge = {
  code: "ResourceExhausted",
  message: "A message may have up to 1 MiB (1,048,576 bytes).",
  reason: "PAYLOAD_TOO_LARGE",
  domain,
};
const ofService = { code: "PermissionDenied", message: "Tokens of services are not accepted here.", reason: "PERMISSION_DENIED", domain };
const unavailable = {
  ...{ code: "Unavailable", message: "The service cannot take requests right now. Try again shortly.", reason: "UNAVAILABLE" },
  ...{ domain, retry: 1 },
};
const noKeys = { ...unavailable, message: "Tokens cannot be verified right now. Try again shortly." };
const noMethod = { code: "Unimplemented", message: "There is no such method here.", reason: "UNIMPLEMENTED", domain };

describe.each(transports)("%s", (_, transportTo) => {
  const client = (url = gateway.url) => createClient(BillingService, transportTo(url));
  const call = (headers: Record<string, string>, name = "Ada") =>
    errorOf(client().createBillingAccount({ patientId: crypto.randomUUID(), name, email: "ada@example.com" }, { headers }));
  const watch = (headers: Record<string, string>, url = gateway.url) =>
    errorOf(client(url).watchAccount({ accountId: crypto.randomUUID() }, { headers })[Symbol.asyncIterator]().next());

  test("a call and a stream without a token that is valid are unauthenticated", async () => {
    const foreign = await signToken(gateway.keys[0] ?? expect.fail(), { audience: "another-system" });
    for (const headers of [{}, { authorization: "Bearer x" }, { authorization: `Bearer ${foreign}` }] as Record<string, string>[]) {
      expect(told(await call(headers))).toEqual(unauthenticated);
      expect(told(await watch(headers))).toEqual(unauthenticated);
    }
  });

  test("a token of a service is permission_denied", async () => {
    const token = await signToken(gateway.keys[0] ?? expect.fail(), { subject: "service:analytics" });
    for (const ask of [call, watch]) expect(told(await ask({ authorization: `Bearer ${token}` }))).toEqual(ofService);
  });

  test("a message over 1 MiB is resource_exhausted", async () => {
    expect(told(await call(gateway.signedIn, "x".repeat(1024 * 1024)))).toEqual(tooLarge);
  });

  test("a method of a service that is not here is unimplemented", async () => {
    const { createBillingAccount } = BillingService.method;
    const elsewhere = { ...createBillingAccount, parent: { ...BillingService, typeName: "billing.v1.OtherService" } };
    const asked = transportTo(gateway.url).unary(elsewhere, undefined, undefined, gateway.signedIn, {});
    expect(told(await errorOf(asked))).toMatchObject(noMethod);
  });

  test("before a signing key could be fetched and while billing is down, calls and streams are unavailable, with when to try again", async () => {
    const early = await startGateway({ down: ["auth", "billing"] });
    const ask = () => watch(early.signedIn, early.url);
    const askOnce = () =>
      errorOf(createClient(BillingService, transportTo(early.url)).createBillingAccount({}, { headers: early.signedIn }));
    for (const one of [ask, askOnce]) expect(told(await one())).toEqual(noKeys);
    await early.upstreams.auth.start();
    await eventually(
      async () => told(await ask()).message,
      (message) => message === unavailable.message,
      3_000,
    );
    for (const one of [ask, askOnce]) expect(told(await one())).toEqual(unavailable);
    await early.stop();
  });

  test("health answers who has a token, and nobody else", async () => {
    const health = createClient(Health, transportTo(gateway.url));
    expect((await health.check({}, { headers: gateway.signedIn })).status).toBe(HealthCheckResponse_ServingStatus.SERVING);
    expect(told(await errorOf(health.check({})))).toEqual(unauthenticated);
  });
});

test("grpc-js reads the same code and message, and the details that belong to them", async () => {
  const client = new Client(new URL(gateway.url).host, credentials.createInsecure());
  const path = "/billing.v1.BillingService/CreateBillingAccount";
  const ask = (bytes: number, headers: Record<string, string>) =>
    new Promise<ServiceError>((resolve, reject) => {
      const metadata = new Metadata();
      for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
      const same = (message: Buffer) => message;
      client.makeUnaryRequest(path, same, same, Buffer.alloc(bytes), metadata, (error) =>
        error ? resolve(error) : reject(new Error("ok")),
      );
    });
  const statusOf = ({ metadata }: ServiceError) => readStatus(metadata.get("grpc-status-details-bin")[0] as Buffer);
  const refused = await ask(0, {});
  expect([refused.code, refused.details]).toEqual([16, unauthenticated.message]);
  expect(statusOf(refused)).toEqual({ code: 16, message: unauthenticated.message, details: ["google.rpc.ErrorInfo"] });
  const large = await ask(1024 * 1024 + 1, gateway.signedIn);
  expect([large.code, large.details]).toEqual([8, tooLarge.message]);
  expect(statusOf(large)).toEqual({ code: 8, message: tooLarge.message, details: ["google.rpc.ErrorInfo"] });
  client.close();
});

test("plain JSON by POST gets an HTTP status and a Connect error", async () => {
  const headers = { "content-type": "application/json" };
  const call = (method: string, more = {}, body = "{}") =>
    fetch(`${gateway.url}/billing.v1.BillingService/${method}`, { method: "POST", headers: { ...headers, ...more }, body });
  const refused = await call("GetBillingAccount");
  expect([refused.status, refused.headers.get("content-type"), refused.headers.get("www-authenticate")]).toEqual([
    401,
    "application/json",
    "Bearer",
  ]);
  expect(await refused.json()).toMatchObject({ code: "unauthenticated", message: unauthenticated.message });
  const large = await call("GetBillingAccount", gateway.signedIn, "x".repeat(1024 * 1024 + 1));
  expect([large.status, ((await large.json()) as { code: string }).code]).toEqual([429, "resource_exhausted"]);
});

/** google.rpc.Status: code, message and the types of its details. */
function readStatus(bytes: Uint8Array) {
  const reader = new BinaryReader(bytes);
  const status = { code: 0, message: "", details: [] as string[] };
  while (reader.pos < reader.len) {
    const [field] = reader.tag();
    if (field === 1) status.code = reader.int32();
    else if (field === 2) status.message = reader.string();
    else {
      const detail = new BinaryReader(reader.bytes());
      detail.tag();
      status.details.push(detail.string().replace("type.googleapis.com/", ""));
    }
  }
  return status;
}

type Mapper = {
  filter: { and_filter?: { filters: [unknown, unknown] } };
  headers_to_add?: { header: { key: string; value: string } }[];
  body_format_override: { text_format_source?: { inline_string: string }; json_format?: { code: string; message?: string } };
};

test("each error has one code and one text in gRPC, in streams of Connect and in Connect", () => {
  const choices: Record<string, string> = { TRUST_TRACEPARENT: "false", TRACING: "off" };
  const text = readFileSync(template, "utf8").replaceAll(/\$\{([A-Z_]+)\}/g, (_, name) => choices[name] ?? "1");
  const config = parse(text, { maxAliasCount: -1 });
  const mappers: Mapper[] = config.static_resources.listeners[0].filter_chains[0].filters[0].typed_config.local_reply_config.mappers;
  const forms = Map.groupBy(
    // FHIR's errors have a form of their own (fhir.e2e.test.ts).
    mappers.filter(({ filter, body_format_override: { json_format: json } }) => filter.and_filter && !(json && "resourceType" in json)),
    ({ filter }) => JSON.stringify(filter.and_filter?.filters[1]),
  );
  expect(forms.size).toBeGreaterThanOrEqual(8);
  for (const same of forms.values()) {
    const read = same.map(({ headers_to_add: headers = [], body_format_override: { text_format_source: text, json_format: json } }) => {
      const header = (name: string) => headers.find(({ header: { key } }) => key === name)?.header.value;
      const [details, message = ""] = [header("grpc-status-details-bin"), text?.inline_string];
      if (json) return `${json.code}: ${json.message}`;
      if (details === undefined) {
        expect([Buffer.from(message).readUInt8(0), Buffer.from(message).readUInt32BE(1)]).toEqual([2, message.length - 5]);
        const { error } = JSON.parse(message.slice(5));
        return `${error.code}: ${error.message}`;
      }
      const status = readStatus(base64Decode(details));
      expect([String(status.code), status.message]).toEqual([header("grpc-status"), message]);
      return `${(Code[status.code] ?? "").replace(/(?<=[a-z])(?=[A-Z])/g, "_").toLowerCase()}: ${status.message}`;
    });
    expect(new Set(read).size, read.join("\n")).toBe(1);
  }
});

/** Sends bytes and reads the answer until the gateway closes the connection. */
function sendRaw(bytes: string | Buffer): Promise<{ status: number; headers: Headers; body: string }> {
  return new Promise((resolve, reject) => {
    const socket = connectSocket(Number(new URL(gateway.url).port), "127.0.0.1", () => socket.write(bytes));
    let answer = "";
    socket.setEncoding("utf8").setTimeout(15_000, () => socket.destroy(new Error(`no end of: ${answer}`)));
    socket.on("data", (part) => (answer += part)).on("error", reject);
    socket.on("close", () => {
      const [head = "", body = ""] = answer.split("\r\n\r\n");
      const [first = "", ...lines] = head.split("\r\n");
      const headers = lines.map((line) => line.split(": ", 2) as [string, string]);
      resolve({ status: Number(first.split(" ")[1]), headers: new Headers(headers), body });
    });
  });
}

const host = "host: localhost\r\n";
const raw: [string, number, string | Buffer, string][] = [
  ["HTTP/1.0", 426, "GET /docs HTTP/1.0\r\n\r\n", "Use HTTP/1.1 or HTTP/2"],
  ["HTTP/0.9", 426, "GET /docs\r\n\r\n", "Use HTTP/1.1 or HTTP/2"],
  ["not HTTP", 400, "hello\r\n\r\n", "not valid HTTP/1.1"],
  ["TLS", 400, Buffer.from("16030100750100007103034f", "hex"), "speaks no TLS"],
  ["a header without a colon", 400, `GET /docs HTTP/1.1\r\n${host}bad\r\n\r\n`, "not valid HTTP/1.1"],
  ["a control character in a header", 400, `GET /docs HTTP/1.1\r\n${host}x-a: \u0001\r\n\r\n`, "control character"],
  ["no Host", 400, "GET /docs HTTP/1.1\r\n\r\n", "Host: is required."],
  ["an encoded slash", 400, `GET /docs%2fx HTTP/1.1\r\n${host}\r\n`, "(%2F, %5C)"],
  ["two lengths", 400, `POST /docs HTTP/1.1\r\n${host}content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`, "not both"],
  ["an unknown encoding", 501, `POST /docs HTTP/1.1\r\n${host}transfer-encoding: gzip, chunked\r\n\r\n`, "must be chunked"],
  ["a head over 15 KiB", 431, `GET /${"a".repeat(20_000)} HTTP/1.1\r\n${host}\r\n`, "15 KiB"],
  ["101 headers", 431, `GET /docs HTTP/1.1\r\n${host}${"x-a: 1\r\n".repeat(101)}\r\n`, "100 headers"],
  ["a wrong chunk", 400, `POST /auth/login HTTP/1.1\r\n${host}transfer-encoding: chunked\r\n\r\nzz\r\n`, "a chunk of the body"],
  ["CONNECT", 400, `CONNECT localhost:80 HTTP/1.1\r\n${host}\r\n`, "no proxy"],
];

test.each(raw)(
  "%s is %d problem+json that says what is wrong, and whose request id is in its header and in the log",
  async (_, status, bytes, text) => {
    const answer = await sendRaw(bytes);
    expect([answer.status, answer.headers.get("content-type")]).toEqual([status, "application/problem+json"]);
    const problem = JSON.parse(answer.body);
    expect(problem).toMatchObject({ type: "about:blank", status, detail: expect.stringContaining(text), code: expect.any(String) });
    expect(problem.requestId).toMatch(/^[0-9a-f-]{36}$/);
    expect(answer.headers.get("x-request-id")).toBe(problem.requestId);
    const line = await eventually(
      () => gateway.log.find((entry) => entry.includes(problem.requestId)),
      (entry) => entry !== undefined,
      5_000,
    );
    expect(JSON.parse(line ?? "")).toMatchObject({ status, requestId: problem.requestId });
  },
);

test("a head that takes too long is 408", async () => {
  const { status, body } = await sendRaw("GET /docs HTTP/1.1\r\nhost:");
  expect([status, JSON.parse(body)]).toEqual([
    408,
    expect.objectContaining({ code: "request_timeout", detail: expect.stringContaining("10 seconds") }),
  ]);
});

test("a body that does not arrive in time is deadline_exceeded for Connect", async () => {
  const path = "POST /billing.v1.BillingService/GetBillingAccount HTTP/1.1";
  const { authorization } = gateway.signedIn;
  const answer = await sendRaw(
    `${path}\r\n${host}authorization: ${authorization}\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{`,
  );
  expect([answer.status, JSON.parse(answer.body)]).toEqual([504, expect.objectContaining({ code: "deadline_exceeded" })]);
});

test("Upgrade is refused with or without a token, and not as if the token were wrong; that to HTTP/2 is ignored", async () => {
  const ask = (upgrade: string, authorization = "") =>
    sendRaw(`GET /docs HTTP/1.1\r\n${host}${authorization}connection: Upgrade, HTTP2-Settings, close\r\n${upgrade}\r\n\r\n`);
  for (const authorization of ["", `authorization: ${gateway.signedIn.authorization}\r\n`]) {
    const refused = await ask("upgrade: websocket", authorization);
    expect([refused.status, JSON.parse(refused.body)]).toEqual([400, expect.objectContaining({ code: "invalid_argument" })]);
    expect(JSON.parse(refused.body).requestId).toBe(refused.headers.get("x-request-id"));
  }
  expect((await ask("upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__")).status).toBe(200);
});
