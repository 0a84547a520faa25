/**
 * Calls to other services by gRPC. A pod that vanishes closes no connection: the kernel waits for a quarter of an hour
 * for its answers, and for two minutes for a new connection.
 */
import { constants } from "node:http2";
import { connect, type Socket } from "node:net";
import type { Transport } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { traceCalls } from "../telemetry/calls.ts";

const connectTimeoutMs = 2_000;

/**
 * For the client of a service at this URL. A connection on which a call has ended without its answer, mostly at its
 * deadline, gets no further calls: the next one opens another.
 */
export function transportTo(baseUrl: string): Transport {
  // With TLS, Node connects in its own way.
  const sessions = new Http2SessionManager(baseUrl, {}, baseUrl.startsWith("http:") ? { createConnection } : {});
  // Pings would notice the same, but those of Connect 2.2 may throw in a timer, which ends the process.
  const sessionManager: Parameters<typeof createGrpcTransport>[0]["sessionManager"] = {
    authority: sessions.authority,
    notifyResponseByteRead: (stream) => sessions.notifyResponseByteRead(stream),
    async request(...request) {
      const stream = await sessions.request(...request);
      const { session } = stream;
      // Once another has replaced it, Connect no longer listens to its errors.
      session?.off("error", ignore).on("error", ignore);
      return stream.once("close", () => {
        if (stream.rstCode !== constants.NGHTTP2_NO_ERROR) session?.close();
      });
    },
  };
  return createGrpcTransport({ baseUrl, interceptors: [traceCalls], sessionManager });
}

const ignore = () => undefined;

function createConnection({ hostname, port }: URL): Socket {
  const host = hostname.replace(/^\[(.+)\]$/, "$1");
  const socket = connect({ host, port: Number(port || 80), timeout: connectTimeoutMs });
  const giveUp = () => socket.destroy(Object.assign(new Error(`no connection within ${connectTimeoutMs} ms`), { code: "ETIMEDOUT" }));
  socket.once("timeout", giveUp);
  return socket.once("connect", () => {
    socket.setTimeout(0);
    socket.off("timeout", giveUp);
  });
}
