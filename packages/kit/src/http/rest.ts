/**
 * The REST side of a service: Hono with authentication before validation, problem+json for every error, request ids, an
 * access log without personal data, health, metrics and the service's own OpenAPI document.
 */
import { OpenAPIHono, type RouteConfig, type RouteHandler, z } from "@hono/zod-openapi";
import { SpanKind } from "@opentelemetry/api";
import type { Context, MiddlewareHandler } from "hono";
import { HTTPException } from "hono/http-exception";
import { type AuditTrail, recordRefusal } from "../audit/trail.ts";
import { accessOf } from "../auth/access.ts";
import { type Streaming, streamUntilSignedOut } from "../auth/signed-out.ts";
import { authorize, type Caller, type Verifier } from "../auth/verifier.ts";
import { AppError, type ErrorForm, toAppError, toErrorResponse } from "../errors.ts";
import type { Lifecycle } from "../lifecycle.ts";
import type { Logger } from "../log.ts";
import { knownMethod, measureHttp, metrics, requestIdFrom } from "../metrics.ts";
import type { RequestContext } from "../request-context.ts";
import { runWith } from "../telemetry/active.ts";
import { endRequest, startRequest } from "../telemetry/tracing.ts";
import "../validation-messages.ts";
import { createDocuments } from "./openapi.ts";
import { readBody, requireUtf8Target, toInvalidFields, tooLarge, validateHeaders } from "./request-input.ts";
import { type DescribedErrors, problems } from "./schemas.ts";

/**
 * What handlers read from the context. Public operations have no `caller`. Operations that stream have `streaming`,
 * which ends with the caller's session.
 */
type RestEnv = {
  Variables: {
    requestId: string;
    traceparent: string;
    caller: Caller;
    streaming: Streaming;
    operation: string;
    /** The template of its path, such as `/patients/{id}`; empty if there is nothing at the path. */
    route: string;
    log: Logger;
  };
};
export type RestContext = Context<RestEnv>;

/** Who makes a REST request, and by which request. */
export function requestContext(c: RestContext): RequestContext {
  const caller: Caller | undefined = c.get("caller");
  return { actorId: caller?.id ?? "anonymous", requestId: c.get("requestId"), traceparent: c.get("traceparent") };
}

/** A route with the id under which the access table lists it (without the name of the service). */
type Route = RouteConfig & { operationId: string };

export type RestApp = {
  app: OpenAPIHono<RestEnv>;
  /**
   * Registers an operation. Its access comes from the table in `access.ts` by `<service>.<operationId>`. Paths may end
   * in an AIP-136 custom method, `/patients/{id}:restore`, or in an operation of FHIR, `/Patient/$match`.
   * @param options.streams its body may have any size, and it may run for longer than the caller's token is valid, but
   * not for longer than their session
   * @param options.orWithSlash its path, without parameters, may also end in a slash
   */
  operation<R extends Route>(route: R, handler: RouteHandler<R, RestEnv>, options?: OperationOptions): void;
};

type OperationOptions = { streams?: boolean; orWithSlash?: boolean };

/**
 * A path that is written out, by its text, or one with parameters, by its pattern; and the methods of its operations.
 */
type Paths = { writtenOut: Map<string, string[]>; patterns: { path: RegExp; method: string }[] };

