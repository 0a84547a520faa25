/**
 * Traces: spans for the work of this process. Without an endpoint no span is ever made; the ids of a request's trace
 * are in logs and events nevertheless. No span holds a path with ids, a query, a value of a statement or personal data;
 * docs/observability.md lists what its attributes hold.
 */
import { randomUUID } from "node:crypto";
import {
  type Attributes,
  context as contexts,
  INVALID_SPAN_CONTEXT,
  isSpanContextValid,
  type Span,
  type SpanContext,
  type SpanKind,
  type SpanOptions,
  SpanStatusCode,
  TraceFlags,
  type Tracer,
  trace as traces,
} from "@opentelemetry/api";
import type { Lifecycle } from "../lifecycle.ts";
import type { Logger } from "../log.ts";
import { activeSpan, contextManager, runWith } from "./active.ts";
import { createExporter } from "./exporter.ts";
import { RecordedSpan } from "./span.ts";
import { formatTraceparent, isSampled, newSpanId, newTraceId, parseTraceparent } from "./trace-context.ts";

/** The variables of `telemetryConfig`. */
export type TracingConfig = {
  OTEL_EXPORTER_OTLP_ENDPOINT?: string | undefined;
  OTEL_TRACES_SAMPLER_ARG: number;
  OTEL_RESOURCE_ATTRIBUTES?: Record<string, string> | undefined;
};

/** `rate` is the share of traces that are recorded of those that begin in this process. */
let recorder: { rate: number; whenEnded: (span: RecordedSpan) => void } | undefined;

/** Records spans from now on, if there is an endpoint, and sends the last ones when the lifecycle ends. */
export function startTracing(options: {
  service: string;
  config: TracingConfig;
  log: Logger;
  lifecycle: Pick<Lifecycle, "onClose">;
}): void {
  const { service, config, log, lifecycle } = options;
  const { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_TRACES_SAMPLER_ARG: rate } = config;
  if (endpoint === undefined) return;
  const resource = {
    "service.namespace": "patient-management",
    "service.instance.id": randomUUID(),
    "telemetry.sdk.name": "@pm/kit",
    "telemetry.sdk.language": "nodejs",
    "telemetry.sdk.version": "0.1.0",
    ...config.OTEL_RESOURCE_ATTRIBUTES,
    "service.name": service,
  };
  const exporter = createExporter({ endpoint, resource, log });
  recorder = { rate, whenEnded: exporter.add };
  // Libraries that know the API of OpenTelemetry add their spans to ours.
  contexts.setGlobalContextManager(contextManager);
  traces.setGlobalTracerProvider({ getTracer: () => tracer });
  lifecycle.onClose("spans", async () => {
    recorder = undefined;
    await exporter.close();
  });
}

/** The span to which the work of the moment belongs, if it is recorded. */
export function recordedSpan(): RecordedSpan | undefined {
  const span = recorder && activeSpan();
  return span instanceof RecordedSpan ? span : undefined;
}

type Details = Pick<SpanOptions, "kind" | "attributes">;

/** Begins a span below the one of the moment. */
function startChild(name: string, parent: RecordedSpan, details: Details): RecordedSpan {
  return startSpan(name, parent.context, details, parent.whenEnded);
}

const send = (span: RecordedSpan): void => recorder?.whenEnded(span);

/** Begins a span below `parent`, or a trace without one. The caller ends it. */
function startSpan(
  name: string,
  parent: SpanContext | undefined,
  details: Pick<SpanOptions, "kind" | "attributes" | "links">,
  whenEnded = send,
): RecordedSpan {
  const context = { traceId: parent?.traceId ?? newTraceId(), spanId: newSpanId(), traceFlags: TraceFlags.SAMPLED };
  return new RecordedSpan({ name, context, parentSpanId: parent?.spanId, ...details, whenEnded });
}

/** Ends the span when the work has ended. The span of work that fails says by which kind of error. */
async function record<Result>(span: RecordedSpan, work: (span: RecordedSpan) => Promise<Result>): Promise<Result> {
  try {
    return await runWith(span, () => work(span));
  } catch (error) {
    span.recordException(error as Error);
    throw error;
  } finally {
    span.end();
  }
}

/** Does work in a span below the one of the moment. Where nothing is recorded, it only does the work. */
export function inSpan<Result>(name: string, details: Details, work: (span?: RecordedSpan) => Promise<Result>): Promise<Result> {
  const parent = recordedSpan();
  return parent ? record(startChild(name, parent, details), work) : work();
}

