/**
 * What the routes of all services are described with: JSON bodies and answers, and the errors that an operation gives.
 */
import { type RouteConfig, z } from "@hono/zod-openapi";
import type { Access } from "../auth/access.ts";
import { AppError, type ErrorCode, type ErrorForm, invalidFields, problemForm, type StatusOf } from "../errors.ts";
import { faultOfText } from "../plain-text.ts";

/** A text that people read, without the spaces around it. It may be empty. */
export const plainText = z
  .string()
  .trim()
  .refine((text) => faultOfText(text) === undefined, { error: ({ input }) => faultOfText(String(input).trim()) });

export const jsonBody = <Schema extends z.ZodType>(schema: Schema) => ({ required: true, content: { "application/json": { schema } } });

export const jsonAnswer = <Schema extends z.ZodType>(schema: Schema, description: string) => ({
  description,
  content: { "application/json": { schema } },
});

export const ProblemSchema = z
  .object({
    type: z.string(),
    title: z.string().openapi({ description: "The kind of error; the same for all errors of a code." }),
    status: z.int(),
    detail: z.string().openapi({ description: "What is wrong and how to correct it, for people." }),
    code: z.string().openapi({ description: "The kind of error, for programs." }),
    requestId: z.string().openapi({ description: "Tells the operator which lines of the log belong to it." }),
    reason: z.string().optional().openapi({ description: "Why, where the code has several reasons, for programs: `MERGED`." }),
    metadata: z.record(z.string(), z.string()).optional().openapi({ description: "What the reason is about, such as an id." }),
    errors: z.array(z.object({ path: z.string(), message: z.string() })).optional(),
  })
  .openapi("Problem", { description: "An RFC 9457 problem. `errors` names every wrong field." });

/**
 * How the errors of a service look, and how its OpenAPI document describes them. `name` is that of the schema there.
 */
export type DescribedErrors = ErrorForm & { schema: z.ZodType; name: string };

export const problems: DescribedErrors = { ...problemForm, schema: ProblemSchema, name: "Problem" };

/** What callers read, as an example; the code and the title say the rest. */
const details: Partial<Record<ErrorCode, string>> = {
  unauthenticated: "The access token has expired. Refresh it or log in again.",
  permission_denied: "This needs the scope patient:write, which your roles do not give.",
  not_found: "There is nothing with this id.",
  aborted: "Somebody else has changed it in the meantime. Read it again, then repeat your change.",
  resource_exhausted: "Too many requests. Try again in 30 seconds.",
  request_timeout:
    "The file came too slowly: an import must send at least 1 KiB per second. 2000 patients of the first 2000 lines are stored; 0 of these lines failed. Send the whole file again with the same Idempotency-Key: it goes on behind these lines.",
  unavailable: "The database cannot be reached. Try again shortly.",
  deadline_exceeded: "The service did not answer in time. Try again; a change may or may not have happened.",
  internal: "Internal error. Try again; if it stays, give the request id to the operator.",
  payload_too_large: "The body is larger than 1 MiB. Send less at once.",
  unsupported_media_type: "Send the body as one of the media types that the API document lists.",
};

function exampleOf(code: ErrorCode, { toBody }: ErrorForm) {
  const error =
    code === "invalid_argument"
      ? invalidFields([{ path: "email", message: "is required" }])
      : new AppError(code, details[code] ?? `${new AppError(code, "").title}.`);
  return toBody(error, "0b7e4c1d-5a2f-4c8e-9f3b-6d1a2c3b4e5f");
}

type ErrorAnswer = { description: string; content: { "application/problem+json": { schema: typeof ProblemSchema } } };
type ErrorAnswers<Code extends ErrorCode> = { [Status in StatusOf<Code>]: ErrorAnswer };

const codesOf = new WeakMap<object, ErrorCode[]>();

const titlesOf = (codes: ErrorCode[]) => codes.map((code) => new AppError(code, "").title).join(", or: ");

/** The answer for all codes of one status. */
function answerOf(codes: ErrorCode[]): ErrorAnswer {
  const answer = { description: titlesOf(codes), content: { "application/problem+json": { schema: ProblemSchema } } };
  codesOf.set(answer, codes);
  return answer;
}

/**
 * The error answers of a route, by status, each with an example:
 * `responses: { 200: …, ...errorAnswers("not_found") }`. Routes list what their handlers throw. What can go wrong
 * before a handler runs is added by `operation` (`commonErrors`).
 */
export function errorAnswers<Code extends ErrorCode>(...codes: Code[]): ErrorAnswers<Code> {
  const byStatus = Map.groupBy(codes, (code) => new AppError(code, "").status);
  return Object.fromEntries([...byStatus].map(([status, all]) => [status, answerOf(all)])) as ErrorAnswers<Code>;
}

/** An answer of `errorAnswers` as a document's component, with an example per code; undefined for other answers. */
export function errorComponentOf(answer: object, form: DescribedErrors) {
  const codes = codesOf.get(answer);
  if (!codes) return undefined;
  const name = codes.map((code) => code.replace(/(?:^|_)([a-z])/g, (_, letter: string) => letter.toUpperCase())).join("Or");
  return { name, response: { description: titlesOf(codes), content: contentOf(codes, form) } };
}

/**
 * The `default` of every operation: what the gateway, or a proxy before it, answers in place of the service. Clients
 * need a type for it. What the service itself answers has its status in the document.
 */
export function otherErrorsOf(form: DescribedErrors) {
  const description =
    "Any other error: the gateway answers if a request is malformed (400), too slow (408), too large (413, 431) or too frequent (429), " +
    "and if the service cannot be reached (503) or takes too long (504).";
  return { description, content: contentOf(["resource_exhausted", "deadline_exceeded"], form) };
}

function contentOf(codes: ErrorCode[], form: DescribedErrors) {
  const examples = Object.fromEntries(codes.map((code) => [code, { value: exampleOf(code, form) }]));
  return { [form.mediaType]: { schema: { $ref: `#/components/schemas/${form.name}` }, examples } };
}

/** What every operation with such a request may answer, whatever its handler does. */
export function commonErrors(
  { body, ...parameters }: NonNullable<RouteConfig["request"]> = {},
  { access, streams }: { access: Access; streams: boolean },
): ErrorAnswers<ErrorCode> {
  const codes: ErrorCode[] = ["internal", "unavailable"];
  if (body || Object.values(parameters).some(Boolean)) codes.push("invalid_argument");
  if (access !== "public") codes.push("unauthenticated");
  if (access !== "public" && access !== "signed-in") codes.push("permission_denied");
  if (body) codes.push("unsupported_media_type");
  if (body && !streams) codes.push("payload_too_large");
  return errorAnswers(...codes);
}
