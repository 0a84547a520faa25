/** Spans of a process, as a collector gets them. */
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { trace as api, context } from "@opentelemetry/api";
import { testDatabase } from "@pm/stack/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, beforeEach, expect, test, vi } from "vitest";
import type { AuditTrail } from "../src/audit/trail.ts";
import type { Caller, Verifier } from "../src/auth/verifier.ts";
import { createBatcher } from "../src/batcher.ts";
import { createRestApp, requestContext } from "../src/http/rest.ts";
import { closeServer, listenHttp } from "../src/http/server.ts";
import { textStream } from "../src/http/text-stream.ts";
import { createLogger } from "../src/log.ts";
import { metrics } from "../src/metrics.ts";
import { openDatabase } from "../src/postgres/database.ts";
import { inTransaction } from "../src/postgres/transaction.ts";
import { fetchTraced } from "../src/telemetry/calls.ts";
import { inSpan, inTrace, recordedSpan, startTracing } from "../src/telemetry/tracing.ts";
import { testLifecycle } from "./lifecycle.ts";
import { type Sink, startSink } from "./otlp-sink.ts";

const log = createLogger("traced", "silent");
const lifecycle = testLifecycle();
const audit: AuditTrail = { record: async () => undefined };
const reader = { id: "reader", kind: "user", roles: ["admin"], scopes: new Set(["self"]) } as unknown as Caller;
const verifier: Verifier = { verify: async () => reader, onRevoked: () => () => undefined };
const lines: string[] = [];
const logged = createLogger("traced", "info", { write: (line) => void lines.push(line) });
const { app, operation } = createRestApp({ service: "auth", title: "T", description: "D", log: logged, lifecycle, verifier, audit });
let handle: () => Promise<unknown> = async () => undefined;
operation({ operationId: "login", method: "get", path: "/things/{id}", responses: { 204: { description: "x" } } }, async (c) => {
  await handle();
  return c.json(requestContext(c).traceparent, 200) as never;
});
let pieces: () => AsyncIterable<string>;
operation(
  { operationId: "me", method: "get", path: "/things:export", responses: { 200: { description: "x" } } },
  (c) => c.body(textStream(c, pieces()), 200) as never,
  { streams: true },
);

let sink: Sink;
const settings = () => ({
  OTEL_EXPORTER_OTLP_ENDPOINT: sink.url,
  OTEL_TRACES_SAMPLER_ARG: 0,
  OTEL_RESOURCE_ATTRIBUTES: { "k8s.pod.name": "traced-0" },
});
beforeAll(async () => {
  sink = await startSink();
  startTracing({ service: "traced", config: settings(), log, lifecycle });
});
afterAll(async () => {
  await lifecycle.shutdown("the test has ended");
  await sink.close();
});
beforeEach(() => {
  sink.spans.length = 0;
  sink.received.length = 0;
  lines.length = 0;
  handle = async () => undefined;
});

const [traceId, otherId] = ["a".repeat(32), "b".repeat(32)];
const sampled = (id = traceId) => `00-${id}-${"1".repeat(16)}-01`;
const unsampled = `00-${traceId}-${"1".repeat(16)}-00`;
const get = (traceparent?: string, path = "/things/7?name=zoe") =>
  app.request(path, { headers: { "x-request-id": "request-1", baggage: "name=zoe", ...(traceparent && { traceparent }) } });
const arrived = (count: number) => expect.poll(() => sink.spans.length, { timeout: 5_000 }).toBeGreaterThanOrEqual(count);
const named = (name: string) => sink.spans.find((span) => span.name === name);

test("a sampled request is a span with its route, without its path, query and baggage, and hands its trace on", async () => {
  const answer = await get(sampled());
  await arrived(1);
  expect(sink.spans).toHaveLength(1);
  expect(sink.spans[0]).toMatchObject({
    ...{ traceId, parentSpanId: "1".repeat(16), name: "GET /things/{id}", kind: 2 },
    attributes: {
      "http.request.method": "GET",
      "http.route": "/things/{id}",
      "http.response.status_code": 200,
      "http.request.header.x-request-id": ["request-1"],
      "url.scheme": "http",
    },
    resource: { "service.name": "traced", "service.namespace": "patient-management", "k8s.pod.name": "traced-0" },
  });
  expect(await answer.json()).toBe(`00-${traceId}-${sink.spans[0]?.spanId}-01`);
  expect(Buffer.concat(sink.received).toString()).not.toMatch(/zoe|things\/7/);
});

