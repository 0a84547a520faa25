/** Checks that run before the validators of an operation: the size of the body, and that all text is UTF-8. */
import type { z } from "@hono/zod-openapi";
import type { Context, MiddlewareHandler, Next } from "hono";
import { bodyLimit } from "hono/body-limit";
import { AppError, fieldPath, invalidFields } from "../errors.ts";
import { decodeHeader, decodeJson, isUtf8Encoded, notUtf8, requireUtf8, requireUtf8Form, requireUtf8Query } from "../text.ts";

/** The largest body that is read into memory, in bytes. */
export const maxBodyBytes = 1024 * 1024;

export function tooLarge(): AppError {
  return new AppError("payload_too_large", "The body is larger than 1 MiB. Send less at once.");
}

/**
 * Reads the body, up to its limit, and checks its text, so that the validators parse exactly what was sent. Bodies of
 * types that the operation does not accept are refused by the validators. Many clients announce JSON with every
 * request, so a body that is not required may be empty.
 */
export async function readBody(c: Context, next: Next, { required }: { required?: boolean | undefined }): Promise<void> {
  const encoding = c.req.header("content-encoding");
  if (encoding !== undefined && encoding.toLowerCase() !== "identity")
    throw new AppError("unsupported_media_type", "No content-encoding is taken here. Send the body as it is, without a content-encoding.", {
      headers: { "accept-encoding": "identity" },
    });
  const [type, isUtf8] = parseContentType(c.req.header("content-type") ?? "");
  if (!isUtf8) throw new AppError("unsupported_media_type", "Send the body as UTF-8. No other charset is taken here.");
  // Hono would take what is not there for {}.
  if (type === "" && required) throw invalidFields([{ path: "body", message: "is required, with its Content-Type" }]);
  await limit(c);
  const isJson = jsonType.test(type);
  const requireUtf8OfForm = formTypes.get(type);
  if (isJson || requireUtf8OfForm) {
    const bytes = new Uint8Array(await c.req.arrayBuffer().catch(endedEarly));
    requireUtf8OfForm?.(bytes);
    // Hono parses a form from the bytes, but JSON from a text, for which it would replace bytes that are not UTF-8.
    const isLeftOut = bytes.length === 0 && required !== true;
    if (isJson) Object.assign(c.req.bodyCache, { text: Promise.resolve(isLeftOut ? "{}" : decodeJson(bytes)) });
  }
  await next();
}

const jsonType = /^application\/([\w.-]+\+)?json$/;
const formTypes = new Map([
  ["application/x-www-form-urlencoded", requireUtf8Form],
  ["multipart/form-data", requireUtf8],
]);

/** The media type, and whether its charset is UTF-8, or ASCII (which is UTF-8 too), or not given. */
function parseContentType(header: string): [type: string, isUtf8: boolean] {
  const [type = "", ...parameters] = header.toLowerCase().split(/\s*;\s*/);
  return [type.trim(), parameters.every((one) => !one.startsWith("charset") || /^charset\s*=\s*"?(utf-?8|us-ascii)"?\s*$/.test(one))];
}

const limitWhileReading = bodyLimit({
  maxSize: maxBodyBytes,
  onError() {
    throw tooLarge();
  },
});

/**
 * Hono's limit reads the stream of the body, for which the server builds a whole web request: a twelfth of the cost of
 * a create. Node itself holds a body to its announced length, so only bodies without one are read with Hono's limit.
 */
async function limit(c: Context): Promise<void> {
  const announced = c.req.header("content-length");
  if (announced === undefined || c.req.header("transfer-encoding") !== undefined) await limitWhileReading(c, async () => undefined);
  else if (Number(announced) > maxBodyBytes) throw tooLarge();
}

function endedEarly(cause: unknown): never {
  throw new AppError("invalid_argument", "The body ended before all of it had come.", { cause });
}

/** Checks the percent-encoded bytes of path and query. Hono would leave bytes that are not UTF-8 undecoded. */
export function requireUtf8Target(path: string): MiddlewareHandler {
  const names = path.split("/").map((segment) => /^\{(\w+)\}$/.exec(segment)?.[1]);
  return (c, next) => {
    const { url, path: sent } = c.req;
    if (url.includes("%")) {
      const name = sent.split("/").findIndex((segment, index) => names[index] !== undefined && !isUtf8Encoded(segment));
      if (name !== -1) throw notUtf8(names[name] ?? "");
      const query = url.indexOf("?");
      if (query !== -1) requireUtf8Query(url.slice(query + 1));
    }
    return next();
  };
}

/** Validates the headers that a route declares. Hono's validator would copy all into a web `Headers` first. */
export function validateHeaders(schema: z.ZodObject): MiddlewareHandler {
  const names = Object.keys(schema.shape);
  return async (c, next) => {
    const values = names.map((name): [string, string | undefined] => {
      const value = c.req.header(name);
      return [name, value === undefined ? undefined : decodeHeader(name, value)];
    });
    const result = schema.safeParse(Object.fromEntries(values));
    if (!result.success) throw toInvalidFields(result.error);
    c.req.addValidatedData("header", result.data);
    await next();
  };
}

export function toInvalidFields(error: z.ZodError): AppError {
  return invalidFields(
    error.issues.flatMap((issue) =>
      issue.code === "unrecognized_keys"
        ? issue.keys.map((key) => ({ path: fieldPath([...issue.path, key]), message: "is not a known field; check its spelling" }))
        : [{ path: fieldPath(issue.path), message: issue.message }],
    ),
  );
}
