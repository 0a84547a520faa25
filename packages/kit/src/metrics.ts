/**
 * Prometheus metrics of a process, and W3C trace context. No label may hold an id, a path with ids or personal data.
 */
import { randomUUID } from "node:crypto";
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";

export { Counter, Gauge, Histogram };

/** The metrics of this process, served at `/metrics`. */
export const metrics = new Registry();
// A timer samples the delay of the event loop. The default of a hundred samples a second would be a sixth of the CPU
// time of an idle process.
collectDefaultMetrics({ register: metrics, eventLoopMonitoringPrecision: 50 });

/** Seconds per request by operation and status; `operation` is the operation id of OpenAPI or the gRPC method. */
export const requestSeconds = new Histogram({
  name: "request_duration_seconds",
  help: "Time to answer a request",
  labelNames: ["protocol", "operation", "status"],
  buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
  registers: [metrics],
});

const requestIdForm = /^[\w-]{8,64}$/;

/**
 * The caller's `x-request-id` if it looks like one, else a new one. It appears in logs and answers, so it may be
 * nothing else.
 */
export function requestIdFrom(header: string | null | undefined): string {
  return header && requestIdForm.test(header) ? header : randomUUID();
}

const traceparentForm = /^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;

/** The caller's `traceparent`, or a new unsampled one, so that every event and call can be traced to its request. */
export function traceparentFrom(header: string | null | undefined): string {
  if (header && traceparentForm.test(header)) return header;
  // UUIDs are cheaper than random bytes: Node fetches the bytes for many UUIDs at once.
  const [trace, span] = [randomUUID().replaceAll("-", ""), randomUUID().replaceAll("-", "").slice(0, 16)];
  return `00-${trace}-${span}-00`;
}