test("a request that is not sampled, and one of a probe, is no span", async () => {
  const answer = await get(unsampled);
  expect(await answer.json()).toBe(unsampled);
  await app.request("/health/live", { headers: { traceparent: sampled() } });
  await app.request("/nothing/zoe", { headers: { traceparent: sampled(otherId) } });
  await arrived(1);
  expect(sink.spans.map(({ name, traceId }) => [name, traceId])).toEqual([["GET", otherId]]);
});

test("work that fails says by which kind of error, and never its message", async () => {
  handle = () => inSpan("work", {}, () => Promise.reject(Object.assign(new Error("zoe is in the way"), { code: "23505" })));
  expect((await get(sampled())).status).toBe(500);
  await arrived(2);
  expect(named("work")?.attributes).toEqual({ "error.type": "23505" });
  expect(named("GET /things/{id}")?.attributes).toMatchObject({ "error.type": "500" });
  expect(Buffer.concat(sink.received).toString()).not.toContain("zoe");
});

test("a batch is a span of the first sampled request, links to all, and is linked from those of other traces", async () => {
  const batcher = createBatcher<number, number>({
    name: "traced",
    maxSize: 10,
    run: (items) => inSpan("statement", {}, async () => items),
  });
  handle = () => batcher.add(1);
  await Promise.all([get(unsampled), get(sampled()), get(sampled(otherId)), get(sampled(otherId))]);
  await arrived(5);
  const batch = named("batch traced");
  const requests = sink.spans.filter(({ name }) => name === "GET /things/{id}");
  const [first, ...others] = requests.toSorted((a, b) => a.traceId.localeCompare(b.traceId));
  expect(batch).toMatchObject({ traceId, parentSpanId: first?.spanId, attributes: { "batch.size": 4 } });
  expect(batch?.links).toEqual(expect.arrayContaining(requests.map(({ traceId, spanId }) => ({ traceId, spanId }))));
  expect(others.map(({ links }) => links)).toEqual([[{ traceId, spanId: batch?.spanId }], [{ traceId, spanId: batch?.spanId }]]);
  expect(named("statement")).toMatchObject({ traceId, parentSpanId: batch?.spanId });
});

test("statements are spans by their names, alone, in transactions and by kysely, without values", async () => {
  const { databaseUrl, drop } = await testDatabase("traced");
  const db = openDatabase<{ pg_class: { relname: string } }>({
    settings: { url: databaseUrl },
    poolSize: 2,
    applicationName: "t",
    log,
  });
  const statement = { name: "find_thing", text: "select $1::text" };
  handle = async () => {
    await db.query(statement, ["zoe"]);
    await inTransaction(db, async ({ query, kysely }) => {
      await query(statement, ["zoe"]);
      await kysely.selectFrom("pg_class").select("relname").where("relname", "=", "zoe").execute();
      await sql`select ${"zoe"}`.execute(kysely);
    });
  };
  expect((await get(sampled())).status).toBe(200);
  await db.kysely.destroy();
  await drop();
  await arrived(5);
  const request = named("GET /things/{id}");
  const statements = sink.spans.filter(({ kind }) => kind === 3);
  expect(statements.map(({ name }) => name)).toEqual(["find_thing", "find_thing", "SELECT pg_class", "RAW"]);
  for (const { parentSpanId, attributes, start, end } of statements) {
    expect([parentSpanId, attributes["db.system.name"], start <= end]).toEqual([request?.spanId, "postgresql", true]);
  }
  expect(Buffer.concat(sink.received).toString()).not.toContain("zoe");
});

test("a call to another service is a span with the template of its path, and carries the trace", async () => {
  const other = await startSink();
  handle = () =>
    fetchTraced("/patients/{id}", `${other.url}/patients/7`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: '{"resourceSpans":[]}',
    });
  await get(sampled());
  await arrived(2);
  await other.close();
  const call = named("POST /patients/{id}");
  expect(call).toMatchObject({ kind: 3, attributes: { "url.template": "/patients/{id}", "http.response.status_code": 200 } });
  expect(call?.parentSpanId).toBe(named("GET /things/{id}")?.spanId);
});

/** Two lines, half a second apart, then the end or an error. */
async function* slowly(failsAfter = 2) {
  for (let n = 0; n < 2; n++) {
    if (n === failsAfter) throw Object.assign(new Error("zoe is in the way"), { code: "57P01" });
    yield `line ${n}\n`;
    await inSpan(`page ${n}`, {}, () => delay(n * 300));
  }
}

