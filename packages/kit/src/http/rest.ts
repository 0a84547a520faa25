/**
 * The REST side of a service: OpenAPIHono with authentication before validation, problem+json for every error, request
 * ids, an access log without personal data, health, metrics and the service's own OpenAPI document.
 */
import { randomUUID } from "node:crypto";
import { createServer, type Server } from "node:http";
import type { Duplex } from "node:stream";
import { getRequestListener } from "@hono/node-server";
import { OpenAPIHono, type RouteConfig, type RouteHandler, z } from "@hono/zod-openapi";
import type { Context, MiddlewareHandler } from "hono";
import { HTTPException } from "hono/http-exception";
import { accessOf } from "../auth/access.ts";
import { signedOutWhileAnswering } from "../auth/signed-out.ts";
import { authorize, type Caller, type Verifier } from "../auth/verifier.ts";
import { AppError, toAppError, toProblemResponse } from "../errors.ts";
import type { Lifecycle } from "../lifecycle.ts";
import type { Logger } from "../log.ts";
import { metrics, requestIdFrom, requestSeconds, traceparentFrom } from "../metrics.ts";
import { readBody, requireUtf8Target, toInvalidFields, tooLarge, validateHeaders } from "./request-input.ts";

/**
 * What handlers read from the context. `caller` is not set for public operations. `signedOut` is set for those that stream:
 * it aborts, with the refusal, when the caller's session ends.
 */
export type RestEnv = {
  Variables: { requestId: string; traceparent: string; caller: Caller; signedOut: AbortSignal; operation: string; log: Logger };
};
export type RestContext = Context<RestEnv>;

/** A route of OpenAPI with the id under which the access table lists it (without the service's name). */
export type Route = RouteConfig & { operationId: string };

export type RestApp = {
  app: OpenAPIHono<RestEnv>;
  /**
   * Registers an operation. Its access comes from the table in `access.ts` by `<service>.<operationId>`.
   * Paths may end in an AIP-136 custom method: `/patients/{id}:restore`. One that streams takes a body of any size, and may
   * go on for longer than the caller's token, but not than their session.
   */
  operation<R extends Route>(route: R, handler: RouteHandler<R, RestEnv>, options?: { streams?: boolean }): void;
};

export const ProblemSchema = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    detail: z.string(),
    code: z.string(),
    requestId: z.string(),
    errors: z.array(z.object({ path: z.string(), message: z.string() })).optional(),
  })
  .openapi("Problem", { description: "An RFC 9457 problem. `errors` names every wrong field." });

const methods = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/** Custom methods become a path segment of their own inside, because a router's parameters end at a slash. */
function toInternalPath(path: string): string {
  return path.replace(/:([a-z][A-Za-z]*)$/, "/@$1");
}

export function createRestApp(options: {
  service: string;
  title: string;
  description: string;
  log: Logger;
  lifecycle: Lifecycle;
  verifier: Verifier;
}): RestApp {
  const { service, log, lifecycle, verifier } = options;
  const registered: { method: string; path: RegExp }[] = [];

  const app = new OpenAPIHono<RestEnv>({
    getPath: (request) => {
      const start = request.url.indexOf("/", request.url.indexOf("://") + 3);
      const end = request.url.indexOf("?", start);
      return toInternalPath(request.url.slice(start, end === -1 ? undefined : end));
    },
    defaultHook: (result) => {
      if (!result.success) throw toInvalidFields(result.error);
    },
  });

  app.use(async (c, next) => {
    const started = performance.now();
    const requestId = requestIdFrom(c.req.header("x-request-id"));
    c.set("requestId", requestId);
    c.set("traceparent", traceparentFrom(c.req.header("traceparent")));
    c.set("operation", "unknown");
    c.set("log", log);
    await next();
    c.res.headers.set("x-request-id", requestId);
    const operation = c.get("operation");
    if (operation.startsWith("health")) return;
    const milliseconds = performance.now() - started;
    requestSeconds.observe({ protocol: "http", operation, status: c.res.status }, milliseconds / 1_000);
    log.info({ requestId, method: c.req.method, operation, status: c.res.status, ms: Math.round(milliseconds * 10) / 10 }, "request");
  });

  app.onError((error, c) => {
    // A stream whose caller is signed out ends with whatever error that leads to; this is what they are told.
    const { signedOut } = c.var as Partial<RestEnv["Variables"]>;
    const appError = error instanceof HTTPException ? fromHttpException(error) : toAppError(signedOut?.reason ?? error);
    if (appError.isFailure) log.error({ err: appError, requestId: c.get("requestId"), operation: c.get("operation") }, "request failed");
    return toProblemResponse(appError, c.get("requestId"));
  });

  app.notFound((c) => {
    const path = toInternalPath(c.req.path);
    const allowed = registered.filter((route) => route.path.test(path)).map((route) => route.method);
    const error =
      allowed.length > 0 && !allowed.includes(c.req.method)
        ? new AppError("method_not_allowed", `Use ${allowed.join(", ")} here.`, { headers: { allow: allowed.join(", ") } })
        : new AppError("not_found", "There is nothing at this path.");
    return toProblemResponse(error, c.get("requestId"));
  });

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
  app.get("/openapi.json", (c) => {
    c.set("operation", "openapi");
    return c.json(
      app.getOpenAPI31Document({
        openapi: "3.1.0",
        info: { title: options.title, description: options.description, version: "1.0.0" },
        servers: [{ url: "/" }],
      }),
    );
  });
  app.openAPIRegistry.registerComponent("securitySchemes", "bearer", { type: "http", scheme: "bearer", bearerFormat: "JWT" });

  function operation<R extends Route>(route: R, handler: RouteHandler<R, RestEnv>, { streams = false } = {}): void {
    const name = `${service}.${route.operationId}`;
    const access = accessOf(name);
    if (access === undefined) throw new Error(`${name} is not in the access table (packages/kit/src/auth/access.ts)`);

    const authenticate: MiddlewareHandler<RestEnv> = async (c, next) => {
      c.set("operation", route.operationId);
      if (access !== "public") {
        const caller = await verifier.verify(c.req.header("authorization"));
        authorize(caller, access);
        c.set("caller", caller);
        if (streams) c.set("signedOut", signedOutWhileAnswering({ verifier, callers: [caller] }, c.env));
      }
      await next();
    };
    const path = toInternalPath(route.path);
    const pattern = path.replace(/[.@]/g, "\\$&").replace(/\{[^}]+\}/g, "[^@/][^/]*");
    const method = route.method.toUpperCase();
    if (methods.includes(method)) registered.push({ method, path: new RegExp(`^${pattern}$`) });

    app.openAPIRegistry.registerPath({
      ...route,
      ...(access !== "public" && { security: [{ bearer: access === "signed-in" ? [] : [access] }] }),
      responses: {
        ...route.responses,
        default: { description: "What went wrong", content: { "application/problem+json": { schema: ProblemSchema } } },
      },
    });
    const { headers, ...request } = route.request ?? {};
    const middleware = [
      authenticate,
      requireUtf8Target(path),
      ...(request.body && !streams ? [readBody] : []),
      ...(headers instanceof z.ZodObject ? [validateHeaders(headers)] : []),
    ];
    // A parameter does not begin with "@": `/patients/{id}` must not take `/patients:export` for a patient.
    const internal = { ...route, request, path: path.replace(/\{([^}]+)\}/g, ":$1{[^@/][^/]*}"), hide: true, middleware };
    // The route's type is what the handler was checked against; path and middleware differ from it only inside this file.
    app.openapi(internal as unknown as R, handler as never);
  }

  return { app, operation };
}

