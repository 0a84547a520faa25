/**
 * The RPC side of a service: Connect on one port. gRPC comes over HTTP/2 cleartext; gRPC-Web, Connect and its plain JSON
 * come over HTTP/1.1 or HTTP/2; everything else goes to the REST app (health, metrics, pages).
 */
import http from "node:http";
import http2 from "node:http2";
import type { Socket } from "node:net";
import type { DescService, Message } from "@bufbuild/protobuf";
import { pathToString } from "@bufbuild/protobuf/reflect";
import { createValidator } from "@bufbuild/protovalidate";
import { Code, ConnectError, type ConnectRouter, createContextKey, type HandlerContext, type Interceptor } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { getRequestListener } from "@hono/node-server";
import { Health, HealthCheckResponse_ServingStatus } from "@pm/proto/grpc/health/v1/health";
import { accessOf, type Scope } from "../auth/access.ts";
import { signedOutUntil } from "../auth/signed-out.ts";
import { authorize, type Caller, type Verifier } from "../auth/verifier.ts";
import { AppError, type ErrorCode, invalidFields, toAppError, toConnectError } from "../errors.ts";
import { maxBodyBytes } from "../http/request-input.ts";
import { closeServer, listen, type RestApp } from "../http/rest.ts";
import type { Lifecycle } from "../lifecycle.ts";
import type { Logger } from "../log.ts";
import { requestIdFrom, requestSeconds, traceparentFrom } from "../metrics.ts";
import { decodeJson } from "../text.ts";
import { registerReflection } from "./reflection.ts";
import { createUnaryGrpc } from "./unary.ts";

/** Who calls; set for every method but health and reflection. */
export const callerKey = createContextKey<Caller | undefined>(undefined, { description: "caller" });
export const requestIdKey = createContextKey<string>("", { description: "request id" });
export const traceparentKey = createContextKey<string>("", { description: "traceparent" });
/** The person for whom a service calls, by the verified token in `x-on-behalf-of`; undefined where there is none. */
export const onBehalfOfKey = createContextKey<Caller | undefined>(undefined, { description: "on behalf of" });

type Done = (error?: unknown) => ConnectError | undefined;
const doneKey = createContextKey<Done | undefined>(undefined, { description: "reports the call" });

const openServices = new Set(["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"]);

/**
 * Methods that have a second scope, beside the one of the access table, whose handler decides what a caller with only that
 * one may see (for example by what another service says).
 */
export type SecondScopes = ReadonlyMap<string, Scope>;

/** What stands around every method: the gate before its message is read, the interceptor around its handler. */
export type Guard = { gate: (context: HandlerContext) => Promise<void>; interceptor: Interceptor };

/**
 * Authenticates, authorises by the access table, validates by protovalidate, logs, and makes every error a ConnectError
 * with google.rpc.ErrorInfo. The gate comes before a message is read, so that nobody learns from errors about its content.
 */
