/**
 * The RPC side of a service: one port for everything. gRPC comes over HTTP/2 cleartext; gRPC-Web, Connect and Connect's
 * plain JSON come over HTTP/1.1 or HTTP/2; every other request goes to the REST app (health, metrics, pages).
 */
import http from "node:http";
import http2 from "node:http2";
import type { Socket } from "node:net";
import type { DescService } from "@bufbuild/protobuf";
import type { ConnectRouter } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { getRequestListener } from "@hono/node-server";
import { Health } from "@pm/proto/grpc/health/v1/health";
import { accessOf, isForServicesOnly } from "../auth/access.ts";
import { maxBodyBytes } from "../http/request-input.ts";
import type { RestApp } from "../http/rest.ts";
import { closeServer, listen } from "../http/server.ts";
import type { Lifecycle } from "../lifecycle.ts";
import type { Logger } from "../log.ts";
import { decodeJson } from "../text.ts";
import type { Guard } from "./guard.ts";
import { registerHealth } from "./health.ts";
import { registerReflection } from "./reflection.ts";
import { createUnaryGrpc, type UnaryGrpc } from "./unary.ts";
import { answerUnknownMethod } from "./unknown-method.ts";

/** How long calls and streams may go on after the port was closed. */
const streamGraceMs = 5_000;
/** How long a connection may send nothing before it has sent anything. */
const silenceMs = 10_000;
/** The longest deadline that a caller may set. */
const maxTimeoutMs = 3_600_000;

/** RPC reads JSON as REST does. Connect passes the decoder on, but its type does not name it. */
const jsonOptions = { ignoreUnknownFields: false, textDecoder: { decode: decodeJson } };

type Handler = (request: http.IncomingMessage, response: http.ServerResponse) => void;

/** Listens for gRPC, gRPC-Web, Connect and REST on one port, with reflection and grpc.health.v1. */
export async function listenRpc(options: {
  /** Registers the services. */
  routes: (router: ConnectRouter) => void;
  /** The same services, for health and, unless only services may call them, for reflection. */
  services: DescService[];
  rest: RestApp["app"];
  guard: Guard;
  host: string;
  port: number;
  log: Logger;
  lifecycle: Lifecycle;
}): Promise<http.Server> {
  const { routes, services, rest, guard, host, port, log, lifecycle } = options;
  const unaryGrpc = createUnaryGrpc({ guard, maxTimeoutMs, maxBytes: maxBodyBytes, log });
  const listener = getRequestListener(rest.fetch);
  const handler = connectNodeAdapter({
    routes(router) {
      routes(unaryGrpc.register(router));
      registerHealth(router, services, lifecycle);
      registerReflection(router, [...services.filter(isForCallers), Health]);
    },
    requestGate: guard.gate,
    interceptors: [guard.interceptor],
    maxTimeoutMs,
    readMaxBytes: maxBodyBytes,
    jsonOptions,
    // Inside a cluster, compressing costs more than sending; at the edge, Envoy compresses.
    compressMinBytes: 64 * 1024 * 1024,
    fallback(request, response) {
      // Node describes requests of HTTP/2 by other types, with the same members.
      const both = [request as http.IncomingMessage, response as http.ServerResponse] as const;
      if (!answerUnknownMethod(...both, log)) void listener(...both);
    },
  });
  const forHttp2 = createHttp2Server(handler as Handler, unaryGrpc, log);
  const http1 = createHttp1Server(handler as Handler, forHttp2.server);
  await listen(http1, host, port);
  log.info({ host, port }, "listening");
  lifecycle.onClose("rpc server", async () => {
    const closed = closeServer(http1);
    // Streams that do not end by themselves (of a reflection client that stays) are cut.
    const limit = setTimeout(() => {
      for (const session of forHttp2.sessions) session.destroy();
      http1.closeAllConnections();
    }, streamGraceMs);
    // Graceful: each session sends GOAWAY, then its streams in flight finish.
    await Promise.all([...forHttp2.sessions].map((session) => new Promise<void>((resolve) => session.close(() => resolve()))));
    await closed;
    clearTimeout(limit);
  });
  return http1;
}

function isForCallers({ typeName, methods }: DescService): boolean {
  return methods.some(({ name }) => {
    const access = accessOf(`${typeName}/${name}`);
    return access !== undefined && !isForServicesOnly(access);
  });
}

/** Answers unary gRPC calls itself, and leaves every other stream to Connect. It does not listen. */
function createHttp2Server(handler: Handler, unaryGrpc: UnaryGrpc, log: Logger) {
  const server = http2.createServer({ settings: { maxConcurrentStreams: 1_000 } }, handler as never);
  const [serveStream] = server.listeners("stream") as [(...event: Parameters<UnaryGrpc["serve"]>) => void];
  server.removeAllListeners("stream");
  server.on("stream", (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders, ...rest: []) => {
    if (!unaryGrpc.serve(stream, headers)) serveStream.call(server, stream, headers, ...rest);
  });
  const sessions = new Set<http2.ServerHttp2Session>();
  server.on("session", (session) => {
    sessions.add(session);
    session.on("close", () => sessions.delete(session));
    session.on("error", (error) => log.debug({ err: error }, "an HTTP/2 session broke"));
  });
  return { server, sessions };
}

/** The server that listens, so that closing it waits for its requests. It hands HTTP/2 connections to the other one. */
function createHttp1Server(handler: Handler, http2Server: http2.Http2Server): http.Server {
  const server = http.createServer(handler);
  const [serveHttp1] = server.listeners("connection") as [(socket: Socket) => void];
  server.removeAllListeners("connection");
  server.on("connection", (socket: Socket) => {
    socket.on("error", () => socket.destroy());
    const silent = setTimeout(() => socket.destroy(), silenceMs);
    socket.once("close", () => clearTimeout(silent));
    const decide = () => {
      const head: Buffer | null = socket.read();
      if (head === null) {
        socket.once("readable", decide);
        return;
      }
      clearTimeout(silent);
      socket.unshift(head);
      // "PRI" begins the preface of HTTP/2 and no method of HTTP/1.
      if (head.toString("latin1", 0, 3) === "PRI") http2Server.emit("connection", socket);
      else serveHttp1.call(server, socket);
    };
    socket.once("readable", decide);
  });
  return server;
}
