/** W3C trace context: what `traceparent` says, in requests, outbox rows and events. */
import { randomFillSync } from "node:crypto";
import { isValidSpanId, isValidTraceId, type SpanContext, TraceFlags } from "@opentelemetry/api";

const form = /^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;

/** Undefined if the text is no `traceparent`. */
export function parseTraceparent(text: string | null | undefined): SpanContext | undefined {
  if (!text || !form.test(text)) return undefined;
  const context = {
    traceId: text.slice(3, 35),
    spanId: text.slice(36, 52),
    traceFlags: Number.parseInt(text.slice(53), 16),
    isRemote: true,
  };
  return isValidTraceId(context.traceId) && isValidSpanId(context.spanId) ? context : undefined;
}

export function formatTraceparent({ traceId, spanId, traceFlags }: SpanContext): string {
  return `00-${traceId}-${spanId}-${(traceFlags & TraceFlags.SAMPLED) === 0 ? "00" : "01"}`;
}

export const isSampled = (context: SpanContext | undefined): context is SpanContext =>
  context !== undefined && (context.traceFlags & TraceFlags.SAMPLED) !== 0;

/** Random bytes are fetched for many ids at once, because a call for a few costs as much as one for thousands. */
const pool = Buffer.alloc(4_096);
let used = pool.length;

function randomHex(bytes: number): string {
  if (used + bytes > pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  used += bytes;
  return pool.toString("hex", used - bytes, used);
}

export const newSpanId = () => randomHex(8);
export const newTraceId = () => randomHex(16);

/** The caller's `traceparent`, or a new unsampled one, so that every event and call can be traced to its request. */
export function traceparentFrom(header: string | null | undefined): string {
  return formatTraceparent(parseTraceparent(header) ?? { traceId: newTraceId(), spanId: newSpanId(), traceFlags: TraceFlags.NONE });
}
