/** The span to which the work of the moment belongs. It follows the work through promises, timers and callbacks. */
import { AsyncLocalStorage } from "node:async_hooks";
import { type Context, type ContextManager, ROOT_CONTEXT, type Span, trace as traces } from "@opentelemetry/api";
import { formatTraceparent } from "./trace-context.ts";

const active = new AsyncLocalStorage<Context>();

/** The span of the moment. It may be one that is not recorded, and only gives the ids of its request. */
export function activeSpan(): Span | undefined {
  const context = active.getStore();
  return context && traces.getSpan(context);
}

/** The id of the trace to which the work of the moment belongs, for logs. */
export const activeTraceId = (): string | undefined => activeSpan()?.spanContext().traceId;

/** What `traceparent` says to whom we call now; undefined outside of a trace. */
export function activeTraceparent(): string | undefined {
  const span = activeSpan();
  return span && formatTraceparent(span.spanContext());
}

/** Does work that belongs to a span, or to none. */
export const runWith = <Result>(span: Span | undefined, work: () => Result): Result =>
  active.run(span ? traces.setSpan(ROOT_CONTEXT, span) : ROOT_CONTEXT, work);

/** For libraries that know the API of OpenTelemetry. */
export const contextManager: ContextManager = {
  active: () => active.getStore() ?? ROOT_CONTEXT,
  with: (context, work, self, ...values) => active.run(context, () => work.apply(self as never, values)),
  bind: (context, target) =>
    typeof target === "function" ? (((...values: unknown[]) => active.run(context, () => target(...values))) as typeof target) : target,
  enable: () => contextManager,
  disable: () => contextManager,
};
