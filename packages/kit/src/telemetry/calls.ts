/** Calls to other services, each in a span. The other service learns to which trace the call belongs. */
import type { Interceptor } from "@connectrpc/connect";
import { SpanKind } from "@opentelemetry/api";
import { activeTraceparent } from "./active.ts";
import { inSpan } from "./tracing.ts";

/** For the transport of an RPC client. A call outside of a trace keeps the `traceparent` that its caller gave. */
export const traceCalls: Interceptor = (next) => (request) => {
  const method = `${request.service.typeName}/${request.method.name}`;
  const attributes = { "rpc.system.name": "grpc", "rpc.method": method };
  return inSpan(method, { kind: SpanKind.CLIENT, attributes }, () => {
    const traceparent = activeTraceparent();
    if (traceparent !== undefined) request.header.set("traceparent", traceparent);
    return next(request);
  });
};

export type CallInit = Omit<RequestInit, "headers"> & { headers?: Record<string, string> };

/**
 * `fetch` within the trace of the moment.
 * @param route the template of the path, because the path may hold ids
 */
export const fetchTraced = (route: string, url: string, init: CallInit = {}): Promise<Response> => callTraced(route, url, init, fetch);

/** A call by `send`, which sends as `fetch` does, within the trace of the moment. */
export function callTraced<Answer extends { status: number }>(
  route: string,
  url: string,
  init: CallInit,
  send: (url: string, init: CallInit) => Promise<Answer>,
): Promise<Answer> {
  const { method = "GET" } = init;
  const attributes = { "http.request.method": method, "url.template": route, "server.address": new URL(url).hostname };
  return inSpan(`${method} ${route}`, { kind: SpanKind.CLIENT, attributes }, async (span) => {
    const traceparent = activeTraceparent();
    const response = await send(url, { ...init, headers: { ...init.headers, ...(traceparent !== undefined && { traceparent }) } });
    span?.setAttribute("http.response.status_code", response.status);
    return response;
  });
}
