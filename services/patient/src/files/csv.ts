/**
 * A reader of CSV (RFC 4180): quotes, line breaks inside them, lines that end in CRLF, LF or CR. A bad line costs only
 * itself, and is named by the number that a text editor shows. docs/decisions/0024-csv-is-read-by-our-own-reader.md
 * says why no library fits.
 */

/** Longest record, in characters. A patient has less than 2,000. */
export const maxRecordLength = 64 * 1024;
/** How many problems of a record are reported. */
const maxProblems = 20;

export type CsvProblem =
  | { kind: "strayQuote" | "textAfterQuote" | "openQuote" | "tooLong" | "badBytes"; column: number }
  | { kind: "cellCount"; found: number; expected: number };

/** A row, from `line` to `lastLine`, counted from 1. The cells are complete if there are no problems. */
export type CsvRecord = { line: number; lastLine: number; cells: string[]; problems: CsvProblem[] };

/**
 * A record in the text. `end` is where its line end begins. `isCut`: more lines seemed to belong to it, but something
 * in them is wrong. "unfinished": the rest of it is in the next piece of the file.
 */
type Found = { end: number; cells: string[]; problems: CsvProblem[]; isCut?: boolean } | "unfinished";

const lineEnds = /\r\n?|\n/;

/**
 * Searches for a character and remembers where it is, so that a text without it is searched once and not for each line.
 */
function searcher(text: string, wanted: string): (from: number) => number {
  let asked = 0;
  let found = -1;
  return (from) => {
    if (from > found || from < asked) {
      asked = from;
      found = text.indexOf(wanted, from);
      if (found === -1) found = Number.POSITIVE_INFINITY;
    }
    return found;
  };
}

type Finder = ReturnType<typeof createFinder>;

/** Finds quotes, delimiters and line ends in a text. More text may follow it unless it `isLast`. */
function createFinder(text: string, delimiter: string, isLast: boolean) {
  const nextQuote = searcher(text, '"');
  const nextDelimiter = searcher(text, delimiter);
  const nextLf = searcher(text, "\n");
  const nextCr = searcher(text, "\r");
  const lineEnd = (from: number) => Math.min(nextLf(from), nextCr(from), text.length);
  return {
    ...{ text, delimiter, isLast, nextQuote, lineEnd },
    cellEnd: (from: number) => Math.min(nextDelimiter(from), lineEnd(from)),
    /** Whether the line may go on at this end, or have the LF of a CRLF. */
    isUnclear: (end: number) => !isLast && (end === text.length || (text[end] === "\r" && end + 1 === text.length)),
    /** Behind the spaces: people write them around quotes, after a comma. */
    afterSpaces(from: number): number {
      let at = from;
      while (text[at] === " ") at += 1;
      return at;
    },
    closingQuote(from: number): number {
      let found = nextQuote(from);
      while (text[found + 1] === '"') found = nextQuote(found + 2);
      return found;
    },
  };
}

/**
 * Finds the record that begins at `start` and should have `width` cells, if that is known. The result does not depend
 * on the pieces.
 */