/** Adds a span for work that has just ended and took so long. */
export function recordPast(name: string, details: Details, milliseconds: number, error?: unknown): void {
  const parent = recordedSpan();
  if (!parent) return;
  const span = startChild(name, parent, details);
  span.startedAt -= milliseconds;
  if (error !== undefined) span.recordException(error as Error);
  span.end();
}

/** Of work that may turn out to be not worth it, so many spans wait for its end. If there are more, it is. */
const maxHeld = 100;

function createHolding() {
  let held: RecordedSpan[] | undefined = [];
  const release = (): void => {
    held?.forEach(send);
    held = undefined;
  };
  return {
    release,
    add(span: RecordedSpan): void {
      if (held) held.push(span);
      else send(span);
      if (held?.length === maxHeld) release();
    },
  };
}

/**
 * Does work that no request started, such as that of a worker: a share of it is traced.
 * @param isWorth whether the work did something. If not, none of its spans is sent; one that fails is always sent
 */
export async function inTrace<Result>(
  name: string,
  details: Details,
  work: (span?: RecordedSpan) => Promise<Result>,
  isWorth: (result: Result) => boolean = () => true,
): Promise<Result> {
  if (!recorder || Math.random() >= recorder.rate) return runWith(undefined, work);
  const holding = createHolding();
  let isIdle = false;
  try {
    const result = await record(startSpan(name, undefined, details, holding.add), work);
    isIdle = !isWorth(result);
    return result;
  } finally {
    if (!isIdle) holding.release();
  }
}

/**
 * Does work for several requests at once. Its span belongs to the trace of the first sampled one, and links to all
 * sampled ones. If there is none, the work belongs to no trace.
 */
export function inSpanOfMany<Result>(
  name: string,
  details: Details & { carried: readonly (SpanContext | undefined)[] },
  work: (span?: RecordedSpan) => Promise<Result>,
): Promise<Result> {
  const { carried, ...rest } = details;
  const sampled = recorder ? carried.filter(isSampled) : [];
  const [first] = sampled;
  if (!first) return runWith(undefined, work);
  const different = sampled.length === 1 ? sampled : new Map(sampled.map((context) => [context.spanId, context])).values();
  return record(startSpan(name, first, { ...rest, links: [...different].map((context) => ({ context })) }), work);
}

/** What a process knows of a request from its beginning. Its `traceparent` is for events and further calls. */
export type RequestTrace = { traceparent: string; span: Span };

/** Begins to serve a request. Its span is recorded if the caller's `traceparent` says that the request is sampled. */
export function startRequest(header: string | null | undefined, kind: SpanKind): RequestTrace {
  const parent = parseTraceparent(header);
  const isRecorded = recorder !== undefined && (parent ? isSampled(parent) : Math.random() < recorder.rate);
  const span = isRecorded
    ? startSpan("request", parent, { kind })
    : traces.wrapSpanContext(parent ?? { traceId: newTraceId(), spanId: newSpanId(), traceFlags: TraceFlags.NONE });
  return { traceparent: formatTraceparent(span.spanContext()), span };
}

/** Ends the span of a request. Its name and its attributes are known only now. */
export function endRequest({ span }: RequestTrace, name: string, attributes: Attributes, errorType?: string): void {
  if (!span.isRecording()) return;
  span.updateName(name).setAttributes(attributes);
  if (errorType !== undefined) span.setAttribute("error.type", errorType).setStatus({ code: SpanStatusCode.ERROR });
  span.end();
}

const tracer: Tracer = {
  startSpan(name, { root, ...options } = {}, context = contextManager.active()) {
    const parent = root ? undefined : traces.getSpanContext(context);
    const isBelow = parent !== undefined && isSpanContextValid(parent);
    const isRecorded = recorder !== undefined && (isBelow ? isSampled(parent) : Math.random() < recorder.rate);
    return isRecorded ? startSpan(name, parent, options) : traces.wrapSpanContext(parent ?? INVALID_SPAN_CONTEXT);
  },
  startActiveSpan(name: string, ...rest: unknown[]) {
    const work = rest.pop() as (span: Span) => never;
    const [options, context = contextManager.active()] = rest as [SpanOptions?, ReturnType<typeof contextManager.active>?];
    const span = tracer.startSpan(name, options, context);
    return contextManager.with(traces.setSpan(context, span), () => work(span));
  },
};
