import { z } from "@hono/zod-openapi";
import { expect, test } from "vitest";
import type { AuditEntry } from "../audit/audit.ts";
import type { AuditTrail } from "../audit/trail.ts";
import { operations, type Scope } from "../auth/access.ts";
import type { Caller, Verifier } from "../auth/verifier.ts";
import { AppError } from "../errors.ts";
import type { Lifecycle } from "../lifecycle.ts";
import { createLogger } from "../log.ts";
import { entityTags, matchesIfMatch, matchesIfNoneMatch } from "./etag.ts";
import { createRestApp, requestContext } from "./rest.ts";
import { errorAnswers, jsonAnswer, ProblemSchema } from "./schemas.ts";
import { textStream } from "./text-stream.ts";

const callers: Record<string, Scope[]> = { reader: ["patient:read"], writer: ["patient:read", "patient:write"] };
const verifier: Verifier = {
  async verify(authorization) {
    const name = authorization?.replace("Bearer ", "") ?? "";
    const scopes = callers[name];
    if (!scopes) throw new AppError("unauthenticated", "Who are you?");
    const caller: Caller = {
      kind: "user",
      id: name,
      sessionId: "s",
      roles: [],
      scopes: new Set(scopes),
      teams: [],
      hasSecondFactor: false,
      token: name,
      issuedAt: 0,
      expiresAt: 0,
    };
    return caller;
  },
  onRevoked: () => () => undefined,
};
const lifecycle: Lifecycle = {
  onClose: () => undefined,
  onReady: () => undefined,
  notReady: async () => ["database"],
  shutdown: async () => undefined,
};
const log = createLogger("t", "silent");
const entries: AuditEntry[] = [];
let auditFails = false;
const audit: AuditTrail = {
  async record(entry) {
    if (auditFails) throw Object.assign(new Error("down"), { code: "ECONNREFUSED" });
    entries.push(entry);
  },
};
const { app, operation } = createRestApp({ service: "patient", title: "T", description: "D", log, lifecycle, verifier, audit });

const IdSchema = z.object({ id: z.string() });
const BodySchema = z.strictObject({ name: z.string().min(1), age: z.int() });
operation(
  {
    operationId: "createPatient",
    method: "post",
    path: "/things/{id}:rename",
    request: { params: IdSchema, body: { required: true, content: { "application/json": { schema: BodySchema } } } },
    responses: { 200: jsonAnswer(IdSchema, "Renamed"), ...errorAnswers("not_found", "already_exists", "failed_precondition") },
  },
  (c) => c.json({ id: `${c.req.valid("param").id}:${c.req.valid("json").name}:${c.get("caller").id}` }, 200),
);
operation(
  {
    operationId: "getPatient",
    method: "get",
    path: "/things/{id}",
    request: { params: IdSchema },
    responses: { 200: { description: "It", content: { "application/json": { schema: IdSchema } } } },
  },
  (c) => {
    if (c.req.valid("param").id === "broken") throw new Error("secret detail");
    if (c.req.valid("param").id === "hidden") throw new AppError("not_found", "There is none.", { refused: { subject: "hidden" } });
    if (c.req.valid("param").id === "none") throw new AppError("not_found", "There is none.");
    return c.json({ id: c.req.valid("param").id }, 200);
  },
);
operation(
  {
    operationId: "replacePatient",
    method: "put",
    path: "/things/{id}/parts/{part}",
    request: {
      params: z.object({ id: z.string(), part: z.string() }),
      headers: z.object({ "idempotency-key": z.string().optional() }),
      body: {
        required: true,
        content: { "application/json": { schema: z.looseObject({}) }, "application/x-www-form-urlencoded": { schema: z.looseObject({}) } },
      },
    },
    responses: { 200: { description: "It", content: { "application/json": { schema: z.unknown() } } } },
  },
  (c) => c.json({ ...c.req.valid("form"), ...c.req.valid("json"), key: c.req.valid("header")["idempotency-key"] }, 200),
);
operation(
  {
    operationId: "matchPatients",
    method: "get",
    path: "/things/{id}/$match",
    request: { params: IdSchema, query: z.object({ limit: z.coerce.number().int().optional() }) },
    responses: { 200: jsonAnswer(IdSchema, "It") },
  },
  (c) => c.json({ id: `match of ${c.req.valid("param").id}` }, 200),
);

