/**
 * Unary gRPC calls, straight from an HTTP/2 stream to the method and back. Connect leads every call through a dozen async
 * generators that are made for streams, which costs more than all else that a read does here. What is out of the ordinary
 * (streams, compression, JSON, other protocols) is Connect's still, and so are the pieces that this is made of.
 */
import http2 from "node:http2";
import { create, type DescMessage, type DescMethod, fromBinary, type Message, toBinary } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  createHandlerContext,
  createServiceImplSpec,
  type UnaryRequest,
  type UnaryResponse,
} from "@connectrpc/connect";
import { parseTimeout, setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import type { Logger } from "../log.ts";
import type { Guard } from "./server.ts";

type Unary = { method: DescMethod; call: (request: Message, context: ReturnType<typeof createHandlerContext>) => unknown };

export type UnaryGrpc = {
  /** The router, with the unary methods of what is registered on it noted. */
  noting(router: ConnectRouter): ConnectRouter;
  /** Answers a call; false where it is none that this can answer. */
  serve(stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders): boolean;
};

const { HTTP2_HEADER_PATH, HTTP2_HEADER_METHOD, HTTP2_HEADER_AUTHORITY, NGHTTP2_INTERNAL_ERROR, NGHTTP2_NO_ERROR } = http2.constants;
const contentTypes = new Set(["application/grpc", "application/grpc+proto"]);
/** Why contexts of calls end that went well. Without a reason, each would make an error with a stack that nobody reads. */
const ended = new Error("the call has ended");
/** One byte of flags and four of length stand before a message. */
const prefixBytes = 5;

export function createUnaryGrpc(options: { guard: Guard; maxTimeoutMs: number; maxBytes: number; log: Logger }): UnaryGrpc {
  const { guard, maxTimeoutMs, maxBytes, log } = options;
  const methods = new Map<string, Unary>();

  async function answer({ method, call }: Unary, stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders): Promise<void> {
    const gone = new AbortController();
    const timeout = parseTimeout(headerOf(headers, "grpc-timeout"), maxTimeoutMs);
    const context = createHandlerContext({
      ...{ service: method.parent, method, protocolName: "grpc", requestMethod: "POST" },
      url: `http://${headers[HTTP2_HEADER_AUTHORITY]}${headers[HTTP2_HEADER_PATH]}`,
      requestHeader: Object.entries(headers).flatMap(([name, value]): [string, string][] =>
        name.startsWith(":") || value === undefined ? [] : [[name, String(value)]],
      ),
      responseHeader: { "content-type": "application/grpc+proto" },
      responseTrailer: { "grpc-status": "0" },
      requestSignal: gone.signal,
      ...(timeout.timeoutMs !== undefined && { timeoutMs: timeout.timeoutMs }),
    });
    let isAnswered = false;
    stream.once("close", () => {
      if (!isAnswered) gone.abort(new ConnectError("the caller has gone away", Code.Canceled));
    });
    let frame: Uint8Array | undefined;
    try {
      await guard.gate(context);
      if (timeout.error) throw timeout.error;
      const message = parse(method.input, await read(stream, maxBytes));
      const next = async (request: { message: Message }) => ({
        ...{ stream: false as const, service: method.parent, method, header: context.responseHeader, trailer: context.responseTrailer },
        message: create(method.output, (await call(request.message, context)) as Message),
      });
      const request = {
        ...{ stream: false as const, service: method.parent, method, requestMethod: "POST", url: context.url, message },
        ...{ signal: context.signal, header: context.requestHeader, contextValues: context.values },
      };
      const response = await guard.interceptor(next as Parameters<Guard["interceptor"]>[0])(request as UnaryRequest);
      frame = toFrame(toBinary(method.output, (response as UnaryResponse).message));
      context.abort(ended);
    } catch (error) {
      const reason = error instanceof ConnectError ? error : new ConnectError("internal error", Code.Internal, undefined, undefined, error);
      // Tells the guard, which may add what the caller is to know.
      context.abort(reason);
      setTrailerStatus(context.responseTrailer, reason);
    }
    isAnswered = true;
    if (stream.closed) return;
    stream.once("wantTrailers", () => {
      stream.sendTrailers(Object.fromEntries(context.responseTrailer));
      // A call that is refused while it still comes in ends here. Node does it only where none of it was read.
      if (stream.readableFlowing && !stream.readableEnded) setImmediate(() => stream.close(NGHTTP2_NO_ERROR));
    });
    stream.respond({ ":status": 200, ...Object.fromEntries(context.responseHeader) }, { waitForTrailers: true });
    stream.end(frame);
  }

  return {
    noting(router) {
      const noting: ConnectRouter = {
        ...router,
        service(service, implementation, perService) {
          router.service(service, implementation, perService);
          for (const spec of Object.values(createServiceImplSpec(service, implementation).methods)) {
            if (spec.kind === "unary") methods.set(`/${service.typeName}/${spec.method.name}`, { method: spec.method, call: spec.impl });
          }
          return noting;
        },
      };
      return noting;
    },
    serve(stream, headers) {
      const unary = methods.get(headerOf(headers, HTTP2_HEADER_PATH) ?? "");
      if (!unary || headers[HTTP2_HEADER_METHOD] !== "POST" || !contentTypes.has(headerOf(headers, "content-type") ?? "")) return false;
      if ((headerOf(headers, "grpc-encoding") ?? "identity") !== "identity") return false;
      stream.on("error", (error) => log.debug({ err: error }, "a gRPC stream broke"));
      answer(unary, stream, headers).catch((error: unknown) => {
        log.error({ err: error, method: unary.method.name }, "a gRPC call could not be answered");
        stream.close(NGHTTP2_INTERNAL_ERROR);
      });
      return true;
    },
  };
}

function headerOf(headers: http2.IncomingHttpHeaders, name: string): string | null {
  const value = headers[name];
  return value === undefined ? null : String(value);
}

/** All bytes of a request. @throws ConnectError where there are more than `maxBytes`, or the caller goes away before the end. */
function read(stream: http2.ServerHttp2Stream, maxBytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    stream.on("data", (chunk: Buffer) => {
      size += chunk.byteLength;
      if (size <= maxBytes + prefixBytes) chunks.push(chunk);
      else reject(new ConnectError(`message size is larger than configured readMaxBytes ${maxBytes}`, Code.ResourceExhausted));
    });
    stream.once("end", () => resolve(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks)));
    stream.once("close", () => reject(new ConnectError("the caller has gone away", Code.Canceled)));
  });
}

