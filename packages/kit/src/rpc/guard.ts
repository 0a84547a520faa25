/**
 * What surrounds every RPC: it authenticates, authorises by the access table, validates by protovalidate, logs, and
 * turns every error into a ConnectError with google.rpc.ErrorInfo.
 */
import type { DescMessage, Message } from "@bufbuild/protobuf";
import { pathToString } from "@bufbuild/protobuf/reflect";
import { createValidator } from "@bufbuild/protovalidate";
import { Code, ConnectError, type ContextValues, createContextKey, type HandlerContext, type Interceptor } from "@connectrpc/connect";
import { type Span, SpanKind } from "@opentelemetry/api";
import { type AuditTrail, recordRefusal } from "../audit/trail.ts";
import { accessOf, type Scope } from "../auth/access.ts";
import { signedOutUntil } from "../auth/signed-out.ts";
import { authorize, type Caller, type Verifier } from "../auth/verifier.ts";
import { AppError, type ErrorCode, type FieldError, invalidFields, toAppError, toConnectError } from "../errors.ts";
import type { Logger } from "../log.ts";
import { measureRpc, requestIdFrom } from "../metrics.ts";
import { faultOfText } from "../plain-text.ts";
import type { RequestContext } from "../request-context.ts";
import { runWith } from "../telemetry/active.ts";
import { endRequest, type RequestTrace, startRequest } from "../telemetry/tracing.ts";
import { messageOf, undecodableJson } from "./messages.ts";

/** Who calls. Health checks and reflection have no caller. */
export const callerKey = createContextKey<Caller | undefined>(undefined, { description: "caller" });
const requestIdKey = createContextKey<string>("", { description: "request id" });
const traceKey = createContextKey<RequestTrace | undefined>(undefined, { description: "trace" });
/** The person for whom a service calls, by the verified token in `x-on-behalf-of`. */
const onBehalfOfKey = createContextKey<Caller | undefined>(undefined, { description: "on behalf of" });
const reportKey = createContextKey<Report | undefined>(undefined, { description: "reports the call" });

/** Who makes a call, and by which request. */
export function rpcContext({ values }: HandlerContext): RequestContext {
  return requestOf(values);
}

function requestOf(values: ContextValues): RequestContext {
  const actorId = values.get(onBehalfOfKey)?.id ?? values.get(callerKey)?.id ?? "anonymous";
  return { actorId, requestId: values.get(requestIdKey), traceparent: values.get(traceKey)?.traceparent ?? "" };
}

const openServices = new Set(["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"]);

/**
 * Methods that accept a second scope beside the one of the access table. Their handler decides what a caller with only
 * the second scope may see, for example by asking another service.
 */
type SecondScopes = ReadonlyMap<string, Scope>;

/** The gate runs before a message is read, so errors tell strangers nothing of its content; the interceptor after. */
export type Guard = { gate: (context: HandlerContext) => Promise<void>; interceptor: Interceptor };

export function createGuard(options: { log: Logger; verifier: Verifier; audit: AuditTrail; secondScopes?: SecondScopes }): Guard {
  const { log, verifier, audit, secondScopes } = options;

  const recorded = async (error: unknown, values: ContextValues, method: string) =>
    error instanceof AppError ? recordRefusal(audit, requestOf(values), method, error) : error;

  async function gate(context: HandlerContext): Promise<void> {
    const { values, requestHeader } = context;
    const requestId = requestIdFrom(requestHeader.get("x-request-id"));
    values.set(requestIdKey, requestId);
    context.responseHeader.set("x-request-id", requestId);
    if (openServices.has(context.service.typeName)) return;
    const trace = startRequest(requestHeader.get("traceparent"), SpanKind.SERVER);
    values.set(traceKey, trace);
    const report = startReport(context, requestId, trace, log);
    values.set(reportKey, report);
    // If something other than the handler fails (a deadline), the signal aborts with the error that is sent.
    context.signal.addEventListener("abort", () => {
      const { reason } = context.signal;
      if (!(reason instanceof ConnectError)) return;
      const reported = report(fromConnect(reason, context.method.input.typeName));
      if (!reported) return;
      Object.assign(reason, { code: reported.code, rawMessage: reported.rawMessage, details: [...reason.details, ...reported.details] });
    });
    const method = `${context.service.typeName}/${context.method.name}`;
    try {
      const access = accessOf(method);
      if (access === undefined) throw new AppError("internal", "This method is not in the access table.");
      const caller = await verifier.verify(requestHeader.get("authorization"));
      const onBehalfOf = requestHeader.get("x-on-behalf-of");
      if (onBehalfOf && caller.kind === "service") values.set(onBehalfOfKey, await verifier.verify(onBehalfOf));
      const second = secondScopes?.get(method);
      authorize(caller, second !== undefined && caller.scopes.has(second) ? second : access);
      values.set(callerKey, caller);
    } catch (error) {
      throw report(await recorded(error, values, method));
    }
  }

  const interceptor: Interceptor = (next) => async (request) => {
    const report = request.contextValues.get(reportKey);
    const span = request.contextValues.get(traceKey)?.span;
    if (!report || !span) return next(request);
    try {
      if (request.stream) {
        const callers = [request.contextValues.get(callerKey), request.contextValues.get(onBehalfOfKey)];
        const signal = AbortSignal.any([request.signal, signedOutUntil({ verifier, callers }, request.signal)]);
        const response = await next({ ...request, signal, message: validateEach(request.method.input, request.message) });
        return response.stream ? { ...response, message: reportAtEnd(within(span, response.message), signal, report) } : response;
      }
      validate(request.method.input, request.message);
      const response = await runWith(span, () => next(request));
      report();
      return response;
    } catch (error) {
      const answer = await recorded(error, request.contextValues, `${request.service.typeName}/${request.method.name}`);
      throw report(answer) ?? answer;
    }
  };

  return { gate, interceptor };
}

