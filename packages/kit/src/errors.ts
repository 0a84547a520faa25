/**
 * One error type, one table, two translators. The message of an AppError is for the caller and names the field and the
 * fix; its cause is for the log. Every other error is answered as "internal error", over REST and RPC.
 */
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "@pm/proto/google/rpc/error_details";

/** Codes are those of gRPC; the last ones exist because HTTP distinguishes them. `title` is the one of RFC 9457. */
const codes = {
  invalid_argument: { status: 400, connect: Code.InvalidArgument, title: "Invalid request" },
  unauthenticated: { status: 401, connect: Code.Unauthenticated, title: "Not signed in" },
  permission_denied: { status: 403, connect: Code.PermissionDenied, title: "Not allowed" },
  not_found: { status: 404, connect: Code.NotFound, title: "Not found" },
  already_exists: { status: 409, connect: Code.AlreadyExists, title: "Already exists" },
  failed_precondition: { status: 409, connect: Code.FailedPrecondition, title: "Not possible in this state" },
  aborted: { status: 412, connect: Code.Aborted, title: "Changed by somebody else" },
  precondition_failed: { status: 412, connect: Code.FailedPrecondition, title: "A condition of the request does not hold" },
  resource_exhausted: { status: 429, connect: Code.ResourceExhausted, title: "Too many requests" },
  cancelled: { status: 499, connect: Code.Canceled, title: "Cancelled by the caller" },
  deadline_exceeded: { status: 504, connect: Code.DeadlineExceeded, title: "Took too long" },
  unavailable: { status: 503, connect: Code.Unavailable, title: "Temporarily unavailable" },
  unimplemented: { status: 501, connect: Code.Unimplemented, title: "Not implemented" },
  internal: { status: 500, connect: Code.Internal, title: "Internal error" },
  method_not_allowed: { status: 405, connect: Code.Unimplemented, title: "Method not allowed" },
  not_acceptable: { status: 406, connect: Code.InvalidArgument, title: "Not acceptable" },
  request_timeout: { status: 408, connect: Code.DeadlineExceeded, title: "Took too long to arrive" },
  gone: { status: 410, connect: Code.NotFound, title: "Gone" },
  payload_too_large: { status: 413, connect: Code.ResourceExhausted, title: "Body too large" },
  unsupported_media_type: { status: 415, connect: Code.InvalidArgument, title: "Unsupported media type" },
  unprocessable: { status: 422, connect: Code.InvalidArgument, title: "Cannot be stored" },
  idempotency_key_reused: { status: 422, connect: Code.AlreadyExists, title: "Idempotency key used for another request" },
  precondition_required: { status: 428, connect: Code.FailedPrecondition, title: "Precondition required" },
} as const satisfies Record<string, { status: number; connect: Code; title: string }>;

export type ErrorCode = keyof typeof codes;

export const isErrorCode = (code: string): code is ErrorCode => Object.hasOwn(codes, code);

/** The HTTP status of a code, for types of routes. */
export type StatusOf<ErrorCodes extends ErrorCode> = (typeof codes)[ErrorCodes]["status"];

/** The `domain` of every google.rpc.ErrorInfo of this platform. */
const errorDomain = "patient-management";

/** One wrong field: `path` as the caller wrote it (`address.zipCode`, `items[3].email`), `message` with the fix. */
export type FieldError = { path: string; message: string };

/** The path of a field within the one at `path`: the name of a field, or the place in a list. */
export function stepTo(path: string, step: PropertyKey): string {
  if (typeof step === "number") return `${path}[${step}]`;
  return path === "" ? String(step) : `${path}.${String(step)}`;
}

/** A field by the names and places that lead to it: `identifiers[0].value`. */
export const fieldPath = (steps: readonly PropertyKey[]): string => steps.reduce<string>(stepTo, "");

