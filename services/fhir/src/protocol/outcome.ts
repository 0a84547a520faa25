/** Errors as FHIR has them: an OperationOutcome, for every error of every path. */
import type { IncomingHttpHeaders } from "node:http";
import { z } from "@hono/zod-openapi";
import { AppError, type ErrorCode, type FieldError, isErrorCode } from "@pm/kit/errors";
import type { DescribedErrors } from "@pm/kit/http/schemas";
import type { OperationOutcome, OperationOutcomeIssue } from "fhir/r4.js";

export const mediaType = "application/fhir+json; fhirVersion=4.0";

/** http://hl7.org/fhir/R4/valueset-issue-type.html */
const issueTypes: Record<ErrorCode, OperationOutcomeIssue["code"]> = {
  invalid_argument: "invalid",
  unauthenticated: "login",
  permission_denied: "forbidden",
  not_found: "not-found",
  gone: "deleted",
  already_exists: "duplicate",
  failed_precondition: "business-rule",
  aborted: "conflict",
  precondition_failed: "conflict",
  precondition_required: "required",
  resource_exhausted: "throttled",
  cancelled: "transient",
  deadline_exceeded: "timeout",
  request_timeout: "timeout",
  unavailable: "transient",
  unimplemented: "not-supported",
  method_not_allowed: "not-supported",
  not_acceptable: "not-supported",
  unsupported_media_type: "not-supported",
  payload_too_large: "too-long",
  unprocessable: "processing",
  idempotency_key_reused: "duplicate",
  internal: "exception",
};

/**
 * Paths of elements begin with the type of their resource: `Patient.name[0].given`. Others are parameters or headers.
 */
const elementPath = /^[A-Z]/;

function toIssue({ code }: AppError, requestId: string, { path, message }: FieldError): OperationOutcomeIssue {
  const isElement = elementPath.test(path);
  const text = path === "" ? message : `${path}: ${message}`;
  return {
    severity: "error",
    code: issueTypes[code],
    details: { text: isElement ? message : text },
    // Some clients show nothing else, such as that of HAPI.
    diagnostics: `${text} (request ${requestId})`,
    ...(isElement && { expression: [path] }),
  };
}

function toOutcome(error: AppError, requestId: string): OperationOutcome {
  const { errors = [] } = error.options;
  const wrong = errors.length > 0 ? errors : [{ path: "", message: error.message }];
  return { resourceType: "OperationOutcome", issue: wrong.map((one) => toIssue(error, requestId, one)) };
}

/** What is told to a caller whose request was answered all the same. */
export const toHints = (texts: string[], severity: "warning" | "information" = "warning"): OperationOutcome => ({
  resourceType: "OperationOutcome",
  issue: texts.map((text) => ({ severity, code: severity === "warning" ? "not-supported" : "informational", details: { text } })),
});

const OutcomeSchema = z
  .object({
    resourceType: z.literal("OperationOutcome"),
    issue: z.array(
      z.looseObject({
        severity: z.enum(["fatal", "error", "warning", "information"]),
        code: z.string(),
        details: z.object({ text: z.string() }).optional(),
        diagnostics: z.string().optional(),
        expression: z.array(z.string()).optional().openapi({ description: "The wrong element, as FHIRPath." }),
      }),
    ),
  })
  .openapi("OperationOutcome", { description: "http://hl7.org/fhir/R4/operationoutcome.html" });

export const outcomes: DescribedErrors = { mediaType, toBody: toOutcome, schema: OutcomeSchema, name: "OperationOutcome" };

/** Every wrong element of a resource that is well formed and cannot be stored. */
export function unprocessable(wrong: FieldError[]): AppError {
  return new AppError("unprocessable", wrong.map(({ path, message }) => `${path}: ${message}`).join("; "), { errors: wrong });
}

const ProblemSchema = z.object({
  code: z.string(),
  detail: z.string(),
  reason: z.string().optional(),
  metadata: z.record(z.string(), z.string()).optional(),
  errors: z.array(z.object({ path: z.string(), message: z.string() })).optional(),
});

/** An answer of another service that was read as a whole. */
export type Answer = { status: number; headers: IncomingHttpHeaders; text: string };

/**
 * The error behind a problem (RFC 9457) of another service, so that its caller reads here what they would read there.
 */
export function fromProblem({ status, headers, text }: Answer, route: string): AppError {
  const problem = ProblemSchema.safeParse(toJson(text)).data;
  const cause = new Error(`${route} answered ${status}`);
  if (!problem || !isErrorCode(problem.code)) return new AppError("internal", "Internal error. Try again.", { cause });
  const { code, detail, reason, metadata, errors } = problem;
  const retryAfter = headers["retry-after"];
  return new AppError(code, detail, {
    ...(errors && { errors: errors.map(({ path, message }) => ({ path: path === "cursor" ? "_cursor" : path, message })) }),
    ...(reason !== undefined && { reason }),
    ...(metadata && { metadata }),
    ...(retryAfter !== undefined && { retryAfterSeconds: Number(retryAfter) }),
  });
}

function toJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
