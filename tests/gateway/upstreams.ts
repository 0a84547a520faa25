/**
 * Small servers behind the gateway in its tests. They answer with the request that reached them, so that a test sees
 * what Envoy lets through, to which service, and in which form.
 */
import { once } from "node:events";
import http from "node:http";
import http2 from "node:http2";
import type { AddressInfo, Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import type { ConnectRouter } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { BillingService } from "@pm/proto/billing/v1/billing";
import { Health, HealthCheckResponse_ServingStatus } from "@pm/proto/grpc/health/v1/health";
import { ServerReflection } from "@pm/proto/grpc/reflection/v1/reflection";

/** A request in the form in which it reached a server. */
export type Arrival = {
  service: string;
  method: string;
  path: string;
  /** `1.1` or `2.0`. */
  httpVersion: string;
  headers: Record<string, string | string[] | undefined>;
  bodyBytes: number;
};

/** A test's own answer to a request. If it returns false, the server answers with the request. */
type Handler = (request: http.IncomingMessage, answer: http.ServerResponse) => boolean | Promise<boolean>;

export type Upstream = {
  port: number;
  /** Called before the server answers. Tests replace it. */
  handler: Handler;
  /** Stops listening and cuts open connections, as a crash would. */
  stop(): Promise<void>;
  /** Listens again on the same port. */
  start(): Promise<void>;
};

/** Starts a server that answers every request with its `Arrival` as JSON. It speaks HTTP/1.1 and cleartext HTTP/2. */
export async function startUpstream(service: string): Promise<Upstream> {
  const upstream: Upstream = { port: 0, handler: () => false, stop, start };

  async function echo(request: http.IncomingMessage, answer: http.ServerResponse): Promise<void> {
    if (await upstream.handler(request, answer)) return;
    let bodyBytes = 0;
    try {
      for await (const chunk of request) bodyBytes += (chunk as Buffer).length;
    } catch {
      // The gateway has ended the request.
      return;
    }
    const { method = "", url: path = "", httpVersion, headers } = request;
    const arrival: Arrival = { service, method, path, httpVersion, headers, bodyBytes };
    answer.setHeader("content-type", "application/json");
    answer.end(JSON.stringify(arrival));
  }

  const listener = connectNodeAdapter({
    routes,
    // As our services have it: a longer deadline is refused.
    maxTimeoutMs: 3_600_000,
    // The requests and answers of HTTP/2 have everything that the echo uses.
    fallback: (request, answer) => void echo(request as http.IncomingMessage, answer as http.ServerResponse),
  });
  const http1 = http.createServer({ keepAliveTimeout: 75_000 }, listener);
  const http2Server = http2.createServer(listener);
  const sockets = new Set<Socket>();
  const [serveHttp1] = http1.listeners("connection") as [(socket: Socket) => void];
  http1.removeAllListeners("connection");
  http1.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => socket.destroy());
    socket.once("readable", () => {
      const head: Buffer | null = socket.read();
      if (head === null) return;
      socket.unshift(head);
      // HTTP/2's preface begins with "PRI", and no HTTP/1 method does.
      if (head.toString("latin1", 0, 3) === "PRI") http2Server.emit("connection", socket);
      else serveHttp1.call(http1, socket);
    });
  });

  function start(): Promise<void> {
    return new Promise((resolve, reject) => {
      http1.once("error", reject);
      http1.listen(upstream.port, "127.0.0.1", () => {
        http1.off("error", reject);
        upstream.port = (http1.address() as AddressInfo).port;
        resolve();
      });
    });
  }

  function stop(): Promise<void> {
    for (const socket of sockets) socket.destroy();
    return new Promise((resolve) => http1.close(() => resolve()));
  }

  await start();
  return upstream;
}

/** A few of billing's methods. They answer with what they know about the caller, or stream until the caller leaves. */
function routes(router: ConnectRouter): void {
  router.service(Health, {
    check: () => ({ status: HealthCheckResponse_ServingStatus.SERVING }),
    async *watch(_, { signal }) {
      yield { status: HealthCheckResponse_ServingStatus.SERVING };
      await once(signal, "abort");
    },
  });
  router.service(ServerReflection, {
    async *serverReflectionInfo(questions) {
      for await (const _ of questions) yield { messageResponse: { case: "listServicesResponse", value: { service: [] } } };
    },
  });
  router.service(BillingService, {
    createBillingAccount: ({ patientId }, { requestHeader, responseHeader }) => {
      for (const name of ["authorization", "x-user-id", "content-type"]) responseHeader.set(`seen-${name}`, requestHeader.get(name) ?? "");
      return { accountId: `account of ${patientId}`, status: "ACTIVE" };
    },
    async *watchAccount({ accountId }, { signal }) {
      yield { account: { accountId } };
      await once(signal, "abort");
    },
    async *streamStatement() {
      // More than the 15 seconds in which other answers are complete. Its client may have asked for less.
      yield { statement: { transactionCount: 2n } };
      yield { transactions: [{ sequence: 1n }] };
      await delay(16_000);
      yield { transactions: [{ sequence: 2n }] };
    },
  });
}