type AppErrorOptions = {
  /** For the log only. */
  cause?: unknown;
  /** Every wrong field. */
  errors?: FieldError[];
  /** For programs: UPPER_SNAKE_CASE (AIP-193). By default the code in upper case. */
  reason?: string;
  /** For programs: no personal data. */
  metadata?: Record<string, string>;
  /** Seconds after which another try makes sense: `Retry-After` and google.rpc.RetryInfo. */
  retryAfterSeconds?: number;
  /** More members of the problem (RFC 9457), for the caller only. */
  members?: Record<string, unknown>;
  /** More headers of the HTTP answer. */
  headers?: Record<string, string>;
  /**
   * For the audit trail only: who was refused, if the request does not say it, and the id of what they asked for. With
   * a subject, a 404 is recorded. Give it for missing records too, or the time of an answer shows which ones exist.
   */
  refused?: { actorId?: string; subject?: string };
};

/** An error that the caller may read. */
export class AppError extends Error {
  override readonly name = "AppError";
  readonly code: ErrorCode;
  readonly options: AppErrorOptions;

  constructor(code: ErrorCode, message: string, options: AppErrorOptions = {}) {
    super(message, { cause: options.cause });
    this.code = code;
    this.options = options;
  }

  get status(): StatusOf<ErrorCode> {
    return codes[this.code].status;
  }

  /** What kind of error it is, in words: the same for all errors of a code. */
  get title(): string {
    return codes[this.code].title;
  }

  /** Whether an operator should look: not at a caller's mistake, nor at what is refused on purpose, as in a flood. */
  get isFailure(): boolean {
    return this.code === "internal" || (this.status >= 500 && this.cause !== undefined);
  }
}

/** Callers choose number and names of wrong fields. Both are bounded, so that no error is larger than its request. */
const maxErrors = 20;
const maxPathLength = 200;

/**
 * An invalid_argument error that names every wrong field, up to twenty. The message names the first, for clients that
 * show nothing else.
 */
export function invalidFields(wrong: FieldError[]): AppError {
  const errors = wrong.slice(0, maxErrors).map(({ path, message }) => ({ path: path.slice(0, maxPathLength), message }));
  if (wrong.length > maxErrors) errors.push({ path: "", message: `and ${wrong.length - maxErrors} more` });
  const first = errors[0];
  const more = wrong.length > 1 ? ` (and ${wrong.length - 1} more)` : "";
  const message = first ? `${first.path === "" ? "The body" : first.path}: ${first.message}${more}` : "The request is invalid.";
  return new AppError("invalid_argument", message, { errors });
}

/**
 * Whether Postgres could not be reached, or went away during a statement: SQLSTATE classes 08 and 57P, 53300, a
 * statement that took too long (57014), a password changed in Postgres but not here yet (28P01), and socket errors.
 */
function isDatabaseUnavailable(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  return (
    /^(08...|57P0[123]|57014|53300|28P01|ECONNREFUSED|ECONNRESET|EPIPE|ENOTFOUND|EAI_AGAIN|ETIMEDOUT)$/.test(code) ||
    /^(Connection terminated|timeout expired|Client has encountered a connection error)/.test(error.message)
  );
}

/** Whether a request has waited in vain for a connection of the pool. The database may well be there. */
function isPoolExhausted(error: unknown): boolean {
  return error instanceof Error && error.message === "timeout exceeded when trying to connect";
}

/** Whether Postgres refused a text: SQLSTATE 22021 and 22P05, for U+0000 and for half of a surrogate pair. */
function isTextRefused(error: unknown): boolean {
  return error instanceof Error && "code" in error && (error.code === "22021" || error.code === "22P05");
}

const fromConnect = new Map<Code, ErrorCode>([
  [Code.Unauthenticated, "internal"],
  [Code.DeadlineExceeded, "deadline_exceeded"],
  [Code.Unavailable, "unavailable"],
  [Code.Canceled, "cancelled"],
]);

/**
 * Turns whatever was thrown into an AppError. Only errors that the caller can do something about keep their meaning.
 */