const TotalsSchema = z.object({ count: z.int() }).openapi("ThingTotals");
operation(
  { operationId: "deletePatient", method: "delete", path: "/things/all", responses: { 204: { description: "Deleted" } } },
  (c) => c.body(null, 204),
  { orWithSlash: true },
);
operation(
  { operationId: "readPatientTotals", method: "get", path: "/things:totals", responses: { 200: jsonAnswer(TotalsSchema, "Totals") } },
  (c) => c.json({ count: 0 }, 200),
);
operation(
  { operationId: "listPatients", "x-internal": true, method: "get", path: "/things:all", responses: { 204: { description: "Nothing" } } },
  (c) => c.body(null, 204),
);

const ended: string[] = [];
async function* pieces() {
  try {
    for (;;) yield "piece";
  } finally {
    ended.push("pieces");
  }
}
const text = { description: "Pieces", content: { "text/plain": { schema: z.string() } } };
operation(
  { operationId: "exportPatients", method: "get", path: "/things:export", responses: { 200: text } },
  (c) =>
    c.body(
      textStream(c, pieces(), async () => void ended.push("stream")),
      200,
      { "content-type": "text/plain" },
    ) as never,
  { streams: true },
);

type Sent = { as?: string; body?: string | Buffer<ArrayBuffer>; type?: string; headers?: Record<string, string> };

function send(method: string, path: string, options: Sent = {}) {
  const { as, body, type = "application/json", headers: others } = options;
  const headers = { ...(as && { authorization: `Bearer ${as}` }), ...(body !== undefined && { "content-type": type }), ...others };
  return app.request(path, { method, headers, ...(body !== undefined && { body }) });
}

async function problemOf(response: Response) {
  return (await response.json()) as { requestId: string; code: string; errors: { path: string }[] };
}

test("a refusal leaves an audit entry, and is no answer without one", async () => {
  const requestId = "a-request-of-this-test";
  const headers = { "x-request-id": requestId };
  const rename = () => send("POST", "/things/7:rename", { as: "reader", headers, body: "{}" });
  const read = (id: string) => send("GET", `/things/${id}`, { as: "reader", headers });
  expect((await rename()).status).toBe(403);
  expect((await read("hidden")).status).toBe(404);
  expect((await read("none")).status).toBe(404);
  expect((await send("GET", "/things/7", { headers })).status).toBe(401);
  const refusal = { actorId: "reader", action: "access.refused", requestId };
  const [forbidden, hidden] = ["patient.createPatient", "patient.getPatient"];
  expect(entries.filter((entry) => entry.requestId === requestId)).toEqual([
    { ...refusal, subject: forbidden, details: { operation: forbidden, code: "permission_denied", scope: "patient:write" } },
    { ...refusal, subject: "hidden", details: { operation: hidden, code: "not_found" } },
  ]);
  auditFails = true;
  expect([(await rename()).status, (await read("hidden")).status, (await read("none")).status]).toEqual([503, 503, 404]);
  auditFails = false;
});

test("a number that would be rounded is refused by the name of its field, after who calls is known", async () => {
  const rename = (number: string, as?: string) =>
    send("POST", "/things/7:rename", { ...(as && { as }), body: `{"name": "a", "age": ${number}}` });
  expect((await rename("1.0000000000000000001")).status).toBe(401);
  for (const number of ["1.0000000000000000001", "9007199254740993"]) {
    const response = await rename(number, "writer");
    expect([response.status, (await problemOf(response)).errors]).toEqual([
      400,
      [{ path: "age", message: expect.stringContaining("would be rounded") }],
    ]);
  }
  expect((await rename("1e3", "writer")).status).toBe(200);
});

test("a custom method is an operation of its own, beside the resource that it ends", async () => {
  expect(await (await send("POST", "/things/7:rename", { as: "writer", body: '{"name":"x","age":1}' })).json()).toEqual({
    id: "7:x:writer",
  });
  expect(await (await send("GET", "/things/7", { as: "reader" })).json()).toEqual({ id: "7" });
});

test("an operation of FHIR is one of its own, and no resource, also with its sign encoded", async () => {
  for (const sign of ["$", "%24"])
    expect(await (await send("GET", `/things/7/${sign}match`, { as: "reader" })).json()).toEqual({ id: "match of 7" });
  for (const path of ["/things/$match", "/things/7/parts/$match", "/things/7/@@match"])
    expect((await send("GET", path, { as: "reader" })).status).toBe(404);
  expect((await send("POST", "/things/7/$match", { as: "reader" })).status).toBe(405);
});

