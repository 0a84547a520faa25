/**
 * Unary gRPC calls, straight from an HTTP/2 stream to the method and back (docs/decisions/0008-unary-grpc.md). Connect
 * leads every call through a dozen async generators that are made for streams, which costs more than the rest of a read
 * together. Connect still answers what is rare (streams, compression, JSON, other protocols), and this uses its pieces.
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
import type { Guard } from "./guard.ts";

type HandlerContextWithAbort = ReturnType<typeof createHandlerContext>;
type Unary = { method: DescMethod; call: (request: Message, context: HandlerContextWithAbort) => unknown };

export type UnaryGrpc = {
  /** Wraps a router: unary methods of services that are registered on it are answered by `serve`. */
  register(router: ConnectRouter): ConnectRouter;
  /** Answers a call. Returns false for a stream that it cannot answer. */
  serve(stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders): boolean;
};

type Options = { guard: Guard; maxTimeoutMs: number; maxBytes: number; log: Logger };

const { HTTP2_HEADER_PATH, HTTP2_HEADER_METHOD, HTTP2_HEADER_AUTHORITY, NGHTTP2_INTERNAL_ERROR, NGHTTP2_NO_ERROR } = http2.constants;
const contentTypes = new Set(["application/grpc", "application/grpc+proto"]);
/**
 * Abort reason for successful calls. It is shared, because building an error with a stack trace per call is expensive.
 */
const ended = new Error("the call has ended");
/** A message is preceded by one byte of flags and four bytes of length. */
const prefixBytes = 5;

export function createUnaryGrpc(options: Options): UnaryGrpc {
  const { log } = options;
  const methods = new Map<string, Unary>();
  return {
    register(router) {
      const wrapped: ConnectRouter = {
        ...router,
        service(service, implementation, perService) {
          router.service(service, implementation, perService);
          for (const spec of Object.values(createServiceImplSpec(service, implementation).methods)) {
            if (spec.kind === "unary") methods.set(`/${service.typeName}/${spec.method.name}`, { method: spec.method, call: spec.impl });
          }
          return wrapped;
        },
      };
      return wrapped;
    },
    serve(stream, headers) {
      const unary = methods.get(headerOf(headers, HTTP2_HEADER_PATH) ?? "");
      if (!unary || headers[HTTP2_HEADER_METHOD] !== "POST" || !contentTypes.has(headerOf(headers, "content-type") ?? "")) return false;
      if ((headerOf(headers, "grpc-encoding") ?? "identity") !== "identity") return false;
      stream.on("error", (error) => log.debug({ err: error }, "a gRPC stream broke"));
      answer(unary, stream, headers, options).catch((error: unknown) => {
        log.error({ err: error, method: unary.method.name }, "a gRPC call could not be answered");
        stream.close(NGHTTP2_INTERNAL_ERROR);
      });
      return true;
    },
  };
}

async function answer(unary: Unary, stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders, options: Options): Promise<void> {
  const { method } = unary;
  const gone = new AbortController();
  const timeout = parseTimeout(headerOf(headers, "grpc-timeout"), options.maxTimeoutMs);
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
    await options.guard.gate(context);
    if (timeout.error) throw timeout.error;
    const message = parse(method.input, await read(stream, options.maxBytes));
    frame = toFrame(toBinary(method.output, await call(unary, message, context, options.guard)));
    context.abort(ended);
  } catch (error) {
    const reason = error instanceof ConnectError ? error : new ConnectError("internal error", Code.Internal, undefined, undefined, error);
    // The guard listens for this and may add details for the caller.
    context.abort(reason);
    setTrailerStatus(context.responseTrailer, reason);
  }
  isAnswered = true;
  if (stream.closed) return;
  stream.once("wantTrailers", () => {
    stream.sendTrailers(Object.fromEntries(context.responseTrailer));
    // Ends a call that is refused while its request still arrives. Node does so only if none of the request was read.
    if (stream.readableFlowing && !stream.readableEnded) setImmediate(() => stream.close(NGHTTP2_NO_ERROR));
  });
  stream.respond({ ":status": 200, ...Object.fromEntries(context.responseHeader) }, { waitForTrailers: true });
  stream.end(frame);
}

/** Calls the method through the guard's interceptor, as Connect would. */
async function call({ method, call }: Unary, message: Message, context: HandlerContextWithAbort, guard: Guard): Promise<Message> {
  const both = { stream: false as const, service: method.parent, method };
  const next = async (request: { message: Message }) => ({
    ...{ ...both, header: context.responseHeader, trailer: context.responseTrailer },
    message: create(method.output, (await call(request.message, context)) as Message),
  });
  const request = {
    ...{ ...both, requestMethod: "POST", url: context.url, message },
    ...{ signal: context.signal, header: context.requestHeader, contextValues: context.values },
  };
  const response = await guard.interceptor(next as Parameters<Guard["interceptor"]>[0])(request as UnaryRequest);
  return (response as UnaryResponse).message;
}

function headerOf(headers: http2.IncomingHttpHeaders, name: string): string | null {
  const value = headers[name];
  return value === undefined ? null : String(value);
}

/**
 * All bytes of a request.
 * @throws ConnectError if there are more than `maxBytes`, or if the caller goes away before the end
 */
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

/** The one message of a unary call. @throws ConnectError if there is none, more than one, or something else */
function parse(schema: DescMessage, bytes: Buffer): Message {
  if (bytes.byteLength === 0) throw new ConnectError("protocol error: missing input message for unary method", Code.Unimplemented);
  const end = bytes.byteLength < prefixBytes ? undefined : prefixBytes + bytes.readUInt32BE(1);
  if (end === undefined || bytes.byteLength < end) throw new ConnectError("protocol error: incomplete message", Code.InvalidArgument);
  if (bytes.byteLength > end) throw new ConnectError("protocol error: received extra input message for unary method", Code.Unimplemented);
  if (bytes[0] !== 0) throw new ConnectError("protocol error: a compressed message without grpc-encoding", Code.InvalidArgument);
  try {
    return fromBinary(schema, bytes.subarray(prefixBytes));
  } catch (error) {
    // The guard recognizes these words of Connect.
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