/** The one message of a unary call. @throws ConnectError where there is none, more than one, or something else. */
function parse(schema: DescMessage, bytes: Buffer): Message {
  if (bytes.byteLength === 0) throw new ConnectError("protocol error: missing input message for unary method", Code.Unimplemented);
  const end = bytes.byteLength < prefixBytes ? undefined : prefixBytes + bytes.readUInt32BE(1);
  if (end === undefined || bytes.byteLength < end) throw new ConnectError("protocol error: incomplete message", Code.InvalidArgument);
  if (bytes.byteLength > end) throw new ConnectError("protocol error: received extra input message for unary method", Code.Unimplemented);
  if (bytes[0] !== 0) throw new ConnectError("protocol error: a compressed message without grpc-encoding", Code.InvalidArgument);
  try {
    return fromBinary(schema, bytes.subarray(prefixBytes));
  } catch (error) {
    // In Connect's words, which the guard knows.
    throw new ConnectError(`parse binary: ${error}`, Code.Internal);
  }
}

function toFrame(message: Uint8Array): Uint8Array {
  const frame = Buffer.allocUnsafe(prefixBytes + message.byteLength);
  frame[0] = 0;
  frame.writeUInt32BE(message.byteLength, 1);
  frame.set(message, prefixBytes);
  return frame;
}
