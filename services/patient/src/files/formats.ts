/** Files of patients, line by line: NDJSON and CSV in, NDJSON and CSV out, without ever holding more than a few of them. */
import { isUtf8 } from "node:buffer";
import { Readable } from "node:stream";
import { AppError, invalidFields } from "@pm/kit/errors";
import { type CsvError, parse } from "csv-parse";
import { stringify } from "csv-stringify/sync";

/** One patient of a file. `number` counts lines from 1; `text` is what makes it the same line again; `problem` stands for a body that cannot be read. */
export type ImportLine = { number: number; text: string | Buffer; body?: unknown; problem?: string };

export type Format = "ndjson" | "csv";
export const mediaTypes: Record<Format, string> = { ndjson: "application/x-ndjson", csv: "text/csv" };

/** Longest line, in bytes: a patient has less than 2,000. */
const maxLineBytes = 64 * 1024;
const newline = 0x0a;

export function readLines(format: Format, body: ReadableStream<Uint8Array>): AsyncIterable<ImportLine> {
  return format === "csv" ? readCsv(body) : readNdjson(body);
}

async function* readNdjson(body: ReadableStream<Uint8Array>): AsyncGenerator<ImportLine> {
  let number = 0;
  for await (const bytes of splitLines(body)) {
    number += 1;
    if (bytes === "too long") yield { number, text: bytes, problem: `is longer than ${maxLineBytes} bytes` };
    else if (!isUtf8(bytes)) yield { number, text: bytes, problem: "is not UTF-8" };
    else {
      const text = bytes.toString("utf8");
      if (text.trim() === "") continue;
      yield parseLine(number, text);
    }
  }
}

function parseLine(number: number, text: string): ImportLine {
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body === "object" && body !== null && !Array.isArray(body)) return { number, text, body };
    return { number, text, problem: "must be a JSON object" };
  } catch {
    return { number, text, problem: "is not valid JSON" };
  }
}

/** The bytes as they come. A sender that goes away is the sender's error, not ours. */
async function* received(body: ReadableStream<Uint8Array>): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of body) yield Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  } catch (error) {
    throw new AppError("cancelled", "The file was cut off. Send it again; with the same Idempotency-Key it goes on where it stopped.", {
      cause: error,
    });
  }
}

/** Lines without their ends. Of a line that is too long nothing is kept. */
async function* splitLines(body: ReadableStream<Uint8Array>): AsyncGenerator<Buffer | "too long"> {
  let rest: Buffer[] = [];
  let restBytes = 0;
  const finish = (end: Buffer): Buffer | "too long" => {
    const line = restBytes + end.length > maxLineBytes ? "too long" : Buffer.concat([...rest, end]);
    rest = [];
    restBytes = 0;
    return line;
  };
  for await (const bytes of received(body)) {
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

const addressColumns = ["street", "city", "state", "zipCode"] as const;
const recordColumns = [
  "name",
  "firstName",
  "lastName",
  "email",
  "phoneNumber",
  "dateOfBirth",
  "address",
  ...addressColumns,
  "sex",
  "registeredDate",
];
const answerColumns = ["version", "createdAt", "updatedAt", "billingStatus", "billingAccountId"];
const columns = ["id", ...recordColumns, ...answerColumns];

type CsvRow = { record: Record<string, string>; info: { lines: number } };

async function* readCsv(body: ReadableStream<Uint8Array>): AsyncGenerator<ImportLine> {
  const broken: ImportLine[] = [];
  const parser = parse({
    bom: true,
    columns: (header: string[]) => checkHeader(header),
    info: true,
    max_record_size: maxLineBytes,
    on_skip: (error: CsvError | undefined) => {
      const number = Number(error?.lines ?? 0);
      broken.push({ number, text: `${number} ${error?.code}`, problem: "is not valid CSV: check its quotes and its number of columns" });
    },
    skip_empty_lines: true,
    skip_records_with_error: true,
  });
  const source = Readable.from(received(body));
  source.on("error", (error) => parser.destroy(error));
  source.pipe(parser);
  try {
    for await (const { record, info } of parser as AsyncIterable<CsvRow>) {
      yield* broken.splice(0);
      yield { number: info.lines, text: JSON.stringify(record), body: bodyOfRow(record) };
    }
    yield* broken.splice(0);
  } finally {
    source.destroy();
  }
}

function checkHeader(header: string[]): string[] {
  const known = header.map((name) => columns.find((column) => column.toLowerCase() === name.trim().toLowerCase()));
  const unknown = header.filter((_, index) => known[index] === undefined);
  if (unknown.length > 0)
    throw invalidFields(
      unknown.map((name) => ({ path: `header.${name.slice(0, 50)}`, message: `is not a known column; known are ${columns.join(", ")}` })),
    );
  return known as string[];
}

/** Spreadsheets run what begins like a formula. An apostrophe in front stops that, going out, and is taken off, coming in. */
const escapedFormula = /^'[=+\-@\t\r]/;

function bodyOfRow(row: Record<string, string>): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  const parts: Record<string, string> = {};
  for (const [column, cell] of Object.entries(row)) {
    if (cell === "" || column === "id" || answerColumns.includes(column)) continue;
    const value = escapedFormula.test(cell) ? cell.slice(1) : cell;
    if ((addressColumns as readonly string[]).includes(column)) parts[column] = value;
    else values[column] = value;
  }
  if (Object.keys(parts).length === 0) return values;
  const { address, ...others } = values;
  return { ...others, address: { ...(address !== undefined && { text: address }), ...parts } };
}

/** A patient as answers show it. */
type PatientBody = {
  address: { text: string };
  billing: { status: string; accountId?: string };
} & Record<string, unknown>;

/** Lines of a file; the first ones of a CSV file come with its header. */
export function writeLines(format: Format, bodies: PatientBody[], isFirst: boolean): string {
  if (format === "ndjson") return bodies.map((body) => `${JSON.stringify(body)}\n`).join("");
  const rows = bodies.map(({ address: { text, ...parts }, billing, ...body }) => ({
    ...body,
    ...parts,
    address: text,
    billingStatus: billing.status,
    billingAccountId: billing.accountId,
  }));
  return stringify(rows, { columns, header: isFirst, escape_formulas: true });
}
