/**
 * The RPC side of a service: Connect on one port. gRPC comes over HTTP/2 cleartext; gRPC-Web, Connect and its plain JSON
 * come over HTTP/1.1 or HTTP/2; everything else goes to the REST app (health, metrics, pages).
 */
import http from "node:http";
import http2 from "node:http2";
import type { Socket } from "node:net";
import type { DescService, Message } from "@bufbuild/protobuf";
import { createValidator } from "@bufbuild/protovalidate";
import { Code, ConnectError, type ConnectRouter, createContextKey, type Interceptor } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { getRequestListener } from "@hono/node-server";
import { Health, HealthCheckResponse_ServingStatus } from "@pm/proto/grpc/health/v1/health";
import { accessOf } from "./access.ts";
import { authorize, type Caller, type Verifier } from "./auth.ts";
import { AppError, invalidFields, toAppError, toConnectError } from "./errors.ts";
import type { Lifetime } from "./lifetime.ts";
import type { Logger } from "./log.ts";
import { registerReflection } from "./reflection.ts";
import { closeServer, listen, maxBodyBytes, type RestApp } from "./rest.ts";
import { requestSeconds, traceparentFrom } from "./telemetry.ts";

/** Who calls; set for every method but health and reflection. */
export const callerKey = createContextKey<Caller | undefined>(undefined, { description: "caller" });
export const traceparentKey = createContextKey<string>("", { description: "traceparent" });
/** The token of the person for whom a service calls, from `x-on-behalf-of`, verified; undefined where there is none. */
export const onBehalfOfKey = createContextKey<Caller | undefined>(undefined, { description: "on behalf of" });

const openServices = new Set(["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"]);

/** Authenticates, authorises by the access table, validates by protovalidate, logs, and makes every error a ConnectError. */
export function createRpcInterceptor(options: { log: Logger; verifier: Verifier }): Interceptor {
  const { log, verifier } = options;
  const validator = createValidator();

  function validate(schema: Parameters<typeof validator.validate>[0], message: Message): void {
    const result = validator.validate(schema, message);
    if (result.kind === "invalid")
      throw invalidFields(
        result.violations.map((violation) => ({
          path: String(violation.field.length > 0 ? fieldPath(violation) : ""),
          message: violation.message,
        })),
      );
    if (result.kind === "error") throw result.error;
  }

  return (next) => async (request) => {
    const started = performance.now();
    const method = `${request.service.typeName}/${request.method.name}`;
    const isOpen = openServices.has(request.service.typeName);
    let status = "ok";
    try {
      request.contextValues.set(traceparentKey, traceparentFrom(request.header.get("traceparent")));
      if (!isOpen) {
        const access = accessOf(method);
        if (access === undefined) throw new AppError("internal", "This method is not in the access table.");
        const caller = await verifier.verify(request.header.get("authorization"));
        const onBehalfOf = request.header.get("x-on-behalf-of");
        if (onBehalfOf && caller.kind === "service") request.contextValues.set(onBehalfOfKey, await verifier.verify(onBehalfOf));
        if (!callerDecides.has(method)) authorize(caller, access);
        request.contextValues.set(callerKey, caller);
        if (!request.stream) validate(request.method.input, request.message);
      }
      return await next(request);
    } catch (error) {
      const connectError = error instanceof ConnectError && error.cause === undefined && isOpen ? error : toConnectError(fromRpc(error));
      status = Code[connectError.code].toLowerCase();
      if (connectError.code === Code.Internal || connectError.code === Code.Unavailable) log.error({ err: error, method }, "call failed");
      throw connectError;
    } finally {
      const milliseconds = performance.now() - started;
      if (!isOpen) {
        requestSeconds.observe({ protocol: "rpc", operation: request.method.name, status }, milliseconds / 1_000);
        log.info({ method, status, ms: Math.round(milliseconds * 10) / 10 }, "call");
      }
    }
  };
}

/** Methods whose handler decides by more than a scope (for example by what another service says). It must authorise itself. */
export const callerDecides = new Set<string>();

/** Connect's own errors about the request (unreadable message, unknown method) are the caller's to read. */
function fromRpc(error: unknown): AppError {
  if (error instanceof ConnectError && error.cause === undefined && error.code === Code.InvalidArgument)
    return new AppError("invalid_argument", error.rawMessage);
  return toAppError(error);
}

function fieldPath(violation: { field: readonly unknown[] }): string {
  return violation.field
    .map((step) =>
      typeof step === "object" && step !== null && "name" in step
        ? `.${String(step.name)}`
        : typeof step === "object" && step !== null && "index" in step
          ? `[${String(step.index)}]`
          : "",
    )
    .join("")
    .replace(/^\./, "");
}

export type RpcServerOptions = {
  /** Registers the services; the same services are described by reflection. */
  routes: (router: ConnectRouter) => void;
  services: DescService[];
  rest: RestApp["app"];
  interceptor: Interceptor;
  host: string;
  port: number;
  log: Logger;
  lifetime: Lifetime;
};

/** Listens for gRPC, gRPC-Web, Connect and REST on one port, with reflection and grpc.health.v1. */
export async function listenRpc(options: RpcServerOptions): Promise<http.Server> {
  const { routes, services, rest, interceptor, host, port, log, lifetime } = options;
  const handler = connectNodeAdapter({
    routes(router) {
      routes(router);
      registerHealth(router, services, lifetime);
      registerReflection(router, [...services, Health]);
    },
    interceptors: [interceptor],
    // A caller that sends no deadline still gets an answer or an error within this time; streams end themselves.
    maxTimeoutMs: 3_600_000,
    readMaxBytes: maxBodyBytes,
    // The two libraries describe the same Node objects with types that differ in one callback.
    fallback: getRequestListener(rest.fetch) as NonNullable<Parameters<typeof connectNodeAdapter>[0]["fallback"]>,
  });
  const http1 = http.createServer(handler);
  const http2Server = http2.createServer({ settings: { maxConcurrentStreams: 1_000 } }, handler);
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
  lifetime.onClose("rpc server", async () => {
    const closed = closeServer(http1);
    // Graceful: GOAWAY, then streams in flight finish.
    await Promise.all([...sessions].map((session) => new Promise<void>((resolve) => session.close(() => resolve()))));
    await closed;
  });
  return http1;
}

function registerHealth(router: ConnectRouter, services: DescService[], lifetime: Lifetime): void {
  const known = new Set(["", ...services.map((service) => service.typeName)]);
  const status = async () =>
    (await lifetime.notReady()).length === 0 ? HealthCheckResponse_ServingStatus.SERVING : HealthCheckResponse_ServingStatus.NOT_SERVING;
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
