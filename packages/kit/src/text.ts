/**
 * Checks the encoding of text that callers send, before it is read. A lenient decoder would replace bytes that are not
 * UTF-8 with U+FFFD, and half of a surrogate pair cannot be stored. Both are refused by an error that names the field.
 */
import { isUtf8 } from "node:buffer";
import { type AppError, invalidFields, stepTo } from "./errors.ts";
import { requireExactNumbers } from "./exact-json.ts";
import { requireBounds } from "./json-bounds.ts";

const strict = new TextDecoder("utf-8", { fatal: true });
/** UTF-8 without such an escape has whole pairs only. */
const surrogateEscape = /\\u[dD][89a-fA-F]/;

/**
 * The text of a JSON body, for a parser.
 * @throws AppError that names a field whose text is not UTF-8 or whose number would be rounded, or the exceeded bound
 */
export function decodeJson(bytes: Uint8Array): string {
  let text: string;
  try {
    text = strict.decode(bytes);
  } catch {
    throw notUtf8(findText(Buffer.from(bytes).toString(), (one) => one.includes("\ufffd")) ?? "");
  }
  requireBounds(text);
  if (surrogateEscape.test(text)) {
    const path = findText(text, (one) => !one.isWellFormed());
    if (path !== undefined) throw wrong(path, "has half of a surrogate pair (\\ud800 to \\udfff); leave it out");
  }
  return requireExactNumbers(text);
}

/**
 * Checks a query before it is decoded. A "%" that encodes nothing ("100%") is text.
 * @throws AppError that names the first wrong parameter
 */
export function requireUtf8Query(query: string): void {
  if (query.includes("%")) refusePair(query, (pair) => !isUtf8Encoded(pair));
}

/** @throws AppError if bytes are not UTF-8 */
export function requireUtf8(bytes: Uint8Array): void {
  if (!isUtf8(bytes)) throw notUtf8("");
}

/** No form of ours has more than ten fields. */
const maxFormFields = 1_000;

/**
 * Checks the body of a form before it is decoded. @throws AppError that names the first wrong field, or says the bound
 */
export function requireUtf8Form(bytes: Uint8Array): void {
  const text = Buffer.from(bytes).toString();
  if (text.split("&", maxFormFields + 1).length > maxFormFields) throw wrong("", "has more than 1,000 fields");
  if (!isUtf8(bytes)) refusePair(text, (pair) => pair.includes("\ufffd"));
  requireUtf8Query(text);
}

function refusePair(pairs: string, isWrong: (pair: string) => boolean): void {
  const pair = pairs.split("&").find(isWrong);
  if (pair !== undefined) throw notUtf8(pair.replace(/=.*/s, ""));
}

/** Whether percent-encoded bytes are UTF-8. */
export function isUtf8Encoded(text: string): boolean {
  for (const [run] of text.matchAll(/(?:%[0-9a-f]{2})+/gi)) {
    try {
      decodeURIComponent(run);
    } catch {
      return false;
    }
  }
  return true;
}

/** The text of a header. Node gives each byte as one character. @throws AppError if the bytes are not UTF-8 */
export function decodeHeader(name: string, value: string): string {
  if (!/[\x80-\xff]/.test(value)) return value;
  const bytes = Buffer.from(value, "latin1");
  if (!isUtf8(bytes)) throw notUtf8(name);
  return bytes.toString();
}

export function notUtf8(path: string): AppError {
  return wrong(path, "is not UTF-8; send text as UTF-8");
}

/** Names one field, because a caller that encodes one text wrong encodes all of them wrong. */
function wrong(path: string, message: string): AppError {
  return invalidFields([{ path, message }]);
}

/** The path of the first wrong text in JSON, or of the object with a wrong name; undefined if none, or no JSON. */
function findText(json: string, isWrong: (text: string) => boolean): string | undefined {
  let root: unknown;
  try {
    root = JSON.parse(json);
  } catch {
    return undefined;
  }
  // No recursion: a body may be deeper than the stack.
  const waiting: { path: string; value: unknown }[] = [{ path: "", value: root }];
  for (let next = waiting.pop(); next; next = waiting.pop()) {
    const { path, value } = next;
    if (typeof value === "string" && isWrong(value)) return path;
    if (typeof value !== "object" || value === null) continue;
    const entries = Object.entries(value);
    if (entries.some(([name]) => isWrong(name))) return path;
    // The last one in is the next one out, so they are added in reverse order.
    for (const [name, inner] of entries.reverse())
      waiting.push({ path: stepTo(path, Array.isArray(value) ? Number(name) : name), value: inner });
  }
  return undefined;
}