export function createGuard(options: { log: Logger; verifier: Verifier; secondScopes?: SecondScopes }): Guard {
  const { log, verifier, secondScopes } = options;
  const validator = createValidator();

  async function gate(context: HandlerContext): Promise<void> {
    const { values, requestHeader } = context;
    const requestId = requestIdFrom(requestHeader.get("x-request-id"));
    values.set(requestIdKey, requestId);
    values.set(traceparentKey, traceparentFrom(requestHeader.get("traceparent")));
    context.responseHeader.set("x-request-id", requestId);
    if (openServices.has(context.service.typeName)) return;
    const done = report(context, requestId);
    values.set(doneKey, done);
    // What fails beside the handler (an unreadable message, a deadline) aborts the signal with the error that is then sent.
    context.signal.addEventListener("abort", () => {
      const { reason } = context.signal;
      if (!(reason instanceof ConnectError)) return;
      const told = done(fromConnectItself(reason, context.method.input.typeName));
      if (told) Object.assign(reason, { code: told.code, rawMessage: told.rawMessage, details: [...reason.details, ...told.details] });
    });
    try {
      const method = `${context.service.typeName}/${context.method.name}`;
      const access = accessOf(method);
      if (access === undefined) throw new AppError("internal", "This method is not in the access table.");
      const caller = await verifier.verify(requestHeader.get("authorization"));
      const onBehalfOf = requestHeader.get("x-on-behalf-of");
      if (onBehalfOf && caller.kind === "service") values.set(onBehalfOfKey, await verifier.verify(onBehalfOf));
      const second = secondScopes?.get(method);
      authorize(caller, second !== undefined && caller.scopes.has(second) ? second : access);
      values.set(callerKey, caller);
    } catch (error) {
      throw done(error);
    }
  }

  /** Logs and counts a call when it ends, once; the error that it ends with comes back as the caller may read it. */
  function report(context: HandlerContext, requestId: string): Done {
    const started = performance.now();
    const method = `${context.service.typeName}/${context.method.name}`;
    let isDone = false;
    return (error) => {
      if (isDone) return undefined;
      isDone = true;
      const appError = error === undefined ? undefined : toAppError(error);
      const connectError = appError && toConnectError(appError);
      const status = connectError ? nameOf(connectError.code) : "ok";
      const milliseconds = performance.now() - started;
      // A deadline is the caller's own, who knows best that it was missed.
      if (appError?.isFailure && appError.code !== "deadline_exceeded") log.error({ err: error, requestId, method }, "call failed");
      requestSeconds.observe({ protocol: "rpc", operation: context.method.name, status }, milliseconds / 1_000);
      log.info({ requestId, method, status, ms: Math.round(milliseconds * 10) / 10 }, "call");
      return connectError;
    };
  }

  function validate(schema: Parameters<typeof validator.validate>[0], message: Message): void {
    const result = validator.validate(schema, message);
    if (result.kind === "error") throw result.error;
    if (result.kind === "invalid")
      throw invalidFields(result.violations.map((violation) => ({ path: pathToString(violation.field), message: violation.message })));
  }

  async function* validateEach(schema: Parameters<typeof validator.validate>[0], messages: AsyncIterable<Message>) {
    try {
      for await (const message of messages) {
        validate(schema, message);
        yield message;
      }
    } catch (error) {
      throw error instanceof ConnectError ? fromConnectItself(error, schema.typeName) : error;
    }
  }

  async function* reportAtEnd(messages: AsyncIterable<Message>, signedOut: AbortSignal, done: Done) {
    try {
      for await (const message of messages) {
        signedOut.throwIfAborted();
        yield message;
      }
      signedOut.throwIfAborted();
    } catch (error) {
      throw done(signedOut.reason ?? error) ?? error;
    } finally {
      // A caller that goes away ends the stream here, which is how most streams end.
      done();
    }
  }

  const interceptor: Interceptor = (next) => async (request) => {
    const done = request.contextValues.get(doneKey);
    if (!done) return next(request);
    try {
      if (request.stream) {
        const callers = [request.contextValues.get(callerKey), request.contextValues.get(onBehalfOfKey)];
        const signedOut = signedOutUntil({ verifier, callers }, request.signal);
        const signal = AbortSignal.any([request.signal, signedOut]);
        const response = await next({ ...request, signal, message: validateEach(request.method.input, request.message) });
        return response.stream ? { ...response, message: reportAtEnd(response.message, signedOut, done) } : response;
      }
      validate(request.method.input, request.message);
      const response = await next(request);
      done();
      return response;
    } catch (error) {
      throw done(error) ?? error;
    }
  };

  return { gate, interceptor };
}

/** Errors that Connect makes itself (an unreadable message, a deadline, too many bytes) are the caller's to read. */
function fromConnectItself(error: ConnectError, typeName: string): AppError {
  if (error.cause instanceof AppError) return error.cause;
  // Connect calls these internal, though nobody but the caller can mend them.
  if (/^(parse binary:|decompression failed)/.test(error.rawMessage)) {
    const isText = error.rawMessage.includes("not valid for encoding utf-8");
    const message = isText ? "A text of the message is not UTF-8; send text as UTF-8." : `The message cannot be read as a ${typeName}.`;
    return new AppError("invalid_argument", message, { cause: error });
  }
  const code = codesOfConnectItself.get(error.code);
  return code ? new AppError(code, error.rawMessage, { cause: error }) : toAppError(error);
}

const codesOfConnectItself = new Map<Code, ErrorCode>([
  [Code.InvalidArgument, "invalid_argument"],
  [Code.ResourceExhausted, "resource_exhausted"],
  [Code.Unimplemented, "unimplemented"],
  [Code.DeadlineExceeded, "deadline_exceeded"],
  [Code.Canceled, "cancelled"],
]);

/** `InvalidArgument` → `invalid_argument`, as the Connect protocol writes it. */
function nameOf(code: Code): string {
  return Code[code].replace(/(?<=[a-z])(?=[A-Z])/g, "_").toLowerCase();
}

export type RpcServerOptions = {
  /** Registers the services; the same services are described by reflection. */
  routes: (router: ConnectRouter) => void;
  services: DescService[];
  rest: RestApp["app"];
  guard: Guard;
  host: string;
  port: number;
  log: Logger;
  lifecycle: Lifecycle;
};

/** JSON is decoded as REST decodes it. */
const jsonOptions = { ignoreUnknownFields: true, textDecoder: { decode: decodeJson } };