/**
 * Whether a caller has what a tag stands for, by the header `If-None-Match`. It compares weakly (RFC 9110, 13.1.2), because
 * caches and compressing proxies make a strong tag weak: `W/"x"` and `"x"` are the same here. For `If-Match` they are not.
 */
export function matchesIfNoneMatch(ifNoneMatch: string | undefined, etag: string): boolean {
  if (ifNoneMatch?.trim() === "*") return true;
  // A tag may have a comma in it, so the tags are picked out of the header instead of the header being cut at commas.
  const known: string[] = ifNoneMatch?.match(/"[^"]*"/g) ?? [];
  return known.includes(etag.replace(/^W\//, ""));
}

function fromHttpException(error: HTTPException): AppError {
  if (error.status === 415)
    return new AppError("unsupported_media_type", "Send the body as one of the media types that the API document lists.");
  if (error.status === 413) return tooLarge();
  if (error.status === 400)
    return new AppError("invalid_argument", "The body is not valid JSON.", { errors: [{ path: "", message: "is not valid JSON" }] });
  return toAppError(error);
}

/** Listens, and closes gracefully: stops listening, lets requests in flight finish, then ends idle connections. */
export async function listenHttp(options: {
  app: RestApp["app"];
  host: string;
  port: number;
  log: Logger;
  lifecycle: Lifecycle;
}): Promise<Server> {
  const { app, host, port, log, lifecycle } = options;
  const server = createServer(getRequestListener(app.fetch));
  await listen(server, host, port);
  log.info({ host, port }, "listening");
  lifecycle.onClose("http server", () => closeServer(server));
  return server;
}

/** Envoy closes idle connections after 60 s. Ours must stay longer, or Envoy would send a request into a closing one. */
export function listen(server: Server, host: string, port: number): Promise<void> {
  server.keepAliveTimeout = 75_000;
  server.headersTimeout = 80_000;
  // An import may take longer than the five minutes that Node allows a whole request. Silence is bounded by the gateway.
  server.requestTimeout = 0;
  server.on("clientError", refuseMalformed);
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

/** What is not HTTP, or has more headers than Node reads, gets a problem as every other wrong request does. */
function refuseMalformed(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (!socket.writable || error.code === "ECONNRESET") {
    socket.destroy();
    return;
  }
  const [status, reason, detail] =
    error.code === "HPE_HEADER_OVERFLOW"
      ? [431, "Request Header Fields Too Large", "The headers and the path together are larger than 16 KiB."]
      : [400, "Bad Request", "The request is not valid HTTP."];
  const problem = { type: "about:blank", title: "Invalid request", status, detail, code: "invalid_argument", requestId: randomUUID() };
  const body = JSON.stringify(problem);
  const head = `HTTP/1.1 ${status} ${reason}\r\nconnection: close\r\ncontent-type: application/problem+json\r\ncontent-length: ${Buffer.byteLength(body)}`;
  socket.end(`${head}\r\n\r\n${body}`);
}

export function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeIdleConnections();
  });
}
