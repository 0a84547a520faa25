/**
 * Sends spans to a collector: OTLP in JSON over HTTP, in batches, one request at a time. What it holds is bounded. A
 * span for which there is no place, or whose batch the collector does not take, is dropped and counted.
 */
import type { Attributes, AttributeValue } from "@opentelemetry/api";
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
  const url = `${endpoint}/v1/traces`;
  const described = { attributes: toAttributes(resource) };
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
    const body = JSON.stringify({
      resourceSpans: [{ resource: described, scopeSpans: [{ scope: { name: "@pm/kit" }, spans: batch.map(toOtlp) }] }],
    });
    try {
      const signal = AbortSignal.timeout(milliseconds);
      const answer = await fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body, signal, redirect: "error" });
      await answer.arrayBuffer();
      if (!answer.ok) throw Object.assign(new Error(`the collector answered ${answer.status}`), { code: answer.status });
      exported.inc(batch.length);
      if (failures > 0) log.info({ failures }, "spans are exported again");
      failures = 0;
    } catch (error) {
      exported.inc({ error_type: failureOf(error) }, batch.length);
      if (failures++ === 0) log.warn({ err: error, url }, "spans cannot be exported and are dropped; trying again with the next ones");
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

/** `fetch` hides the cause of a failure, such as ECONNREFUSED, behind a TypeError. */
const failureOf = (error: unknown): string => errorTypeOf(error instanceof Error && error.cause instanceof Error ? error.cause : error);

function followClock(): void {
  const offset = Date.now() - performance.now();
  if (Math.abs(offset - clock.offset) > clockStepMs) clock.offset = offset;
}

/** OTLP's JSON has 64-bit numbers as text and ids in hexadecimal. */
function toOtlp(span: RecordedSpan): object {
  const { context, parentSpanId, name, kind, startedAt, endedAt, attributes, links, events, droppedLinks, isError } = span;
  return {
    traceId: context.traceId,
    spanId: context.spanId,
    parentSpanId,
    flags: context.traceFlags,
    name,
    // OTLP's kinds begin at 1, those of the API at 0.
    kind: kind + 1,
    startTimeUnixNano: toNanoseconds(startedAt),
    endTimeUnixNano: toNanoseconds(endedAt),
    attributes: toAttributes(attributes),
    ...(events.length > 0 && {
      events: events.map((event) => ({
        ...{ timeUnixNano: toNanoseconds(event.at), name: event.name, attributes: toAttributes(event.attributes) },
      })),
    }),
    ...(links.length > 0 && {
      links: links.map(({ context: { traceId, spanId, traceFlags }, attributes = {} }) => ({
        ...{ traceId, spanId, flags: traceFlags, attributes: toAttributes(attributes) },
      })),
      droppedLinksCount: droppedLinks,
    }),
    ...(isError && { status: { code: 2 } }),
  };
}

/** As exact as a double is: microseconds. */
const toNanoseconds = (milliseconds: number): string => `${Math.trunc(milliseconds * 1_000)}000`;

function toAttributes(attributes: Attributes): object[] {
  return Object.entries(attributes).flatMap(([key, value]) => (value === undefined ? [] : [{ key, value: toValue(value) }]));
}

function toValue(value: AttributeValue | null | undefined): object {
  if (typeof value === "string") return { stringValue: value };
  if (typeof value === "boolean") return { boolValue: value };
  if (typeof value === "number") return Number.isInteger(value) ? { intValue: String(value) } : { doubleValue: value };
  return { arrayValue: { values: Array.isArray(value) ? value.map(toValue) : [] } };
}