test("a custom method has one spelling: every other is 404, for every method", async () => {
  for (const [collection, custom] of [
    ["/things", "totals"],
    ["/things", "all"],
    ["/things/7", "rename"],
  ])
    for (const mark of ["/@", "/%40", "//@", "//%40", "/./@", "/x/../@", "%3A", "%3a", "//:", "/:", "/%3a", "/%3A"])
      for (const method of ["GET", "POST", "PUT"]) {
        const path = `${collection}${mark}${custom}`;
        const response = await send(method, `http://service${path}`, { as: "writer" });
        expect([response.status, (await problemOf(response)).code], `${method} ${path}`).toEqual([404, "not_found"]);
      }
});

test("the answer to a body with thousands of wrong fields is short, and a body beyond the bounds is refused by them", async () => {
  const body = (count: number) => JSON.stringify(Object.fromEntries(Array.from({ length: count }, (_, index) => [`f${index}`, index])));
  const refused = await send("POST", "/things/7:rename", { as: "writer", body: body(8_000) });
  const text = await refused.text();
  expect([refused.status, text.length < 3_000, JSON.parse(text).errors.length]).toEqual([400, true, 21]);
  expect(JSON.parse(text).errors.at(-1)).toEqual({ path: "", message: "and 7982 more" });
  for (const [sent, detail] of [
    [body(10_001), "The body: has more than 10,000 fields"],
    [`{"name":${"[".repeat(40)}${"]".repeat(40)}}`, "The body: is nested more than 32 levels deep"],
  ] as const)
    expect(await (await send("POST", "/things/7:rename", { as: "writer", body: sent })).json()).toMatchObject({ status: 400, detail });
});

test("who calls is asked before what they send", async () => {
  expect((await send("POST", "/things/7:rename", { body: "{" })).status).toBe(401);
  expect((await send("POST", "/things/7:rename", { as: "reader", body: "{" })).status).toBe(403);
  expect((await send("POST", "/things/7:rename", { as: "writer", body: "{" })).status).toBe(400);
});

test("every wrong field is named, unknown ones too", async () => {
  const response = await send("POST", "/things/7:rename", { as: "writer", body: '{"name":"","age":"x","nmae":"y"}' });
  expect(response.status).toBe(400);
  expect((await problemOf(response)).errors.map((error) => error.path).sort()).toEqual(["age", "name", "nmae"]);
});

test("a parameter that an operation does not know is refused by its name", async () => {
  const answer = await send("GET", "/things/7/$match?limit=2&bogus=1", { as: "reader" });
  expect([answer.status, await answer.json()]).toEqual([
    400,
    expect.objectContaining({ errors: [{ path: "bogus", message: "is not a known field; check its spelling" }] }),
  ]);
  expect((await send("GET", "/things/7/$match?limit=2", { as: "reader" })).status).toBe(200);
});

test("a path that is written out has its own methods, and no id of a path with a parameter in its place", async () => {
  for (const method of ["GET", "HEAD"]) expect((await send(method, "/things/all", { as: "reader" })).status).toBe(405);
  expect((await send("PUT", "/things/all", { as: "writer" })).headers.get("allow")).toBe("DELETE");
  expect((await send("PUT", "/things/7", { as: "writer" })).headers.get("allow")).toBe("GET");
});

test("a path with a slash at its end is another one, unless its operation says otherwise", async () => {
  const headers = { authorization: "Bearer writer" };
  expect((await app.request("/things/all/", { method: "DELETE", headers })).status).toBe(204);
  expect((await app.request("/things/all/", { headers })).headers.get("allow")).toBe("DELETE");
  expect((await app.request("/things/1/", { headers })).status).toBe(404);
});

test("wrong method 405 with Allow, wrong path 404, wrong type 415, too large 413, all as problems with the request id", async () => {
  const wrongMethod = await send("DELETE", "/things/7", { as: "writer" });
  expect([wrongMethod.status, wrongMethod.headers.get("allow")]).toEqual([405, "GET"]);
  expect((await send("GET", "/nothing")).status).toBe(404);
  expect((await send("POST", "/things/7:rename", { as: "writer", body: "x", type: "text/plain" })).status).toBe(415);
  const tooLarge = await send("POST", "/things/7:rename", { as: "writer", body: JSON.stringify({ name: "x".repeat(1_100_000), age: 1 }) });
  expect(tooLarge.status).toBe(413);
  expect(tooLarge.headers.get("content-type")).toBe("application/problem+json");
  expect((await problemOf(tooLarge)).requestId).toBe(tooLarge.headers.get("x-request-id"));
});