/** Reports that a call has ended, the first time it is called. Returns the error as the caller may read it. */
type Report = (error?: unknown) => ConnectError | undefined;

/** Logs and measures a call when it ends. */
function startReport(context: HandlerContext, requestId: string, trace: RequestTrace, log: Logger): Report {
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
    const system = context.protocolName === "grpc" ? "grpc" : "connectrpc";
    runWith(trace.span, () => {
      // Callers set their deadlines and know when one has passed, so that is no failure of ours.
      if (appError?.isFailure && appError.code !== "deadline_exceeded") log.error({ err: error, requestId, method }, "call failed");
      log.info({ requestId, method, status, ms: Math.round(milliseconds * 10) / 10 }, "call");
    });
    // gRPC and Connect write the same codes in two ways: CANCELLED and canceled.
    const code = system === "grpc" ? status.toUpperCase().replace("CANCELED", "CANCELLED") : status;
    measureRpc({ system, method, code }, { span: trace.span, seconds: milliseconds / 1_000 });
    const attributes = { "rpc.system.name": system, "rpc.method": method, "rpc.response.status_code": code };
    const metadata = { "rpc.request.metadata.x-request-id": [requestId] };
    endRequest(trace, method, { ...attributes, ...metadata }, appError?.isFailure ? code : undefined);
    return connectError;
  };
}

/** Makes messages as work of a span. Whoever asks for the next one does so outside of it. */
async function* within(span: Span, messages: AsyncIterable<Message>) {
  const iterator = messages[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = await runWith(span, () => iterator.next());
      if (next.done) return;
      yield next.value;
    }
  } finally {
    await runWith(span, () => iterator.return?.());
  }
}

/** A handler may simply end when its signal aborts. The caller must not take that for the end of a whole stream. */
async function* reportAtEnd(messages: AsyncIterable<Message>, signal: AbortSignal, report: Report) {
  try {
    for await (const message of messages) {
      signal.throwIfAborted();
      yield message;
    }
    signal.throwIfAborted();
  } catch (error) {
    const cause = signal.reason ?? error;
    throw report(cause) ?? cause;
  } finally {
    // Most streams end because their caller goes away, which leads here.
    report();
  }
}

const validator = createValidator();

function validate(schema: DescMessage, message: Message): void {
  const result = validator.validate(schema, message);
  if (result.kind === "error") throw result.error;
  const violations = result.kind === "invalid" ? result.violations : [];
  const errors = violations.map((violation) => ({ path: pathToString(violation.field), message: messageOf(violation) }));
  errors.push(...faultsOfTexts(schema, message, ""));
  if (errors.length > 0) throw invalidFields(errors);
}

/** The rules for text that people read hold for each text of a message, so that no proto file can forget a field. */
function faultsOfTexts(schema: DescMessage, message: Message, prefix: string): FieldError[] {
  return schema.fields.flatMap((field) => {
    const fields = message as unknown as Record<string, unknown>;
    const oneof = field.oneof && (fields[field.oneof.localName] as { case?: string; value?: unknown });
    const value = oneof ? (oneof.case === field.localName ? oneof.value : undefined) : fields[field.localName];
    return (Array.isArray(value) ? value : [value]).flatMap((one: unknown, index) => {
      const path = `${prefix}${field.name}${Array.isArray(value) ? `[${index}]` : ""}`;
      const fault = typeof one === "string" ? faultOfText(one) : undefined;
      if (fault !== undefined) return [{ path, message: fault }];
      return field.message && one ? faultsOfTexts(field.message, one as Message, `${path}.`) : [];
    });
  });
}

async function* validateEach(schema: DescMessage, messages: AsyncIterable<Message>) {
  try {
    for await (const message of messages) {
      validate(schema, message);
      yield message;
    }
  } catch (error) {
    throw error instanceof ConnectError ? fromConnect(error, schema.typeName) : error;
  }
}

/** Errors that Connect raises itself (an unreadable message, a deadline, too many bytes) are for the caller to read. */
function fromConnect(error: ConnectError, typeName: string): AppError {
  if (error.cause instanceof AppError) return error.cause;
  // Connect calls these internal, although only the caller can correct them.
  if (/^(parse binary:|decompression failed)/.test(error.rawMessage)) {
    const isText = error.rawMessage.includes("not valid for encoding utf-8");
    const message = isText ? "A text of the message is not UTF-8; send text as UTF-8." : `The message cannot be read as a ${typeName}.`;
    return new AppError("invalid_argument", message, { cause: error });
  }
  // A gateway whose caller goes away resets the stream, with whatever code.
  if (error.rawMessage.startsWith("http/2 stream closed")) return new AppError("cancelled", "The caller has gone away.", { cause: error });
  const undecodable = undecodableJson(error.rawMessage);
  if (undecodable) return undecodable;
  const code = codesOfConnect.get(error.code);
  return code ? new AppError(code, error.rawMessage, { cause: error }) : toAppError(error);
}

const codesOfConnect = new Map<Code, ErrorCode>([
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