/** How long calls and streams may go on after the port was closed. */
const streamGraceMs = 5_000;
/** The longest deadline that a caller may set. */
const maxTimeoutMs = 3_600_000;

/** Listens for gRPC, gRPC-Web, Connect and REST on one port, with reflection and grpc.health.v1. */
export async function listenRpc(options: RpcServerOptions): Promise<http.Server> {
  const { routes, services, rest, guard, host, port, log, lifecycle } = options;
  const unaryGrpc = createUnaryGrpc({ guard, maxTimeoutMs, maxBytes: maxBodyBytes, log });
  const handler = connectNodeAdapter({
    routes(router) {
      routes(unaryGrpc.noting(router));
      registerHealth(router, services, lifecycle);
      registerReflection(router, [...services, Health]);
    },
    requestGate: guard.gate,
    interceptors: [guard.interceptor],
    maxTimeoutMs,
    readMaxBytes: maxBodyBytes,
    jsonOptions,
    // Inside a cluster, compressing costs more than sending; at the edge, Envoy does it.
    compressMinBytes: 64 * 1024 * 1024,
    // The two libraries describe the same Node objects with types that differ in one callback.
    fallback: getRequestListener(rest.fetch) as NonNullable<Parameters<typeof connectNodeAdapter>[0]["fallback"]>,
  });
  const http1 = http.createServer(handler);
  const http2Server = http2.createServer({ settings: { maxConcurrentStreams: 1_000 } }, handler);
  const [serveStream] = http2Server.listeners("stream") as [(...event: Parameters<typeof unaryGrpc.serve>) => void];
  http2Server.removeAllListeners("stream");
  http2Server.on("stream", (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders, ...rest: []) => {
    if (!unaryGrpc.serve(stream, headers)) serveStream.call(http2Server, stream, headers, ...rest);
  });
  const sessions = new Set<http2.ServerHttp2Session>();
  http2Server.on("session", (session) => {
    sessions.add(session);
    session.on("close", () => sessions.delete(session));
    session.on("error", (error) => log.debug({ err: error }, "an HTTP/2 session broke"));
  });

  // The HTTP/1 server listens, so that closing it waits for its requests; connections that start with HTTP/2's preface go on to the other one.
  const [serveHttp1] = http1.listeners("connection") as [(socket: Socket) => void];
  http1.removeAllListeners("connection");
  http1.on("connection", (socket: Socket) => {
    socket.on("error", () => socket.destroy());
    const silent = setTimeout(() => socket.destroy(), 10_000);
    socket.once("close", () => clearTimeout(silent));
    const decide = () => {
      const head: Buffer | null = socket.read();
      if (head === null) {
        socket.once("readable", decide);
        return;
      }
      clearTimeout(silent);
      socket.unshift(head);
      // "PRI" begins HTTP/2's preface and no HTTP/1 method.
      if (head.toString("latin1", 0, 3) === "PRI") http2Server.emit("connection", socket);
      else serveHttp1.call(http1, socket);
    };
    socket.once("readable", decide);
  });
  await listen(http1, host, port);
  log.info({ host, port }, "listening");
  lifecycle.onClose("rpc server", async () => {
    const closed = closeServer(http1);
    // Streams that do not end by themselves (a reflection client that stays) are cut.
    const limit = setTimeout(() => {
      for (const session of sessions) session.destroy();
      http1.closeAllConnections();
    }, streamGraceMs);
    // Graceful: GOAWAY, then streams in flight finish.
    await Promise.all([...sessions].map((session) => new Promise<void>((resolve) => session.close(() => resolve()))));
    await closed;
    clearTimeout(limit);
  });
  return http1;
}

function registerHealth(router: ConnectRouter, services: DescService[], lifecycle: Lifecycle): void {
  const known = new Set(["", ...services.map((service) => service.typeName)]);
  const status = async () =>
    (await lifecycle.notReady()).length === 0 ? HealthCheckResponse_ServingStatus.SERVING : HealthCheckResponse_ServingStatus.NOT_SERVING;
  router.service(Health, {
    async check({ service }) {
      if (!known.has(service)) throw new ConnectError("There is no such service.", Code.NotFound);
      return { status: await status() };
    },
    async *watch({ service }, { signal }) {
      let last: HealthCheckResponse_ServingStatus | undefined;
      while (!signal.aborted) {
        const now = known.has(service) ? await status() : HealthCheckResponse_ServingStatus.SERVICE_UNKNOWN;
        if (now !== last) yield { status: now };
        last = now;
        await new Promise((resolve) => setTimeout(resolve, 1_000));
      }
    },
  });
}