test("a body that is required and missing is not taken for an empty one", async () => {
  const answer = await app.request("/things/7/parts/8", { method: "PUT", headers: { authorization: "writer" } });
  expect([answer.status, await answer.text()]).toEqual([400, expect.stringContaining("is required, with its Content-Type")]);
});

const latin1 = (text: string) => Buffer.from(text, "latin1");
const form = "application/x-www-form-urlencoded";
const parts = (value: string) => `--b\r\ncontent-disposition: form-data; name="a"\r\n\r\n${value}\r\n--b--\r\n`;
const put = (sent: Sent, path = "/things/7/parts/8") => send("PUT", path, { as: "writer", ...sent });

test.each<[string, Sent, string]>([
  ["JSON", { body: latin1('{"a":{"b":"Zo\xeb"}}') }, "a.b"],
  ["JSON that is not announced as UTF-8", { body: latin1('{"a":"\xff"}'), type: "application/merge-patch+json" }, "a"],
  ["a form", { body: latin1("a=x&b=\xeb"), type: form }, "b"],
  ["a form of parts", { body: latin1(parts("\xeb")), type: "multipart/form-data; boundary=b" }, ""],
  ["a percent-encoded form", { body: "a=x&b=%EB", type: form }, "b"],
  ["a header", { body: "{}", headers: { "idempotency-key": "Zo\xeb" } }, "idempotency-key"],
])("%s that is not UTF-8 is 400 and the field is named", async (_, sent, path) => {
  const response = await put(sent);
  const text = await response.clone().text();
  expect([response.status, text]).toEqual([400, expect.stringContaining("is not UTF-8")]);
  expect((await problemOf(response)).errors.map((error) => error.path)).toEqual([path]);
});

test.each([
  ["/things/%FF/parts/8", "id"],
  ["/things/7/parts/a%C3%28", "part"],
  ["/things/7/parts/8?q=%C3%A9&r=%ED%A0%80", "r"],
])("%s is 400 and the parameter %s is named", async (target, path) => {
  const response = await put({ body: "{}" }, target);
  expect(response.status).toBe(400);
  expect((await problemOf(response)).errors).toEqual([{ path, message: expect.stringContaining("is not UTF-8") }]);
  expect((await send("PUT", target, { body: "{}" })).status).toBe(401);
});

test("half of a surrogate pair is 400, and a whole one is a character", async () => {
  expect((await problemOf(await put({ body: '{"a":["x","\\udc00"]}' }))).errors).toMatchObject([{ path: "a[1]" }]);
  expect(await (await put({ body: '{"a":"\\ud83d\\ude42"}' })).json()).toEqual({ a: "🙂" });
});

test("UTF-8 arrives as it was sent, in every place", async () => {
  const json = await put({ body: '{"a":"Zoë 🙂"}', headers: { "idempotency-key": Buffer.from("Zoë").toString("latin1") } });
  expect(await json.json()).toEqual({ a: "Zoë 🙂", key: "Zoë" });
  expect(await (await put({ body: "a=Zo%C3%AB&b=ë+100%", type: form })).json()).toEqual({ a: "Zoë", b: "ë 100%" });
  const multipart = "multipart/form-data; boundary=b";
  expect(await (await put({ body: Buffer.from(parts("ë %FF")), type: multipart })).json()).toEqual({ a: "ë %FF" });
  expect(await (await send("GET", "/things/Zo%C3%AB?x=100%", { as: "reader" })).json()).toEqual({ id: "Zoë" });
  expect((await put({ body: "{}", type: 'application/json; charset="UTF-8"' })).status).toBe(200);
});