export function createRestApp(options: {
  service: string;
  title: string;
  description: string;
  log: Logger;
  lifecycle: Lifecycle;
  verifier: Verifier;
  /** Left out by a service that only passes requests on. The services behind it audit them, refusals too. */
  audit?: AuditTrail;
  /** How errors look, by default problems (RFC 9457). */
  errors?: DescribedErrors;
}): RestApp {
  const { service, log, lifecycle, verifier, audit, errors = problems } = options;
  const paths: Paths = { writtenOut: new Map(), patterns: [] };
  const withSlash = new Set<string>();
  const documents = createDocuments({ ...options, errors });
  const app = new OpenAPIHono<RestEnv>({
    getPath: (request) => {
      const start = request.url.indexOf("/", request.url.indexOf("://") + 3);
      const end = request.url.indexOf("?", start);
      const path = request.url.slice(start, end === -1 ? undefined : end);
      if (withSlash.has(path)) return path.slice(0, -1);
      return anotherSpelling.test(path) ? "/@" : toInternalPath(path);
    },
    defaultHook: (result) => {
      if (!result.success) throw toInvalidFields(result.error);
    },
  });
  app.use(createRequestLog(log));
  app.use(refuseOtherMethods(paths));
  answerErrors(app, paths, { service, log, audit, errors });
  registerHealth(app, lifecycle);
  app.get("/openapi.json", (c) => {
    c.set("operation", "openapi");
    return c.json(documents.published());
  });
  // The gateway has no route to it.
  app.get("/openapi-internal.json", (c) => {
    c.set("operation", "openapi");
    return c.json(documents.complete());
  });

  function operation<R extends Route>(
    route: R,
    handler: RouteHandler<R, RestEnv>,
    { streams = false, orWithSlash = false }: OperationOptions = {},
  ): void {
    const name = `${service}.${route.operationId}`;
    const access = accessOf(name);
    if (access === undefined) throw new Error(`${name} is not in the access table (packages/kit/src/auth/access.ts)`);

    const authenticate: MiddlewareHandler<RestEnv> = async (c, next) => {
      c.set("operation", route.operationId);
      c.set("route", route.path);
      if (access !== "public") {
        const caller = await verifier.verify(c.req.header("authorization"));
        authorize(caller, access);
        c.set("caller", caller);
        if (streams) c.set("streaming", streamUntilSignedOut({ verifier, callers: [caller] }, c.env));
      }
      await next();
    };
    const path = toInternalPath(route.path);
    const method = route.method.toUpperCase();
    const pattern = path.replace(/[.@]/g, "\\$&").replace(/\{[^}]+\}/g, "[^@/][^/]*");
    if (path.includes("{")) paths.patterns.push({ path: new RegExp(`^${pattern}$`), method });
    else paths.writtenOut.set(path, [...(paths.writtenOut.get(path) ?? []), method]);
    if (orWithSlash) withSlash.add(`${path}/`);

    documents.add(route, access, streams);
    const { headers, query, ...others } = route.request ?? {};
    const request = { ...others, ...(query && { query: refuseUnknown(query) }) };
    const { body } = request;
    const middleware = [
      authenticate,
      requireUtf8Target(path),
      ...(body && !streams ? [((c, next) => readBody(c, next, body)) satisfies MiddlewareHandler] : []),
      ...(headers instanceof z.ZodObject ? [validateHeaders(headers)] : []),
    ];
    // A parameter does not begin with "@", or `/patients/{id}` would take `/patients:export` for a patient.
    const internal = { ...route, request, path: path.replace(/\{([^}]+)\}/g, ":$1{[^@/][^/]*}"), hide: true, middleware };
    // The handler was checked against the type of the route; path and middleware differ from it inside this file only.
    app.openapi(internal as unknown as R, handler as never);
  }

  return { app, operation };
}

/**
 * Other spellings of a custom method than `:name`, above all the one that is used inside. They are no paths, because a
 * gateway that refuses `/patients:ids` to clients cannot know all of them.
 */
const anotherSpelling = /\/(?:@|%40|:)|%3a/i;

/**
 * Inside, a custom method is a path segment of its own, because a parameter of the router ends at a slash. An operation
 * of FHIR is one already, `/Patient/$match`, and needs another mark, because its own one means something to the router.
 */
function toInternalPath(path: string): string {
  return path.replace(/:([a-z][A-Za-z]*)$/, "/@$1").replace(/\/(?:\$|%24)([a-z][A-Za-z-]*)$/, "/@@$1");
}

/**
 * A parameter that a route does not declare is a mistake of its caller. A route that takes any says `z.looseObject`, or
 * declares none: those of FHIR read theirs themselves.
 */
function refuseUnknown<Query>(query: Query): Query | z.ZodObject {
  return query instanceof z.ZodObject && query.def.catchall === undefined ? query.strict() : query;
}

