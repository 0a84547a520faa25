/**
 * The bytes of a file as text. Bytes that are not in its charset are refused and never replaced: a wrong letter in a
 * name would stay.
 */
import { isUtf8 } from "node:buffer";
import { setImmediate as nextTurn } from "node:timers/promises";
import { AppError, invalidFields } from "@pm/kit/errors";

export type Charset = "utf-8" | "utf-16" | "windows-1252";

/**
 * Charsets by their names. Files that are declared as Latin-1 contain Windows' letters, so it is read as windows-1252
 * (WHATWG Encoding).
 */
const charsets = new Map<string, Charset>([
  ["utf-8", "utf-8"],
  ["utf8", "utf-8"],
  ["us-ascii", "utf-8"],
  ["utf-16", "utf-16"],
  ["utf-16le", "utf-16"],
  ["windows-1252", "windows-1252"],
  ["cp1252", "windows-1252"],
  ["iso-8859-1", "windows-1252"],
  ["latin1", "windows-1252"],
]);

/** The charset that a `Content-Type` declares, UTF-8 by default. Undefined if it is unknown. */
export function declaredCharset(contentType: string): Charset | undefined {
  const name = /;\s*charset\s*=\s*"?([^\s;"]*)/i.exec(contentType)?.[1];
  return name === undefined ? "utf-8" : charsets.get(name.toLowerCase());
}

/** This much of a file is examined before anything of it is stored. */
const examinedBytes = 1024 * 1024;
const partLength = 64 * 1024;
const byteOrderMark = "\uFEFF";

/** The bytes as they come. If the sender goes away, that is not an error of this service. */
async function* received(body: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (error) {
    throw new AppError("cancelled", "The file was cut off. Send it again; with the same Idempotency-Key it goes on where it stopped.", {
      cause: error,
    });
  }
}

type Piece = { bytes: Buffer; isLast: boolean };

/** The examined beginning as one piece, then the rest as it comes. */
async function* pieces(body: ReadableStream<Uint8Array>): AsyncGenerator<Piece> {
  const examined = Buffer.allocUnsafe(examinedBytes);
  let filled = 0;
  for await (const chunk of received(body)) {
    const missing = examinedBytes - filled;
    const head = chunk.subarray(0, missing);
    examined.set(head, filled);
    filled += head.length;
    if (missing > 0 && filled === examinedBytes) yield { bytes: examined, isLast: false };
    const tail = chunk.subarray(head.length);
    if (tail.length > 0) yield { bytes: Buffer.from(tail.buffer, tail.byteOffset, tail.length), isLast: false };
  }
  yield { bytes: examined.subarray(0, filled === examinedBytes ? 0 : filled), isLast: true };
}

type Coding = {
  /** How many bytes at the end belong to a character that is not complete. */
  unfinished(bytes: Buffer): number;
  /** Bytes that are not in the charset become half of a surrogate pair, which no text contains. */
  decode(bytes: Buffer): string;
};

const noText = "\udc80";

const utf8: Coding = {
  unfinished(bytes) {
    for (let back = 1; back <= 3; back++) {
      const byte = bytes.at(-back) ?? 0;
      if (byte >= 0xc0) return back < (byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2) ? back : 0;
      if (byte < 0x80) return 0;
    }
    return 0;
  },
  decode(bytes) {
    if (isUtf8(bytes)) return bytes.toString();
    const sequences = /[\xc0-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xff][\x80-\xbf]{3}|[\x80-\xff]/g;
    return bytes.toString("latin1").replace(sequences, (found) => {
      const sequence = Buffer.from(found, "latin1");
      return isUtf8(sequence) ? sequence.toString() : noText.repeat(sequence.length);
    });
  },
};

const utf16: Coding = {
  unfinished(bytes) {
    const odd = bytes.length % 2;
    const isHalfOfPair = ((bytes.at(-1 - odd) ?? 0) & 0xfc) === 0xd8;
    return isHalfOfPair ? odd + 2 : odd;
  },
  decode: (bytes) => bytes.toString("utf16le") + (bytes.length % 2 === 1 ? noText : ""),
};

const windows1252Decoder = new TextDecoder("windows-1252");
const windows1252: Coding = { unfinished: () => 0, decode: (bytes) => windows1252Decoder.decode(bytes) };

const codings: Record<Charset, Coding> = { "utf-8": utf8, "utf-16": utf16, "windows-1252": windows1252 };

/** The charset of a byte order mark. */
function markedCharset(bytes: Buffer): Charset | undefined {
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return "utf-16";
  return bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? "utf-8" : undefined;
}

/** The message for a line that is not in its charset. */
export const badBytes = "is not UTF-8: save the file as UTF-8, or declare its charset, as in Content-Type: text/csv; charset=windows-1252";

function refuseBadBytes(text: string): void {
  if (text.isWellFormed()) return;
  const line = text.slice(0, text.search(/\p{Cs}/u)).split(/\r\n?|\n/).length;
  throw invalidFields([{ path: `line ${line}`, message: badBytes }]);
}

/** A long text or array in parts. Other requests get a turn between them, since lines may be many and empty. */
async function* inParts<Part>(length: number, part: (from: number, to: number) => Part): AsyncGenerator<Part> {
  for (let from = 0; from < length; from += partLength) {
    yield part(from, from + partLength);
    await nextTurn();
  }
}

/**
 * A file as text, without its byte order mark. The mark decides the charset, also against the declared one. Bytes that
 * are not in the charset are halves of surrogate pairs in the text.
 * @throws AppError invalid_argument with the line if such bytes are in the first MiB
 */
export async function* readText(body: ReadableStream<Uint8Array>, declared: Charset): AsyncGenerator<string> {
  let coding: Coding | undefined;
  let rest = Buffer.alloc(0);
  for await (const piece of pieces(body)) {
    const isFirst = coding === undefined;
    coding ??= codings[markedCharset(piece.bytes) ?? declared];
    const bytes = Buffer.concat([rest, piece.bytes]);
    const end = bytes.length - (piece.isLast ? 0 : coding.unfinished(bytes));
    rest = bytes.subarray(end);
    let text = coding.decode(bytes.subarray(0, end));
    if (isFirst) refuseBadBytes(text);
    if (isFirst && text.startsWith(byteOrderMark)) text = text.slice(1);
    yield* inParts(text.length, (from, to) => text.slice(from, to));
  }
}

/**
 * A file in UTF-8 as bytes, without its byte order mark.
 * @throws AppError invalid_argument with the line if bytes in the first MiB are not UTF-8
 */
export async function* readUtf8(body: ReadableStream<Uint8Array>): AsyncGenerator<Buffer> {
  let isFirst = true;
  for await (const piece of pieces(body)) {
    let { bytes } = piece;
    if (isFirst) refuseBadBytes(utf8.decode(piece.isLast ? bytes : bytes.subarray(0, bytes.length - utf8.unfinished(bytes))));
    if (isFirst && markedCharset(bytes) === "utf-8") bytes = bytes.subarray(3);
    isFirst = false;
    yield* inParts(bytes.length, (from, to) => bytes.subarray(from, to));
  }
}
