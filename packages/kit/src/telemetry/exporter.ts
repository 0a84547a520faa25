/**
 * Sends spans to a collector: OTLP in JSON over HTTP, in batches, one request at a time. What it holds is bounded. A
 * span for which there is no place, or whose batch the collector does not take, is dropped and counted.
 */
import http from "node:http";
import https from "node:https";
import type { Attributes, AttributeValue, Link } from "@opentelemetry/api";
import type { Logger } from "../log.ts";
import { Counter, metrics } from "../metrics.ts";
import { clock, errorTypeOf, type RecordedSpan } from "./span.ts";

const maxWaiting = 2_048;
const batchSize = 256;
/** How long a span waits for others. */
const lingerMs = 1_000;
const timeoutMs = 5_000;
/** The pauses after failures. Meanwhile spans wait, as many as there is place for. */
const pauseMs = { first: 1_000, max: 30_000 };
/** A clock that was set is followed when it is wrong by as much; smaller steps would only make durations wrong. */
const clockStepMs = 50;

const processed = new Counter({
  name: "otel_sdk_processor_span_processed_total",
  help: "Spans that were not exported, because too many waited (error_type queue_full)",
  labelNames: ["error_type"],
  registers: [metrics],
});
const exported = new Counter({
  name: "otel_sdk_exporter_span_exported_total",
  help: "Spans that the collector took, or, with an error_type, did not take",
  labelNames: ["error_type"],
  registers: [metrics],
});

export type Exporter = {
  add(span: RecordedSpan): void;
  /** Sends what waits, once, for at most a second. */
  close(): Promise<void>;
};

/** @param options.endpoint the collector, such as `http://collector:4318`; `resource` describes this process */
export function createExporter(options: { endpoint: string; resource: Attributes; log: Logger }): Exporter {
  const { endpoint, resource, log } = options;
  const url = new URL(`${endpoint}/v1/traces`);
  const described = `"resource":{${toAttributes(resource)}}`;
  let waiting: RecordedSpan[] = [];
  let timer: NodeJS.Timeout | undefined;
  let sending: Promise<void> | undefined;
  let failures = 0;

  function schedule(milliseconds: number): void {
    timer ??= setTimeout(send, milliseconds).unref();
  }

  function send(): void {
    clearTimeout(timer);
    timer = undefined;
    sending ??= sendBatch(timeoutMs).finally(() => {
      sending = undefined;
      if (failures > 0) schedule(Math.min(pauseMs.first * 2 ** (failures - 1), pauseMs.max));
      else if (waiting.length >= batchSize) schedule(0);
      else if (waiting.length > 0) schedule(lingerMs);
    });
  }

  async function sendBatch(milliseconds: number): Promise<void> {
    followClock();
    const batch = waiting.slice(0, batchSize);
    waiting = waiting.slice(batchSize);
    const body = `{"resourceSpans":[{${described},"scopeSpans":[{"scope":{"name":"@pm/kit"},"spans":[${batch.map(toOtlp).join()}]}]}]}`;
    try {
      const status = await post(url, body, milliseconds);
      if (status !== 200) throw Object.assign(new Error(`the collector answered ${status}`), { code: status });
      exported.inc(batch.length);
      if (failures > 0) log.info({ failures }, "spans are exported again");
      failures = 0;
    } catch (error) {
      exported.inc({ error_type: errorTypeOf(error) }, batch.length);
      if (failures++ === 0) log.warn({ err: error, endpoint }, "spans cannot be exported and are dropped; trying again with the next ones");
    }
  }

  return {
    add(span) {
      if (waiting.length >= maxWaiting) {
        processed.inc({ error_type: "queue_full" });
        return;
      }
      waiting.push(span);
      if (waiting.length >= batchSize && failures === 0 && !sending) send();
      else if (!sending) schedule(lingerMs);
    },
    async close() {
      clearTimeout(timer);
      await sending;
      const until = performance.now() + 1_000;
      while (waiting.length > 0 && failures === 0 && performance.now() < until) await sendBatch(until - performance.now());
    },
  };
}