test.each<[string, Sent]>([
  ["compressed JSON", { body: "{}", headers: { "content-encoding": "gzip" } }],
  ["a compressed form", { body: "a=b", type: form, headers: { "content-encoding": "br" } }],
  ["JSON in Latin-1", { body: "{}", type: "application/json; charset=iso-8859-1" }],
  ["a form in another character set", { body: "a=b", type: `${form};charset="windows-1252"` }],
])("%s is 415 and the answer says what to send", async (_, sent) => {
  const response = await put(sent);
  expect(response.status).toBe(415);
  expect(((await response.json()) as { detail: string }).detail).toMatch(/without a content-encoding|as UTF-8/);
  expect((await put({ body: "{}", headers: { "content-encoding": "identity" } })).status).toBe(200);
});

test("an unexpected error tells nothing", async () => {
  const response = await send("GET", "/things/broken", { as: "reader" });
  expect(response.status).toBe(500);
  expect(await response.text()).not.toContain("secret");
});

test("a caller's request id goes through if it looks like one", async () => {
  const withId = (id: string) => app.request("/nothing", { headers: { "x-request-id": id } });
  expect((await withId("abcdef-123456")).headers.get("x-request-id")).toBe("abcdef-123456");
  expect((await withId('"><script>')).headers.get("x-request-id")).toMatch(/^[0-9a-f-]{36}$/);
});

test("the document has the path as callers see it, the scope, and the errors that the gateway answers", async () => {
  type Document = { paths: Record<string, { post: { security: unknown; responses: { default: unknown } } }> };
  const document = (await (await send("GET", "/openapi.json")).json()) as Document;
  const rename = document.paths["/things/{id}:rename"]?.post;
  expect(rename?.security).toEqual([{ bearer: [operations["patient.createPatient"]] }]);
  expect(rename?.responses.default).toEqual({ $ref: "#/components/responses/Other" });
});

test("an operation documents the errors that it gives by status, each with an example that fits the schema", async () => {
  type Answer = { content: Record<string, { schema: unknown; examples: Record<string, { value: object }> }> };
  type Document = { paths: Record<string, { post: { responses: object } }>; components: { responses: Record<string, Answer> } };
  const { paths, components } = (await (await send("GET", "/openapi.json")).json()) as Document;
  expect(paths["/things/{id}:rename"]?.post.responses).toMatchObject({
    200: { description: "Renamed" },
    400: { $ref: "#/components/responses/InvalidArgument" },
    401: { $ref: "#/components/responses/Unauthenticated" },
    403: { $ref: "#/components/responses/PermissionDenied" },
    404: { $ref: "#/components/responses/NotFound" },
    409: { $ref: "#/components/responses/AlreadyExistsOrFailedPrecondition" },
    413: { $ref: "#/components/responses/PayloadTooLarge" },
    415: { $ref: "#/components/responses/UnsupportedMediaType" },
    500: { $ref: "#/components/responses/Internal" },
    503: { $ref: "#/components/responses/Unavailable" },
  });
  for (const { content } of Object.values(components.responses)) {
    const { schema, examples } = content["application/problem+json"] ?? { examples: {} };
    expect(schema).toEqual({ $ref: "#/components/schemas/Problem" });
    for (const [code, { value }] of Object.entries(examples)) expect(ProblemSchema.strict().parse(value)).toMatchObject({ code });
  }
  expect(Object.keys(components.responses.AlreadyExistsOrFailedPrecondition?.content["application/problem+json"]?.examples ?? {})).toEqual([
    "already_exists",
    "failed_precondition",
  ]);
});

test("operations for services only are in the complete document, marked, and not in the published one", async () => {
  type Document = { paths: Record<string, { get?: Record<string, unknown> }>; components: { schemas: object } };
  const read = async (path: string) => (await (await send("GET", path)).json()) as Document;
  const [published, complete] = [await read("/openapi.json"), await read("/openapi-internal.json")];
  expect(Object.keys(published.paths)).toEqual([
    "/things/{id}:rename",
    "/things/{id}",
    "/things/{id}/parts/{part}",
    "/things/{id}/$match",
    "/things/all",
    "/things:export",
  ]);
  expect(Object.keys(complete.paths)).toEqual([
    "/things/{id}:rename",
    "/things/{id}",
    "/things/{id}/parts/{part}",
    "/things/{id}/$match",
    "/things/all",
    "/things:totals",
    "/things:all",
    "/things:export",
  ]);
  const marks = Object.values(complete.paths).map(({ get }) => get?.["x-internal"]);
  expect(marks).toEqual([undefined, undefined, undefined, undefined, undefined, true, true, undefined]);
  expect(Object.keys(published.components.schemas)).not.toContain("ThingTotals");
});