async function download(): Promise<string | undefined> {
  const server = await listenHttp({ app, host: "127.0.0.1", port: 0, log, lifecycle: testLifecycle() });
  const { port } = server.address() as AddressInfo;
  const answer = await fetch(`http://127.0.0.1:${port}/things:export`, { headers: { traceparent: sampled() } });
  const text = await answer.text().catch(() => undefined);
  await closeServer(server);
  return text;
}

test("the span of an answer that is a stream lasts as long as the stream, with all its work below", async () => {
  pieces = slowly;
  expect(await download()).toBe("line 0\nline 1\n");
  await arrived(3);
  const request = named("GET /things:export");
  expect(request).toMatchObject({ kind: 2, isError: false, attributes: { "http.response.status_code": 200 } });
  expect(Number((request?.end ?? 0n) - (request?.start ?? 0n)) / 1e6).toBeGreaterThan(295);
  expect(["page 0", "page 1"].map((name) => named(name)?.parentSpanId)).toEqual([request?.spanId, request?.spanId]);
});

test.each([0, 1])("a stream that fails after %i pieces is cut off, and its span and the log say why", async (count) => {
  const printed = vi.spyOn(console, "error");
  pieces = () => slowly(count);
  expect(await download()).toBeUndefined();
  await expect.poll(() => named("GET /things:export"), { timeout: 5_000 }).toBeDefined();
  expect(named("GET /things:export")).toMatchObject({ isError: true, attributes: { "error.type": "57P01" } });
  expect(lines.map((line) => JSON.parse(line))).toContainEqual(
    expect.objectContaining({ level: "error", operation: "me", traceId, msg: "the answer was cut off" }),
  );
  expect(printed).not.toHaveBeenCalled();
  expect(Buffer.concat(sink.received).toString()).not.toContain("zoe");
});

test("a library that speaks the API of OpenTelemetry adds its spans to ours", async () => {
  handle = async () =>
    api.getTracer("library").startActiveSpan("theirs", async (span) => {
      await inSpan("ours", {}, async () => expect(api.getSpan(context.active())).toBe(recordedSpan()));
      span.end();
    });
  await get(sampled());
  await arrived(3);
  expect(named("theirs")?.parentSpanId).toBe(named("GET /things/{id}")?.spanId);
  expect(named("ours")?.parentSpanId).toBe(named("theirs")?.spanId);
});

test("every log line of a request has the id of its trace, sampled or not", async () => {
  handle = async () => {
    await delay(1);
    logged.info("in the middle");
  };
  await get(unsampled);
  expect(JSON.parse(lines[0] ?? "{}")).toMatchObject({ msg: "in the middle", traceId });
});

test("work that no request started is traced by the share, and not sent if it found nothing to do", async () => {
  expect(await inTrace("job", {}, async () => recordedSpan())).toBeUndefined();
  startTracing({ service: "traced", config: { ...settings(), OTEL_TRACES_SAMPLER_ARG: 1 }, log, lifecycle });
  const look = (found: string) => () => inSpan(`look for ${found}`, {}, async () => found);
  const isWorth = (found: string) => found !== "nothing";
  await inTrace("job idle", {}, look("nothing"), isWorth);
  await inTrace("job", {}, look("work"), isWorth);
  await expect(inTrace("job broken", {}, () => Promise.reject(new TypeError("zoe")), isWorth)).rejects.toThrow();
  await arrived(3);
  expect(sink.spans.map(({ name }) => name)).toEqual(["look for work", "job", "job broken"]);
  expect(named("job broken")).toMatchObject({ isError: true, attributes: { "error.type": "TypeError" } });
});

test("a collector that refuses spans or is gone costs spans, which are counted, and memory that is bounded", async () => {
  const counted = async (name: string, error: string) =>
    Number(new RegExp(`^${name}\\{error_type="${error}"\\} (\\d+)`, "m").exec(await metrics.metrics())?.[1] ?? 0);
  sink.status = 503;
  await get(sampled());
  await expect.poll(() => counted("otel_sdk_exporter_span_exported_total", "503"), { timeout: 5_000 }).toBe(1);
  for (let n = 0; n < 3_000; n++) await get(sampled());
  expect(await counted("otel_sdk_processor_span_processed_total", "queue_full")).toBeGreaterThanOrEqual(900);
  sink.status = 200;
  await expect.poll(() => sink.spans.length, { timeout: 10_000 }).toBeGreaterThan(1_500);
});
