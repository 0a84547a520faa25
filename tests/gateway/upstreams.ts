/**
 * What stands behind the gateway in its tests: small servers that answer what reached them. They take no part in what the
 * services do; they only show what Envoy lets through, to whom, and in which shape. The keys and tokens are real ones.
 */
import http from "node:http";
import http2 from "node:http2";
import type { AddressInfo, Socket } from "node:net";
import type { ConnectRouter } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { BillingService } from "@pm/proto/billing/v1/billing";
import { Health, HealthCheckResponse_ServingStatus } from "@pm/proto/grpc/health/v1/health";
import { exportJWK, generateKeyPair, type JWK, SignJWT } from "jose";

/** A request as it reached a server. */
export type Arrival = {
  service: string;
  method: string;
  path: string;
  /** `1.1` or `2.0`. */
  httpVersion: string;
  headers: Record<string, string | string[] | undefined>;
  bodyBytes: number;
};

type Request = http.IncomingMessage | http2.Http2ServerRequest;
type Answer = http.ServerResponse | http2.Http2ServerResponse;
/** Answers a request in a test's own way; false leaves it to the echo. */
export type Handler = (request: Request, answer: Answer) => boolean | Promise<boolean>;

export type Upstream = {
  port: number;
  /** Called before the echo; tests replace it. */
  handler: Handler;
  /** Stops listening and cuts what is open, as a crash would. */
  stop(): Promise<void>;
  /** Listens again, on the same port. */
  start(): Promise<void>;
};

/** Starts a server that answers every request with its `Arrival` as JSON. It speaks HTTP/1.1 and cleartext HTTP/2. */
export async function startUpstream(service: string): Promise<Upstream> {
  const upstream: Upstream = { port: 0, handler: () => false, stop, start };

  async function echo(request: Request, answer: Answer): Promise<void> {
    if (await upstream.handler(request, answer)) return;
    let bodyBytes = 0;
    for await (const chunk of request) bodyBytes += (chunk as Buffer).length;
    const { method = "", url: path = "", httpVersion, headers } = request;
    const arrival: Arrival = { service, method, path, httpVersion, headers, bodyBytes };
    answer.setHeader("content-type", "application/json");
    answer.end(JSON.stringify(arrival));
  }

  const listener = connectNodeAdapter({ routes, fallback: (request: Request, answer: Answer) => void echo(request, answer) });
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
      // "PRI" begins HTTP/2's preface and no HTTP/1 method.
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

/** Billing's methods, answering what they were told about the caller. */
function routes(router: ConnectRouter): void {
  router.service(Health, { check: () => ({ status: HealthCheckResponse_ServingStatus.SERVING }) });
  router.service(BillingService, {
    createBillingAccount: ({ patientId }, { requestHeader, responseHeader }) => {
      for (const name of ["authorization", "x-user-id", "x-request-id", "content-type"]) {
        responseHeader.set(`seen-${name}`, requestHeader.get(name) ?? "");
      }
      return { accountId: `account of ${patientId}`, status: "ACTIVE" };
    },
  });
}

export const issuer = "http://localhost:4004";
export const audience = "patient-management";

export type SigningKey = { id: string; publicJwk: JWK; privateKey: CryptoKey };

export async function createSigningKey(id: string): Promise<SigningKey> {
  const { publicKey, privateKey } = await generateKeyPair("ES256");
  return { id, privateKey, publicJwk: { ...(await exportJWK(publicKey)), kid: id, alg: "ES256", use: "sig" } };
}

export type TokenOptions = { issuer?: string; audience?: string; expiresAt?: number; subject?: string; keyId?: string };

/** Signs an access token as auth does; `options` makes it wrong in one way. */
export function signToken(key: SigningKey, options: TokenOptions = {}): Promise<string> {
  const now = Math.floor(Date.now() / 1_000);
  return new SignJWT({ sid: "session-1", roles: ["admin", "billing"], scope: "patient:read patient:write" })
    .setProtectedHeader({ alg: "ES256", typ: "at+jwt", kid: options.keyId ?? key.id })
    .setIssuer(options.issuer ?? issuer)
    .setAudience(options.audience ?? audience)
    .setSubject(options.subject ?? "user-1")
    .setJti(crypto.randomUUID())
    .setIssuedAt(now)
    .setExpirationTime(options.expiresAt ?? now + 300)
    .sign(key.privateKey);
}

/** Makes a server answer as auth's key endpoint, with whatever keys the list has at that moment. */
export function publishKeys(auth: Upstream, keys: SigningKey[]): void {
  auth.handler = (request, answer) => {
    if (request.url !== "/.well-known/jwks.json") return false;
    answer.setHeader("content-type", "application/json");
    answer.end(JSON.stringify({ keys: keys.map((key) => key.publicJwk) }));
    return true;
  };
}