test("a public operation says that it needs no token", async () => {
  const { app, operation } = createRestApp({ service: "auth", title: "T", description: "D", log, lifecycle, verifier, audit });
  operation({ operationId: "login", method: "get", path: "/public", responses: { 204: { description: "x" } } }, (c) => c.body(null, 204));
  const { paths } = (await (await app.request("/openapi.json")).json()) as { paths: Record<string, { get: { security: unknown } }> };
  expect(paths["/public"]?.get.security).toEqual([]);
});

test("an operation that the access table does not have cannot be registered", () => {
  expect(() =>
    operation({ operationId: "unheardOf", method: "get", path: "/x", responses: { 204: { description: "x" } } }, (c) => c.body(null, 204)),
  ).toThrow(/access table/);
});

test("the request context names who calls, by which request, in which trace", async () => {
  const seen: unknown[] = [];
  const { app, operation } = createRestApp({ service: "auth", title: "T", description: "D", log, lifecycle, verifier, audit });
  for (const [operationId, path] of [
    ["login", "/public"],
    ["me", "/private"],
  ] as const)
    operation({ operationId, method: "get", path, responses: { 204: { description: "x" } } }, (c) => {
      seen.push(requestContext(c));
      return c.body(null, 204);
    });
  const traceparent = `00-${"1".repeat(32)}-${"2".repeat(16)}-01`;
  const headers = { "x-request-id": "abcdef-123456", traceparent };
  await app.request("/public", { headers });
  await app.request("/private", { headers: { ...headers, authorization: "Bearer reader" } });
  expect(seen).toEqual([
    { actorId: "anonymous", requestId: "abcdef-123456", traceparent },
    { actorId: "reader", requestId: "abcdef-123456", traceparent },
  ]);
});

test("readiness names what is missing", async () => {
  const response = await send("GET", "/health/ready");
  expect([response.status, await response.json()]).toEqual([503, { status: "not ready", missing: ["database"] }]);
  expect((await send("GET", "/health/live")).status).toBe(200);
});

test.each([
  ['"x"', '"x"', true],
  ['W/"x"', '"x"', true],
  ['"x"', 'W/"x"', true],
  ['W/"x"', 'W/"x"', true],
  ['"a", W/"x" ,"b"', '"x"', true],
  ['"a,b"', '"a,b"', true],
  ["*", 'W/"x"', true],
  ['"X"', '"x"', false],
  ['"a", "b"', '"x"', false],
  // Part of a longer tag, and without quotes: neither is the tag.
  ['"a, x"', '"x"', false],
  ["x", '"x"', false],
  ['"*"', '"x"', false],
  ["", '""', false],
  [undefined, '"x"', false],
])("If-None-Match %s and the tag %s: the caller has it already is %s", (header, etag, has) => {
  expect(matchesIfNoneMatch(header, etag)).toBe(has);
});

test.each([
  ['"4"', true],
  ['W/"4"', true],
  ['"3", W/"4"', true],
  ["*", true],
  ['"44"', false],
  ['W/"3"', false],
  ['"4 "', false],
])("If-Match %s names version 4: %s", (header, matches) => {
  expect(matchesIfMatch(header, '"4"')).toBe(matches);
});

test("an entity tag has quotes, and a list of them has commas", () => {
  for (const header of ["*", '""', '"4"', 'W/"4"', '"3",W/"4"', '"3" , "4"', '"a,b"']) expect(header).toMatch(entityTags);
  for (const header of ["", "4", "W/4", '"4', '4"', 'w/"4"', 'W/ "4"', '"3" "4"', '"3",', '*, "4"', "'4'", '"4" x', '"a b"'])
    expect(header).not.toMatch(entityTags);
  const started = performance.now();
  expect(entityTags.test(`${'"",'.repeat(50_000)} `)).toBe(false);
  expect(performance.now() - started).toBeLessThan(200);
});

test("a HEAD has the header of a stream, whose source is told that nobody reads it", async () => {
  const answer = await send("HEAD", "/things:export", { as: "reader" });
  expect([answer.status, answer.headers.get("content-type"), answer.body]).toEqual([200, "text/plain", null]);
  expect(ended).toEqual(["pieces", "stream"]);
  expect((await send("HEAD", "/things/7", { as: "reader" })).status).toBe(200);
});
