/**
 * Calls of methods that do not exist. Connect leaves them to the REST app, whose 404 has no status that a client of
 * gRPC reads. Here they are answered in the caller's protocol.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { codeToHttpStatus, endStreamFlag, endStreamToJson, errorToJson } from "@connectrpc/connect/protocol-connect";
import { setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import { AppError, toConnectError } from "../errors.ts";
import type { Logger } from "../log.ts";
import { requestIdFrom } from "../metrics.ts";

/** `/billing.v1.BillingService/GetInvoice`. No path of REST begins with a name that has dots. */
const pathOfMethod = /^\/(?:\w+\.)+\w+\/\w+$/;

/** Answers a call of RPC. Returns false for every other request. */
export function answerUnknownMethod(request: IncomingMessage, response: ServerResponse, log: Logger): boolean {
  const type = request.headers["content-type"] ?? "";
  const protocol = protocolOf(type);
  if (!protocol || request.method !== "POST" || !pathOfMethod.test(request.url ?? "")) return false;
  const requestId = requestIdFrom(request.headers["x-request-id"]?.toString());
  log.info({ requestId, method: "unknown", status: "unimplemented" }, "call");
  const error = toConnectError(new AppError("unimplemented", "There is no such method here."));
  const headers = { "content-type": type, "x-request-id": requestId };
  const status = new Headers();
  setTrailerStatus(status, error);
  request.resume();
  if (protocol === "grpc") {
    response.writeHead(200, headers);
    response.addTrailers(Object.fromEntries(status));
    response.end();
  } else if (protocol === "grpc-web") {
    // Without a message, the headers are the trailers.
    response.writeHead(200, { ...headers, ...Object.fromEntries(status) }).end();
  } else if (protocol === "connect stream") {
    response.writeHead(200, headers).end(endOfStream(JSON.stringify(endStreamToJson(new Headers(), error, undefined))));
  } else {
    const body = JSON.stringify(errorToJson(error, undefined));
    response.writeHead(codeToHttpStatus(error.code), { ...headers, "content-type": "application/json" }).end(body);
  }
  return true;
}

function protocolOf(type: string): "grpc" | "grpc-web" | "connect stream" | "connect" | undefined {
  if (type.startsWith("application/grpc-web")) return "grpc-web";
  if (type.startsWith("application/grpc")) return "grpc";
  if (type.startsWith("application/connect+")) return "connect stream";
  return /^application\/(json|proto)\b/.test(type) ? "connect" : undefined;
}

/** One byte of flags, four bytes of length, and the message. */
function endOfStream(message: string): Buffer {
  const bytes = Buffer.from(message);
  const head = Buffer.alloc(5);
  head[0] = endStreamFlag;
  head.writeUInt32BE(bytes.byteLength, 1);
  return Buffer.concat([head, bytes]);
}