const agents = {
  "http:": new http.Agent({ keepAlive: true, maxSockets: 1 }),
  "https:": new https.Agent({ keepAlive: true, maxSockets: 1 }),
};

/**
 * Posts JSON and gives the status of the answer. For bodies of this size, `fetch` takes half as much CPU time again.
 */
function post(url: URL, body: string, milliseconds: number): Promise<number> {
  const { protocol } = url;
  const { request } = protocol === "https:" ? https : http;
  const bytes = Buffer.from(body);
  const headers = { "content-type": "application/json", "content-length": bytes.byteLength };
  return new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(Math.max(1, Math.ceil(milliseconds)));
    const agent = agents[protocol as keyof typeof agents];
    const sent = request(url, { method: "POST", headers, agent, signal }, (answer) => {
      answer.resume();
      answer.on("error", reject);
      answer.once("end", () => resolve(answer.statusCode ?? 0));
    });
    sent.on("error", reject);
    sent.end(bytes);
  });
}

function followClock(): void {
  const offset = Date.now() - performance.now();
  if (Math.abs(offset - clock.offset) > clockStepMs) clock.offset = offset;
}

/**
 * OTLP's JSON, with 64-bit numbers as text and ids in hexadecimal. It is put together as text, because objects that
 * only JSON.stringify reads cost twice as much.
 */
function toOtlp(span: RecordedSpan): string {
  const { context, parentSpanId, name, kind, startedAt, endedAt, attributes, links, events, droppedLinks, isError } = span;
  const parent = parentSpanId === undefined ? "" : `"parentSpanId":"${parentSpanId}",`;
  // OTLP's kinds begin at 1, those of the API at 0.
  const what = `"name":${JSON.stringify(name)},"kind":${kind + 1},"flags":${context.traceFlags}`;
  const when = `"startTimeUnixNano":"${toNanoseconds(startedAt)}","endTimeUnixNano":"${toNanoseconds(endedAt)}"`;
  const more = [
    ...(events.length === 0 ? [] : [`"events":[${events.map(toOtlpEvent).join()}]`]),
    ...(links.length === 0 ? [] : [`"links":[${links.map(toOtlpLink).join()}],"droppedLinksCount":${droppedLinks}`]),
    ...(isError ? ['"status":{"code":2}'] : []),
  ];
  const ids = `"traceId":"${context.traceId}","spanId":"${context.spanId}",${parent}`;
  return `{${ids}${what},${when},${toAttributes(attributes)}${more.map((text) => `,${text}`).join("")}}`;
}

const toOtlpEvent = ({ at, name, attributes }: RecordedSpan["events"][number]): string =>
  `{"timeUnixNano":"${toNanoseconds(at)}","name":${JSON.stringify(name)},${toAttributes(attributes)}}`;

const toOtlpLink = ({ context: { traceId, spanId, traceFlags }, attributes = {} }: Link): string =>
  `{"traceId":"${traceId}","spanId":"${spanId}","flags":${traceFlags},${toAttributes(attributes)}}`;

/** As exact as a double is: microseconds. */
const toNanoseconds = (milliseconds: number): string => `${Math.trunc(milliseconds * 1_000)}000`;

function toAttributes(attributes: Attributes): string {
  const pairs: string[] = [];
  for (const key in attributes) {
    const value = attributes[key];
    if (value !== undefined) pairs.push(`{"key":${JSON.stringify(key)},"value":${toValue(value)}}`);
  }
  return `"attributes":[${pairs.join()}]`;
}

function toValue(value: AttributeValue | null | undefined): string {
  if (typeof value === "string") return `{"stringValue":${JSON.stringify(value)}}`;
  if (typeof value === "boolean") return `{"boolValue":${value}}`;
  if (typeof value === "number") return Number.isInteger(value) ? `{"intValue":"${value}"}` : `{"doubleValue":${JSON.stringify(value)}}`;
  return `{"arrayValue":{"values":[${Array.isArray(value) ? value.map(toValue).join() : ""}]}}`;
}