function findRecord(find: Finder, start: number, width?: number): Found {
  const { text, delimiter } = find;
  const end = find.lineEnd(start);
  if (end - start > maxRecordLength) {
    const outsideQuotes = text.slice(start, start + maxRecordLength).replace(/"[^"]*("|$)/g, "");
    return { end, cells: [], problems: [{ kind: "tooLong", column: outsideQuotes.split(delimiter).length - 1 }] };
  }
  if (find.isUnclear(end)) return "unfinished";
  if (find.nextQuote(start) > end) return { end, cells: text.slice(start, end).split(delimiter), problems: [] };
  return findQuotedRecord(find, start, end, width);
}

/**
 * A record with quotes. If something is wrong after its first line, a quote in that line was most likely not closed:
 * the record is cut there, and the next lines are read by themselves. Each character is read a few times at most, since
 * a record has at most `width` cells and a line that opens a quote closes the one before.
 */
function findQuotedRecord(find: Finder, start: number, firstEnd: number, width = Number.POSITIVE_INFINITY): Found {
  const { text, delimiter, isLast } = find;
  const limit = start + maxRecordLength;
  const cells: string[] = [];
  const problems: CsvProblem[] = [];
  let openColumn = 0;
  const cut = (problem: CsvProblem = { kind: "openQuote", column: openColumn }): Found => ({
    end: firstEnd,
    cells: cells.slice(0, openColumn),
    problems: [...problems, problem],
    isCut: true,
  });
  for (let at = start; ; at += 1) {
    const column = cells.length;
    const open = find.afterSpaces(at);
    const isQuoted = text[open] === '"';
    let [close, contentEnd] = [at, at];
    if (at <= firstEnd) openColumn = column;
    if (isQuoted) {
      close = find.closingQuote(open + 1);
      if (!isLast && close >= text.length - 1 && text.length <= limit) return "unfinished";
      if (close > limit || close >= text.length) return cut();
      contentEnd = find.afterSpaces(close + 1);
    }
    const end = find.cellEnd(contentEnd);
    if (find.isUnclear(end) && text.length <= limit + 1) return "unfinished";
    const isWrong = isQuoted ? end > contentEnd : find.nextQuote(at) < end;
    const isLater = contentEnd > firstEnd;
    if (end > limit || (isLater && isWrong)) return cut();
    if (isLater && column >= width) return cut({ kind: "cellCount", found: column + 1, expected: width });
    if (isWrong) problems.push({ kind: isQuoted ? "textAfterQuote" : "strayQuote", column });
    cells.push(isQuoted ? text.slice(open + 1, close).replaceAll('""', '"') : text.slice(at, end));
    at = end;
    if (text[end] === delimiter) continue;
    if (end === firstEnd || cells.length === width || width === Number.POSITIVE_INFINITY) return { end, cells, problems };
    return cut({ kind: "cellCount", found: cells.length, expected: width });
  }
}

const delimiters = [",", ";", "\t"];

/** The delimiter that the header has most often outside quotes, if the text has the header's first line. */
function delimiterOf(text: string, isLast: boolean): string | undefined {
  const line = /^[\r\n]*([^\r\n]*)([\r\n]?)/.exec(text);
  if (!isLast && !line?.[2] && text.length <= maxRecordLength) return undefined;
  const header = (line?.[1] ?? "").slice(0, maxRecordLength).replace(/"[^"]*("|$)/g, "");
  const counts = delimiters.map((delimiter) => header.split(delimiter).length);
  return delimiters[counts.indexOf(Math.max(...counts))];
}

/** Reads one file, piece by piece. The first record, the header, shows the delimiter; others need as many cells. */
export function createCsvReader() {
  let delimiter: string | undefined;
  let rest = "";
  let line = 1;
  let inTooLongLine = false;
  let width: number | undefined;
  /** A record that was cut, until it is clear which lines belong to it. */
  let held: CsvRecord | undefined;

  function check(record: CsvRecord, mayHaveBadBytes: boolean): void {
    const { cells, problems } = record;
    width ??= cells.length;
    if (problems.length === 0 && cells.length !== width) problems.push({ kind: "cellCount", found: cells.length, expected: width });
    if (mayHaveBadBytes)
      for (const [column, cell] of cells.entries()) if (!cell.isWellFormed()) problems.push({ kind: "badBytes", column });
    problems.splice(maxProblems);
  }

  /** Lines after a record that was cut belong to it, until one of them is a row of its own. */
  function* withoutSpoiled(record: CsvRecord, isCut: boolean): Generator<CsvRecord> {
    const isOwn = isCut || record.cells.length === width || record.problems.some(({ kind }) => kind === "tooLong");
    if (held && !isOwn) {
      held.lastLine = record.lastLine;
      return;
    }
    if (held) yield held;
    held = isCut ? record : undefined;
    if (!isCut) yield record;
  }

  return {
    /** The records that end in this piece. */
    *read(piece: string, isLast = false): Generator<CsvRecord> {
      const text = rest + piece;
      delimiter ??= delimiterOf(text, isLast);
      if (delimiter === undefined) {
        rest = text;
        return;
      }
      const mayHaveBadBytes = !text.isWellFormed();
      const find = createFinder(text, delimiter, isLast);
      let at = 0;
      while (at < text.length) {
        const found = inTooLongLine ? { end: find.lineEnd(at), cells: [], problems: [] } : findRecord(find, at, width);
        if (found === "unfinished") break;
        const { end, cells, problems, isCut = false } = found;
        const lastLine = find.lineEnd(at) === end ? line : line + text.slice(at, end).split(lineEnds).length - 1;
        if (!inTooLongLine && end > at) {
          const record = { line, lastLine, cells, problems };
          check(record, mayHaveBadBytes);
          yield* withoutSpoiled(record, isCut);
        }
        inTooLongLine = find.isUnclear(end);
        at = end;
        if (inTooLongLine) break;
        at += text.startsWith("\r\n", end) ? 2 : 1;
        line = lastLine + 1;
      }
      rest = text.slice(at);
      if (isLast && held) yield held;
    },
  };
}
