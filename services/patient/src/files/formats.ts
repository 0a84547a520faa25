/** Files of patients as NDJSON and CSV. They are read and written line by line and never held as a whole. */
import { isUtf8 } from "node:buffer";
import { AppError, type FieldError, invalidFields } from "@pm/kit/errors";
import { requireBounds } from "@pm/kit/json-bounds";
import { stringify } from "csv-stringify/sync";
import { type CsvProblem, type CsvRecord, createCsvReader, maxRecordLength } from "./csv.ts";
import { badBytes, type Charset, readText, readUtf8 } from "./text.ts";

/** A line of a file. `number` counts from 1, `text` identifies the line when the file is sent again. It has a body, or errors. */
export type ImportLine = { number: number; text: string | Buffer; body?: unknown; errors?: FieldError[] };

export type Format = "ndjson" | "csv";
export const mediaTypes: Record<Format, string> = { ndjson: "application/x-ndjson", csv: "text/csv" };

/** Longest line, in bytes. A patient has less than 2,000. */
const maxLineBytes = 64 * 1024;
/** Most fields of a line. A patient has less than 20. */
const maxFields = 1_000;
const newline = 0x0a;

/** @throws AppError invalid_argument if the file is not CSV with known columns, or not in its charset */
export function readLines(format: Format, body: ReadableStream<Uint8Array>, charset: Charset): AsyncIterable<ImportLine> {
  return format === "csv" ? readCsv(body, charset) : readNdjson(body);
}

const unreadable = (number: number, text: string | Buffer, message: string): ImportLine => ({
  number,
  text,
  errors: [{ path: "", message }],
});

async function* readNdjson(body: ReadableStream<Uint8Array>): AsyncGenerator<ImportLine> {
  let number = 0;
  for await (const bytes of splitLines(body)) {
    number += 1;
    if (bytes === "too long") yield unreadable(number, bytes, `is longer than ${maxLineBytes} bytes`);
    else if (!isUtf8(bytes)) yield unreadable(number, bytes, "is not UTF-8");
    else {
      const text = bytes.toString("utf8");
      if (text.trim() === "") continue;
      yield parseLine(number, text);
    }
  }
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
const detailColumns = ["dateOfBirthEstimated", "deceased"];
const answerColumns = ["version", "createdAt", "updatedAt", "billingStatus", "billingAccountId"];
const columns = ["id", ...recordColumns, ...answerColumns, ...detailColumns];

async function* readCsv(body: ReadableStream<Uint8Array>, charset: Charset): AsyncGenerator<ImportLine> {
  const reader = createCsvReader();
  let header: string[] | undefined;
  function* linesOf(records: Iterable<CsvRecord>): Generator<ImportLine> {
    for (const record of records) {
      if (header) yield lineOfRecord(record, header);
      else header = checkHeader(record);
    }
  }
  for await (const text of readText(body, charset)) yield* linesOf(reader.read(text));
  yield* linesOf(reader.read("", true));
}

function lineOfRecord(record: CsvRecord, header: string[]): ImportLine {
  const { line: number, cells, problems } = record;
  if (problems.length > 0) {
    const errors = problems.map((problem) => fieldError(problem, record, header));
    return { number, text: JSON.stringify([number, errors]), errors };
  }
  const row: Record<string, string> = {};
  for (const [index, column] of header.entries()) row[column] = cells[index] ?? "";
  return { number, text: JSON.stringify(row), body: bodyOfRow(row) };
}

function fieldError(problem: CsvProblem, record: CsvRecord, header: string[]): FieldError {
  return { path: ("column" in problem && header[problem.column]) || "", message: messageOf(problem, record) };
}

function messageOf(problem: CsvProblem, { line, lastLine }: CsvRecord): string {
  const count = lastLine - line + 1;
  const lines = count === 1 ? "1 line" : `${count} lines (${line} to ${lastLine})`;
  switch (problem.kind) {
    case "strayQuote":
      return "has a quote inside an unquoted cell: put the whole cell into quotes, and double the quotes inside it";
    case "textAfterQuote":
      return "has text after its closing quote: double each quote that belongs to the text";
    case "openQuote":
      return `begins with a quote that is not closed: ${lines} could not be read because of it. Close it, or take it away`;
    case "tooLong":
      return `makes the line longer than ${maxRecordLength} characters: shorten it`;
    case "badBytes":
      return badBytes;
    case "cellCount":
      return `has ${problem.found} cells${count === 1 ? "" : ` in ${lines}`} where the header has ${problem.expected}: check its commas and quotes`;
  }
}

function checkHeader(record: CsvRecord): string[] {
  const { cells: header, problems } = record;
  if (problems.length > 0)
    throw invalidFields(problems.map((problem) => ({ path: "header", message: fieldError(problem, record, []).message })));
  const known = header.map((name) => columns.find((column) => column.toLowerCase() === name.trim().toLowerCase()));
  const wrong = header.flatMap((name, index) => {
    const path = `header.${name.slice(0, 50)}`;
    if (known[index] === undefined) return { path, message: `is not a known column; known are ${columns.join(", ")}` };
    return known.indexOf(known[index]) < index ? { path, message: "is a column for the second time: leave one of them out" } : [];
  });
  if (wrong.length > 0) throw invalidFields(wrong);
  return known as string[];
}

/** Spreadsheets run text that begins like a formula. An export puts an apostrophe before it, and an import removes it. */
const escapedFormula = /^'[=+\-@\t\r]/;

/** Cells often contain an address in several lines, as on an envelope. */
const inOneLine = (text: string) => text.trim().replace(/,?\s*[\r\n]\s*/g, ", ");

function bodyOfRow(row: Record<string, string>): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  const parts: Record<string, string> = {};
  for (const [column, cell] of Object.entries(row)) {
    if (cell === "" || column === "id" || answerColumns.includes(column)) continue;
    const unescaped = escapedFormula.test(cell) ? cell.slice(1) : cell;
    const value = column === "address" || column === "street" ? inOneLine(unescaped) : unescaped;
    if (detailColumns.includes(column)) values[column] = flagOf(value);
    else if ((addressColumns as readonly string[]).includes(column)) parts[column] = value;
    else values[column] = value;
  }
  if (Object.keys(parts).length === 0) return values;
  const { address, ...others } = values;
  return { ...others, address: { ...(address !== undefined && { text: address }), ...parts } };
}

/** Spreadsheets write TRUE. */
const flagOf = (cell: string) => (/^(true|false)$/i.test(cell) ? cell.toLowerCase() === "true" : cell);

/** A patient as answers show it. */
type PatientBody = {
  address?: { text: string };
  billing: { status: string; accountId?: string };
} & Record<string, unknown>;

/** Lines of a file; the first ones of a CSV file come with its header. */
export function writeLines(format: Format, bodies: PatientBody[], isFirst: boolean): string {
  if (format === "ndjson") return bodies.map((body) => `${JSON.stringify(body)}\n`).join("");
  const rows = bodies.map(({ address: { text, ...parts } = {}, billing, ...body }) => ({
    ...body,
    ...parts,
    address: text,
    billingStatus: billing.status,
    billingAccountId: billing.accountId,
  }));
  return stringify(rows, { columns, header: isFirst, escape_formulas: true, cast: { boolean: String } });
}
