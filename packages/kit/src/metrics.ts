/**
 * Prometheus metrics of a process, in OpenMetrics, under the names of OpenTelemetry's conventions where there are any.
 * No label may hold an id, a path with ids or personal data.
 */
import { randomUUID } from "node:crypto";
import { type Span, TraceFlags } from "@opentelemetry/api";
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import { within } from "./within.ts";

export { Counter, Gauge, Histogram };

/** The metrics of this process, served at `/metrics`. */
export const metrics = new Registry<typeof Registry.OPENMETRICS_CONTENT_TYPE>();
metrics.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
// A timer samples the delay of the event loop. The default of a hundred samples a second would be a sixth of the CPU
// time of an idle process.
collectDefaultMetrics({ register: metrics, eventLoopMonitoringPrecision: 50 });

const buckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** `operation` is the operation id of OpenAPI. It is no label of the conventions. */
const httpSeconds = new Histogram({
  name: "http_server_request_duration_seconds",
  help: "Time to answer a REST request",
  labelNames: ["http_request_method", "http_route", "http_response_status_code", "operation"],
  buckets,
  enableExemplars: true,
  registers: [metrics],
});
const rpcSeconds = new Histogram({
  name: "rpc_server_call_duration_seconds",
  help: "Time to answer an RPC",
  labelNames: ["rpc_system_name", "rpc_method", "rpc_response_status_code"],
  buckets,
  enableExemplars: true,
  registers: [metrics],
});
type Series = { metricName?: string; labels: Record<string, string | number | undefined>; value: number };

/**
 * The former name of both, for this release, added up when it is asked for. `operation` is the operation id or the last
 * part of the method's name.
 */
const formerly = {
  name: "request_duration_seconds",
  help: "The former name of http_server_request_duration_seconds and rpc_server_call_duration_seconds",
  type: "histogram",
  aggregator: "sum",
  async get() {
    const sums = new Map<string, Series>();
    for (const histogram of [httpSeconds, rpcSeconds])
      for (const { metricName = "", labels, value } of (await histogram.get()).values as Series[]) {
        const { rpc_method: method, operation = String(method).replace(/.*\//, ""), le } = labels;
        const status = labels.http_response_status_code ?? String(labels.rpc_response_status_code).toLowerCase();
        const now = { ...(le !== undefined && { le }), protocol: method === undefined ? "http" : "rpc", operation, status };
        const name = metricName.replace(histogram === httpSeconds ? "http_server_request" : "rpc_server_call", "request");
        const key = JSON.stringify([name, now]);
        sums.set(key, { metricName: name, labels: now, value: value + (sums.get(key)?.value ?? 0) });
      }
    return { ...this, values: [...sums.values()] };
  },
};
metrics.registerMetric(formerly as unknown as Gauge);

/** A sampled request is an example of its bucket, with the ids by which its trace is found. */
function exemplarOf(span: Span): { exemplarLabels?: object } {
  const { traceId, spanId, traceFlags } = span.spanContext();
  // The types of prom-client say that the labels of an example are those of the metric, and they are not.
  return (traceFlags & TraceFlags.SAMPLED) === 0 ? {} : { exemplarLabels: { trace_id: traceId, span_id: spanId } };
}

type Measured = { span: Span; seconds: number };

/** @param request.route a template such as `/patients/{id}`; empty if there is nothing at the path */
export function measureHttp(
  request: { method: string; route: string; operation: string; status: number },
  { span, seconds }: Measured,
): void {
  const { method, route, operation, status } = request;
  const labels = { http_request_method: knownMethod(method), http_route: route, http_response_status_code: status, operation };
  httpSeconds.observe({ labels, value: seconds, ...exemplarOf(span) });
}

/**
 * @param call.method with the service, such as `billing.v1.BillingService/GetBalance`; `code` as its system writes it
 */
export function measureRpc(call: { system: string; method: string; code: string }, { span, seconds }: Measured): void {
  const { system, method, code } = call;
  const labels = { rpc_system_name: system, rpc_method: method, rpc_response_status_code: code };
  rpcSeconds.observe({ labels, value: seconds, ...exemplarOf(span) });
}

const methods = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);

/** Clients may send any method. `_OTHER` is what the conventions call those that we do not serve. */
export const knownMethod = (method: string): string => (methods.has(method) ? method : "_OTHER");

type Threads = { size: number; busy: number; waiting: number };
const pools = new Map<string, () => Threads>();
const states = { size: "Threads that a pool may have", busy: "Threads that work", waiting: "Tasks that wait for a thread" };
for (const [state, help] of Object.entries(states))
  new Gauge({
    name: `thread_pool_${state}`,
    help,
    labelNames: ["pool"],
    registers: [metrics],
    collect() {
      for (const [pool, read] of pools) this.set({ pool }, read()[state as keyof Threads]);
    },
  });

/** Shows at `/metrics` how busy a pool of threads is. */
export const watchThreads = (pool: string, read: () => Threads): void => void pools.set(pool, read);

/** Less than the ten seconds after which Prometheus gives up, and has none of the metrics. */
const patienceMs = 2_000;
/** A connection whose server has vanished gives no answer for a quarter of an hour. */
const giveUpMs = 30_000;

type Asked<Answer> = {
  name: string;
  help: string;
  type?: "gauge" | "counter";
  samples: (answer: Answer) => { labels?: Record<string, string>; value: number }[];
};

/**
 * Shows metrics that a query fills, asked for at every scrape. What is not known in time is left out, because 0 would
 * say that all is well. Nothing is asked again before it has answered, so a database that is busy gets no more work.
 */
export function showAsked<Answer>(ask: () => Promise<Answer | undefined>, shown: Asked<Answer>[]): void {
  let asking: Promise<Answer | undefined> | undefined;
  const read = () => {
    asking ??= within(
      giveUpMs,
      ask().catch(() => undefined),
    ).finally(() => {
      asking = undefined;
    });
    return within(patienceMs, asking);
  };
  for (const { samples, ...rest } of shown) {
    const metric = {
      ...{ type: "gauge", aggregator: "sum", ...rest },
      async get() {
        const answer = await read();
        return { ...this, values: answer === undefined ? [] : samples(answer) };
      },
    };
    metrics.registerMetric(metric as unknown as Gauge);
  }
}

const requestIdForm = /^[\w-]{8,64}$/;

/** The caller's `x-request-id` if it has the form of one, else a new one: it appears in logs and answers. */
export function requestIdFrom(header: string | null | undefined): string {
  return header && requestIdForm.test(header) ? header : randomUUID();
}
