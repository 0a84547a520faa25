/** Spans of a process, as a collector gets them. */
import { setTimeout as delay } from "node:timers/promises";
import { trace as api, context } from "@opentelemetry/api";
import { testDatabase } from "@pm/stack/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import type { AuditTrail } from "../src/audit/trail.ts";
import type { Verifier } from "../src/auth/verifier.ts";
import { createBatcher } from "../src/batcher.ts";
import { AppError } from "../src/errors.ts";
import { createRestApp, requestContext } from "../src/http/rest.ts";
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
const verifier: Verifier = { verify: () => Promise.reject(new AppError("unauthenticated", "Who?")), onRevoked: () => () => undefined };
const { app, operation } = createRestApp({ service: "auth", title: "T", description: "D", log, lifecycle, verifier, audit });
let handle: () => Promise<unknown> = async () => undefined;
operation({ operationId: "login", method: "get", path: "/things/{id}", responses: { 204: { description: "x" } } }, async (c) => {
  await handle();
  return c.json(requestContext(c).traceparent, 200) as never;
});

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
  handle = async () => undefined;
});

const [traceId, otherId] = ["a".repeat(32), "b".repeat(32)];
const sampled = (id = traceId) => `00-${id}-${"1".repeat(16)}-01`;
const unsampled = `00-${traceId}-${"1".repeat(16)}-00`;
const get = (traceparent?: string, path = "/things/7?name=ada") =>
  app.request(path, { headers: { "x-request-id": "request-1", baggage: "name=ada", ...(traceparent && { traceparent }) } });
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
  expect(Buffer.concat(sink.received).toString()).not.toMatch(/ada|things\/7/);
});

test("a request that is not sampled, and one of a probe, is no span", async () => {
  const answer = await get(unsampled);
  expect(await answer.json()).toBe(unsampled);
  await app.request("/health/live", { headers: { traceparent: sampled() } });
  await app.request("/nothing/ada", { headers: { traceparent: sampled(otherId) } });
  await arrived(1);
  expect(sink.spans.map(({ name, traceId }) => [name, traceId])).toEqual([["GET", otherId]]);
});

test("work that fails says by which kind of error, and never its message", async () => {
  handle = () => inSpan("work", {}, () => Promise.reject(Object.assign(new Error("ada is in the way"), { code: "23505" })));
  expect((await get(sampled())).status).toBe(500);
  await arrived(2);
  expect(named("work")?.attributes).toEqual({ "error.type": "23505" });
  expect(named("GET /things/{id}")?.attributes).toMatchObject({ "error.type": "500" });
  expect(Buffer.concat(sink.received).toString()).not.toContain("ada");
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
    await db.query(statement, ["ada"]);
    await inTransaction(db, async ({ query, kysely }) => {
      await query(statement, ["ada"]);
      await kysely.selectFrom("pg_class").select("relname").where("relname", "=", "ada").execute();
      await sql`select ${"ada"}`.execute(kysely);
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
  expect(Buffer.concat(sink.received).toString()).not.toContain("ada");
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
  const lines: string[] = [];
  const traced = createLogger("traced", "info", { write: (line) => void lines.push(line) });
  handle = async () => {
    await delay(1);
    traced.info("in the middle");
  };
  await get(unsampled);
  expect(JSON.parse(lines[0] ?? "{}")).toMatchObject({ msg: "in the middle", traceId });
});

test("work that no request started is traced by the share, and not sent if it found nothing to do", async () => {
  expect(await inTrace("job", {}, async () => recordedSpan())).toBeUndefined();
  startTracing({ service: "traced", config: { ...settings(), OTEL_TRACES_SAMPLER_ARG: 1 }, log, lifecycle });
  await inTrace("job idle", { dropsIdle: true }, async () => undefined);
  await inTrace("job", { dropsIdle: true }, () => inSpan("work", {}, async () => undefined));
  await arrived(2);
  expect(sink.spans.map(({ name }) => name)).toEqual(["work", "job"]);
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