/** Sets what handlers read from the context; measures and logs each request when it was answered. */
function createRequestLog(log: Logger): MiddlewareHandler<RestEnv> {
  return (c, next) => {
    const started = performance.now();
    const requestId = requestIdFrom(c.req.header("x-request-id"));
    const trace = startRequest(c.req.header("traceparent"), SpanKind.SERVER);
    c.set("requestId", requestId);
    c.set("traceparent", trace.traceparent);
    c.set("operation", "unknown");
    c.set("route", "");
    c.set("log", log);
    return runWith(trace.span, async () => {
      await next();
      c.res.headers.set("x-request-id", requestId);
      // Hono answers it as a GET and drops the body, whose source would wait for its reader.
      if (c.req.method === "HEAD") await c.res.body?.cancel();
      const { operation, route, streaming } = c.var as Omit<RestEnv["Variables"], "streaming"> & { streaming?: Streaming };
      // Probes ask so often that their spans would hide the others; a span that does not end is never sent.
      if (operation.startsWith("health")) return;
      const { method } = c.req;
      const { status } = c.res;
      const milliseconds = performance.now() - started;
      measureHttp({ method, route, operation, status }, { span: trace.span, seconds: milliseconds / 1_000 });
      log.info({ requestId, method, operation, status, ms: Math.round(milliseconds * 10) / 10 }, "request");
      const end = () =>
        endRequest(
          trace,
          `${knownMethod(method)}${route && ` ${route}`}`,
          {
            "http.request.method": knownMethod(method),
            ...(route && { "http.route": route }),
            "http.response.status_code": status,
            "http.request.header.x-request-id": [requestId],
            "url.scheme": "http",
          },
          status >= 500 ? String(status) : undefined,
        );
      if (streaming) streaming.onClose(end);
      else end();
    });
  };
}

function answerErrors(
  app: RestApp["app"],
  paths: Paths,
  { service, log, audit, errors }: { service: string; log: Logger; audit: AuditTrail | undefined; errors: ErrorForm },
): void {
  app.onError(async (error, c) => {
    // A stream that was ended may fail with any error. The caller reads why it was ended, or an error that says more.
    const { streaming } = c.var as Partial<RestEnv["Variables"]>;
    const reason: unknown = streaming?.signal.reason;
    const told = reason === undefined || error.cause === reason ? error : reason;
    const thrown = told instanceof HTTPException ? fromHttpException(told) : toAppError(told);
    const appError = audit ? await recordRefusal(audit, requestContext(c), `${service}.${c.get("operation")}`, thrown) : thrown;
    if (appError.isFailure) log.error({ err: appError, requestId: c.get("requestId"), operation: c.get("operation") }, "request failed");
    return toErrorResponse(appError, c.get("requestId"), errors);
  });
  app.notFound((c) => {
    const path = toInternalPath(c.req.path);
    const allowed = paths.patterns.filter((pattern) => pattern.path.test(path)).map(({ method }) => method);
    const isOther = allowed.length > 0 && !allowed.includes(c.req.method);
    const error = isOther ? otherMethod(allowed) : new AppError("not_found", "There is nothing at this path.");
    return toErrorResponse(error, c.get("requestId"), errors);
  });
}

/** A path that is written out is not one of an operation with a parameter in its place: `duplicates` is no id. */
function refuseOtherMethods({ writtenOut }: Paths): MiddlewareHandler<RestEnv> {
  return (c, next) => {
    const allowed = writtenOut.get(c.req.path);
    const method = c.req.method === "HEAD" ? "GET" : c.req.method;
    if (allowed && !allowed.includes(method)) throw otherMethod(allowed);
    return next();
  };
}

function otherMethod(allowed: string[]): AppError {
  return new AppError("method_not_allowed", `Use ${allowed.join(", ")} here.`, { headers: { allow: allowed.join(", ") } });
}

function registerHealth(app: RestApp["app"], lifecycle: Lifecycle): void {
  app.get("/health/live", (c) => {
    c.set("operation", "health.live");
    return c.json({ status: "live" });
  });
  app.get("/health/ready", async (c) => {
    c.set("operation", "health.ready");
    const missing = await lifecycle.notReady();
    return missing.length === 0 ? c.json({ status: "ready" }) : c.json({ status: "not ready", missing }, 503);
  });
  app.get("/metrics", async (c) => {
    c.set("operation", "health.metrics");
    return c.text(await metrics.metrics(), 200, { "content-type": metrics.contentType });
  });
}

function fromHttpException(error: HTTPException): AppError {
  if (error.status === 415)
    return new AppError("unsupported_media_type", "Send the body as one of the media types that the API document lists.");
  if (error.status === 413) return tooLarge();
  if (error.status === 400)
    return new AppError("invalid_argument", "The body is not valid JSON.", { errors: [{ path: "", message: "is not valid JSON" }] });
  return toAppError(error);
}
