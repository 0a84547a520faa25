/** The rows of CSV: what a row says about a patient, what is wrong with it, and how an export writes it. */
import { AppError, type FieldError, invalidFields } from "@pm/kit/errors";
import { stringify } from "csv-stringify/sync";
import type { Patient } from "../tables.ts";
import { type CsvOptions, exportColumns, type Header, putterOf, type Row, readHeader } from "./columns.ts";
import { type CsvProblem, type CsvRecord, createCsvReader, maxRecordLength } from "./csv.ts";
import { type Entries, fillLists, listCells } from "./lists.ts";
import { badBytes, type Charset, readText } from "./text.ts";

/**
 * A line of a file. `number` counts from 1, `text` identifies the line when the file is sent again. It has a body, and
 * entries to add to its lists (`withEntries`); or errors.
 */
export type ImportLine = {
  number: number;
  text: string | Buffer;
  body?: unknown;
  added?: Entries;
  /** Whether it has cells for all columns of the file, so that a cell that says what is stored says nothing. */
  isFlat?: boolean;
  errors?: FieldError[];
};

/** A file that is read while its lines are taken. Columns that are not imported are known with the first line. */
export type ImportFile = { lines: AsyncIterable<ImportLine>; ignoredColumns: string[] };

export function readCsv(body: ReadableStream<Uint8Array>, charset: Charset, options: CsvOptions): ImportFile {
  const reader = createCsvReader();
  const ignoredColumns: string[] = [];
  let readRow: ((record: CsvRecord) => ImportLine | undefined) | undefined;
  function* linesOf(records: Iterable<CsvRecord>): Generator<ImportLine> {
    for (const record of records) {
      if (!readRow) {
        const header = headerOf(record, options);
        ignoredColumns.push(...header.ignored);
        readRow = rowReader(header, options);
        continue;
      }
      const line = readRow(record);
      if (line) yield line;
    }
  }
  async function* lines() {
    for await (const text of readText(body, charset)) yield* linesOf(reader.read(text));
    yield* linesOf(reader.read("", true));
  }
  return { lines: lines(), ignoredColumns };
}

function headerOf(record: CsvRecord, options: CsvOptions): Header {
  if (record.problems.length === 0) return readHeader(record.cells, options);
  throw invalidFields(record.problems.map((problem) => ({ path: "header", message: messageOf(problem, record) })));
}

/** Reads rows below a header. Undefined where all cells are empty. */
function rowReader({ columns, names }: Header, options: CsvOptions): (record: CsvRecord) => ImportLine | undefined {
  const puts = columns.map((column) => (column === undefined ? undefined : putterOf(column)));
  const pathOf = (problem: CsvProblem) => ("column" in problem && (columns[problem.column] ?? names[problem.column])) || "";
  const isEmpty = ({ cells, problems }: CsvRecord) =>
    cells.length > 0 && problems.every(({ kind }) => kind === "cellCount") && cells.every((cell) => cell.trim() === "");

  function read(cells: string[], errors: FieldError[]): Pick<ImportLine, "body" | "added"> {
    const row: Row = { fields: {}, address: {}, added: {} };
    for (const [index, whole] of cells.entries()) {
      const cell = readCell(whole.trim());
      if (cell === "") continue;
      if (names[index]?.trim() === "") errors.push({ path: `column ${index + 1}`, message: "has a value but no name: name the column" });
      try {
        puts[index]?.(row, cell, options.dateFormat);
      } catch (error) {
        if (!(error instanceof AppError)) throw error;
        errors.push(...(error.options.errors ?? []));
      }
    }
    return bodyOf(row, columns.includes("street"));
  }

  /** What identifies a row when the file is sent again, with another map or not. */
  function textOf(cells: string[]): Record<string, string> {
    const row: Record<string, string> = {};
    for (const [index, column] of columns.entries()) if (column !== undefined) row[column] = cells[index] ?? "";
    return options.dateFormat ? { ...row, dateFormat: options.dateFormat } : row;
  }

  return (record) => {
    const { line: number, cells, problems } = record;
    if (isEmpty(record)) return undefined;
    const errors: FieldError[] = problems.map((problem) => ({ path: pathOf(problem), message: messageOf(problem, record) }));
    if (errors.length > 0) return { number, text: JSON.stringify([number, errors]), errors };
    const content = read(cells, errors);
    return {
      number,
      text: JSON.stringify(textOf(cells)),
      ...(errors.length > 0 ? { errors } : { ...content, isFlat: true }),
    };
  };
}

function bodyOf({ fields, address, added }: Row, hasStreets: boolean): Pick<ImportLine, "body" | "added"> {
  // Beside a column for the city, "address" is usually the street.
  const { text, ...parts } = address;
  const isStreet =
    text !== undefined && !hasStreets && !parts.street && parts.city && !text.toLowerCase().includes(parts.city.toLowerCase());
  if (Object.keys(address).length > 0)
    fields.address = isStreet ? { street: text, ...parts } : Object.keys(parts).length > 0 ? address : text;
  fillLists(fields, added);
  return { body: fields, ...(Object.keys(added).length > 0 && { added }) };
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

/**
 * Spreadsheets run text that begins like a formula. An export puts an apostrophe before it, also before one with
 * apostrophes already, and an import removes one.
 */
const formula = /^'*[=+\-@\t\r＝＋－＠]/;
const escapedFormula = /^'+[=+\-@\t\r＝＋－＠]/;
/** Excel takes what is in these quotes as text. */
const excelText = /^="(.*)"$/s;

function readCell(cell: string): string {
  if (escapedFormula.test(cell)) return cell.slice(1);
  const [, text] = excelText.exec(cell) ?? [];
  return text === undefined ? cell : text.replaceAll('""', '"').trim();
}

export const writeCell = (text: string) => (formula.test(text) ? `'${text}` : text);

/**
 * Excel makes numbers and dates of texts that have digits: 0150 becomes 150. Its own texts have at most 255 characters.
 */
const writeExcelCell = (text: string) =>
  /\d/.test(text) && text.length <= 255 && !text.startsWith("[") ? `="${text.replaceAll('"', '""')}"` : writeCell(text);

/**
 * Rows of an export; the first ones come with the header. For Excel, with a byte order mark, and texts that stay texts.
 */
export function writeRows(patients: Patient[], isFirst: boolean, isForExcel: boolean): string {
  const write = isForExcel ? writeExcelCell : writeCell;
  const rows = patients.map(({ id, version, record, createdAt, updatedAt, deletedAt, mergedInto, accountId }) => {
    const { address: { text: address, ...parts } = {}, ...fields } = record;
    const cells: Record<string, unknown> = {
      ...{ id, ...fields, ...parts, address, version, ...listCells(record) },
      createdAt: createdAt.toISOString(),
      updatedAt: updatedAt.toISOString(),
      deletedAt: deletedAt?.toISOString(),
      mergedInto,
      billingStatus: accountId === undefined ? "pending" : "active",
      billingAccountId: accountId,
    };
    return exportColumns.map((column) => {
      const cell = cells[column];
      return typeof cell === "string" ? write(cell) : String(cell ?? "");
    });
  });
  const mark = isFirst && isForExcel ? "\uFEFF" : "";
  return mark + stringify(isFirst ? [exportColumns, ...rows] : rows);
}
