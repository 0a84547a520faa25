import { z } from "@hono/zod-openapi";
import { expect, test } from "vitest";
import { operations, type Scope } from "../auth/access.ts";
import type { Caller, Verifier } from "../auth/verifier.ts";
import { AppError } from "../errors.ts";
import type { Lifecycle } from "../lifecycle.ts";
import { createLogger } from "../log.ts";
import { createRestApp, matchesIfNoneMatch } from "./rest.ts";

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
const { app, operation } = createRestApp({
  service: "patient",
  title: "T",
  description: "D",
  log: createLogger("t", "silent"),
  lifecycle,
  verifier,
});

const IdSchema = z.object({ id: z.string() });
const BodySchema = z.strictObject({ name: z.string().min(1), age: z.int() });
operation(
  {
    operationId: "createPatient",
    method: "post",
    path: "/things/{id}:rename",
    request: { params: IdSchema, body: { required: true, content: { "application/json": { schema: BodySchema } } } },
    responses: { 200: { description: "Renamed", content: { "application/json": { schema: IdSchema } } } },
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
    return c.json({ id: c.req.valid("param").id }, 200);
  },
);

function send(method: string, path: string, options: { as?: string; body?: string; type?: string } = {}) {
  const { as, body, type = "application/json" } = options;
  const headers = { ...(as && { authorization: `Bearer ${as}` }), ...(body !== undefined && { "content-type": type }) };
  return app.request(path, { method, headers, ...(body !== undefined && { body }) });
}

async function problemOf(response: Response) {
  return (await response.json()) as { requestId: string; errors: { path: string }[] };
}

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

test("the document has the path as callers see it, the scope and the problem", async () => {
  type Document = { paths: Record<string, { post: { security: unknown; responses: { default: { content: Record<string, unknown> } } } }> };
  const document = (await (await send("GET", "/openapi.json")).json()) as Document;
  const rename = document.paths["/things/{id}:rename"]?.post;
  expect(rename?.security).toEqual([{ bearer: [operations["patient.createPatient"]] }]);
  expect(rename?.responses.default.content["application/problem+json"]).toBeDefined();
});

test("an operation that the access table does not have cannot be registered", () => {
  expect(() =>
    operation({ operationId: "unheardOf", method: "get", path: "/x", responses: { 204: { description: "x" } } }, (c) => c.body(null, 204)),
  ).toThrow(/access table/);
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
  // In one tag, or in none: neither of them is the tag in question.
  ['"a, x"', '"x"', false],
  ["x", '"x"', false],
  ['"*"', '"x"', false],
  ["", '""', false],
  [undefined, '"x"', false],
])("If-None-Match %s and the tag %s: the caller has it already is %s", (header, etag, has) => {
  expect(matchesIfNoneMatch(header, etag)).toBe(has);
});
