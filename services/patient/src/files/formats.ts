/** Files of patients as NDJSON and CSV. They are read and written line by line and never held as a whole. */
import { isUtf8 } from "node:buffer";
import { AppError } from "@pm/kit/errors";
import { requireBounds } from "@pm/kit/json-bounds";
import { toBody } from "../patients/request.ts";
import type { Patient } from "../tables.ts";
import type { CsvOptions } from "./columns.ts";
import { emptyFile, type ImportFile, type ImportLine, readCsv, writeRows } from "./rows.ts";
import { type Charset, readUtf8 } from "./text.ts";

export type Format = "ndjson" | "csv";
export const mediaTypes: Record<Format, string> = { ndjson: "application/x-ndjson", csv: "text/csv" };

/** Longest line, in bytes. A patient has less than 2,000. */
const maxLineBytes = 64 * 1024;
/** Most fields of a line. A patient has less than 20. */
const maxFields = 1_000;
const newline = 0x0a;

/** @throws AppError invalid_argument if the file is not CSV with known columns, or not in its charset */
export function readFile(format: Format, body: ReadableStream<Uint8Array>, charset: Charset, options: CsvOptions = {}): ImportFile {
  return format === "csv" ? readCsv(body, charset, options) : { lines: readNdjson(body), ignoredColumns: [] };
}

const unreadable = (number: number, text: string | Buffer, message: string): ImportLine => ({
  number,
  text,
  errors: [{ path: "", message }],
});

async function* readNdjson(body: ReadableStream<Uint8Array>): AsyncGenerator<ImportLine> {
  let number = 0;
  let isEmpty = true;
  for await (const bytes of splitLines(body)) {
    number += 1;
    if (bytes === "too long") yield unreadable(number, bytes, `is longer than ${maxLineBytes} bytes`);
    else if (!isUtf8(bytes)) yield unreadable(number, bytes, "is not UTF-8");
    else {
      const text = bytes.toString("utf8");
      if (text.trim() === "") continue;
      yield parseLine(number, text);
    }
    isEmpty = false;
  }
  if (isEmpty) throw emptyFile();
}

function parseLine(number: number, text: string): ImportLine {
  try {
    requireBounds(text, { maxFields });
    const body: unknown = JSON.parse(text);
    if (typeof body === "object" && body !== null && !Array.isArray(body)) return { number, text, body };
    return unreadable(number, text, "must be a JSON object");
  } catch (error) {
    if (error instanceof AppError) return { number, text, errors: error.options.errors ?? [] };
    return unreadable(number, text, "is not valid JSON");
  }
}

/** Lines without their ends. A line that is too long is not kept. */
async function* splitLines(body: ReadableStream<Uint8Array>): AsyncGenerator<Buffer | "too long"> {
  let rest: Buffer[] = [];
  let restBytes = 0;
  const finish = (end: Buffer): Buffer | "too long" => {
    const line = restBytes + end.length > maxLineBytes ? "too long" : Buffer.concat([...rest, end]);
    rest = [];
    restBytes = 0;
    return line;
  };
  for await (const bytes of readUtf8(body)) {
    let start = 0;
    for (let end = bytes.indexOf(newline); end !== -1; end = bytes.indexOf(newline, start)) {
      yield finish(bytes.subarray(start, end));
      start = end + 1;
    }
    const tail = bytes.subarray(start);
    restBytes += tail.length;
    if (restBytes <= maxLineBytes) rest.push(tail);
    else rest = [];
  }
  if (restBytes > 0) yield finish(Buffer.alloc(0));
}

/** Lines of a file; the first ones of a CSV file come with its header. */
export function writeLines(format: Format, patients: Patient[], isFirst: boolean, isForExcel = false): string {
  if (format === "csv") return writeRows(patients, isFirst, isForExcel);
  return patients.map((patient) => `${JSON.stringify(toBody(patient))}\n`).join("");
}