export function toAppError(error: unknown): AppError {
  if (error instanceof AppError) return error;
  if (isDatabaseUnavailable(error))
    return new AppError("unavailable", "The database cannot be reached. Try again shortly.", { cause: error, retryAfterSeconds: 1 });
  if (isPoolExhausted(error)) {
    const message = "Too many requests are at work: all connections to the database are in use. Try again shortly.";
    return new AppError("unavailable", message, { cause: error, retryAfterSeconds: 1 });
  }
  if (isTextRefused(error)) {
    const message = "A text has a character that cannot be stored: U+0000, or half of a surrogate pair. Leave it out.";
    return new AppError("invalid_argument", message, { cause: error });
  }
  if (error instanceof ConnectError) {
    const code = fromConnect.get(error.code) ?? "internal";
    if (code === "unavailable" || code === "deadline_exceeded")
      return new AppError(code, "A service behind this one did not answer. Try again shortly.", { cause: error, retryAfterSeconds: 1 });
    if (code === "cancelled") return new AppError(code, "The request was cancelled.", { cause: error });
  }
  return new AppError("internal", "Internal error. Try again; if it stays, give the request id to the operator.", { cause: error });
}

/** An RFC 9457 problem. */
type Problem = {
  type: string;
  title: string;
  status: number;
  detail: string;
  code: ErrorCode;
  requestId: string;
  /** Why, for programs, where the code alone does not say it, and what belongs to it. */
  reason?: string;
  metadata?: Record<string, string>;
  errors?: FieldError[];
};

/** The body of the HTTP answer for an error. */
export function toProblem({ status, title, code, message, options }: AppError, requestId: string): Problem {
  const { errors, reason, metadata, members } = options;
  const why = { ...(reason && { reason }), ...(metadata && { metadata }) };
  return { type: "about:blank", title, status, detail: message, code, requestId, ...why, ...(errors && { errors }), ...members };
}

/** How a service writes an error into the body of an HTTP answer. */
export type ErrorForm = { mediaType: string; toBody: (error: AppError, requestId: string) => object };

export const problemForm: ErrorForm = { mediaType: "application/problem+json", toBody: toProblem };

/** The HTTP answer for an error, by default `application/problem+json` (RFC 9457). */
export function toErrorResponse(error: AppError, requestId: string, { mediaType, toBody } = problemForm): Response {
  const { retryAfterSeconds, headers } = error.options;
  return new Response(JSON.stringify(toBody(error, requestId)), {
    status: error.status,
    headers: {
      "content-type": mediaType,
      "cache-control": "no-store",
      ...(error.code === "unauthenticated" && { "www-authenticate": "Bearer" }),
      ...(retryAfterSeconds !== undefined && { "retry-after": String(Math.ceil(retryAfterSeconds)) }),
      ...headers,
    },
  });
}

/** The Connect and gRPC error for an error, with google.rpc.ErrorInfo and, if they apply, BadRequest and RetryInfo. */
export function toConnectError(error: AppError): ConnectError {
  const { reason, metadata, errors, retryAfterSeconds } = error.options;
  const info = create(ErrorInfoSchema, { reason: reason ?? error.code.toUpperCase(), domain: errorDomain, metadata: metadata ?? {} });
  const connectError = new ConnectError(error.message, codes[error.code].connect, undefined, undefined, error.cause);
  connectError.details.push({ desc: ErrorInfoSchema, value: info });
  if (errors) {
    const fieldViolations = errors.map((e) => ({ field: e.path, description: e.message }));
    connectError.details.push({ desc: BadRequestSchema, value: create(BadRequestSchema, { fieldViolations }) });
  }
  if (retryAfterSeconds !== undefined) {
    const seconds = BigInt(Math.ceil(retryAfterSeconds));
    const retryDelay = { $typeName: "google.protobuf.Duration" as const, seconds, nanos: 0 };
    connectError.details.push({ desc: RetryInfoSchema, value: create(RetryInfoSchema, { retryDelay }) });
  }
  return connectError;
}
