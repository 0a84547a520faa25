/** The HTTP/1.1 server of a service. */
import { randomUUID } from "node:crypto";
import { createServer, type Server } from "node:http";
import type { Duplex } from "node:stream";
import { getRequestListener } from "@hono/node-server";
import type { Lifecycle } from "../lifecycle.ts";
import type { Logger } from "../log.ts";
import type { RestApp } from "./rest.ts";

/**
 * Listens. When the lifecycle ends, it stops listening, lets requests in flight finish, then closes idle connections.
 */
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

export function listen(server: Server, host: string, port: number): Promise<void> {
  // Envoy closes idle connections after 60 s. Ours stay open longer, or Envoy would send a request into a closing one.
  server.keepAliveTimeout = 75_000;
  server.headersTimeout = 80_000;
  // An import may take longer than the five minutes that Node allows a whole request. The gateway ends silent ones.
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

/** Answers what is not HTTP, or has more headers than Node reads, with a problem, as every other wrong request. */
function refuseMalformed(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (!socket.writable || error.code === "ECONNRESET") {
    socket.destroy();
    return;
  }
  const [status, reason, detail] =
    error.code === "HPE_HEADER_OVERFLOW"
      ? [431, "Request Header Fields Too Large", "The headers and the path together are larger than 16 KiB."]
      : [400, "Bad Request", "The request is not valid HTTP."];
  const requestId = randomUUID();
  const body = JSON.stringify({ type: "about:blank", title: "Invalid request", status, detail, code: "invalid_argument", requestId });
  const type = `content-type: application/problem+json\r\ncontent-length: ${Buffer.byteLength(body)}`;
  const head = `HTTP/1.1 ${status} ${reason}\r\nconnection: close\r\nx-request-id: ${requestId}\r\n${type}`;
  socket.end(`${head}\r\n\r\n${body}`);
}

export function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeIdleConnections();
  });
}
