/**
 * CSV as clinics have it, after RFC 4180: quotes, line breaks inside them, lines that end in CRLF, LF or CR. A bad line costs
 * that line alone, and is named by the number that a text editor shows. docs/decisions/0024-csv-is-read-by-our-own-reader.md
 * says why no library does this.
 */

/** Longest record, in characters: a patient has less than 2,000. */
export const maxRecordLength = 64 * 1024;
/** How many problems of a record are reported. */
const maxProblems = 20;

export type CsvProblem =
  | { kind: "strayQuote" | "textAfterQuote" | "openQuote" | "tooLong" | "badBytes"; column: number }
  | { kind: "cellCount"; found: number; expected: number };

/**
 * A row, or what could not be read as one, from `line` to `lastLine`, counted from 1. The cells are complete where there are
 * no problems.
 */
export type CsvRecord = { line: number; lastLine: number; cells: string[]; problems: CsvProblem[] };

/**
 * What begins at a place: `end` is where its line end begins. `isCut` where more lines seemed to belong to it, until
 * something was wrong there. "unfinished" where only more text will tell.
 */
type Found = { end: number; cells: string[]; problems: CsvProblem[]; isCut?: boolean } | "unfinished";

const lineEnds = /\r\n?|\n/;

/** Looks for a character and remembers where it is, so that a text without it is searched once and not for each line. */
function finder(text: string, wanted: string): (from: number) => number {
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

/** Finds the records of a text. More may come after it unless it `isLast`. What it finds depends on the file, not on its pieces. */
function recordFinder(text: string, delimiter: string, isLast: boolean) {
  const nextQuote = finder(text, '"');
  const nextDelimiter = finder(text, delimiter);
  const nextLf = finder(text, "\n");
  const nextCr = finder(text, "\r");
  const lineEnd = (from: number) => Math.min(nextLf(from), nextCr(from), text.length);
  /** Whether the line may go on at this end, or have the LF of a CRLF. */
  const isUnclear = (end: number) => !isLast && (end === text.length || (text[end] === "\r" && end + 1 === text.length));

  function closingQuote(from: number): number {
    let found = nextQuote(from);
    while (text[found + 1] === '"') found = nextQuote(found + 2);
    return found;
  }

  /**
   * A record with quotes. Where something is wrong after its first line, most likely a quote in that line was not closed:
   * the record is cut there, and the next lines are read by themselves. Each character is read a few times at most, since
   * a record has at most `width` cells and a line that opens a quote closes the one before.
   */
  function quotedRecord(start: number, firstEnd: number, width = Number.POSITIVE_INFINITY): Found {
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
      const isQuoted = text[at] === '"';
      let contentEnd = at;
      if (at <= firstEnd) openColumn = column;
      if (isQuoted) {
        const close = closingQuote(at + 1);
        if (!isLast && close >= text.length - 1 && text.length <= limit) return "unfinished";
        if (close > limit || close >= text.length) return cut();
        contentEnd = close + 1;
      }
      const end = Math.min(nextDelimiter(contentEnd), lineEnd(contentEnd));
      if (isUnclear(end) && text.length <= limit + 1) return "unfinished";
      const isWrong = isQuoted ? end > contentEnd : nextQuote(at) < end;
      const isLater = contentEnd > firstEnd;
      if (end > limit || (isLater && isWrong)) return cut();
      if (isLater && column >= width) return cut({ kind: "cellCount", found: column + 1, expected: width });
      if (isWrong) problems.push({ kind: isQuoted ? "textAfterQuote" : "strayQuote", column });
      cells.push(isQuoted ? text.slice(at + 1, contentEnd - 1).replaceAll('""', '"') : text.slice(at, end));
      at = end;
      if (text[end] === delimiter) continue;
      if (end === firstEnd || cells.length === width || width === Number.POSITIVE_INFINITY) return { end, cells, problems };
      return cut({ kind: "cellCount", found: cells.length, expected: width });
    }
  }

  /** The record that begins at `start` and should have `width` cells, if that is known. */
  function record(start: number, width?: number): Found {
    const end = lineEnd(start);
    if (end - start > maxRecordLength) {
      const outsideQuotes = text.slice(start, start + maxRecordLength).replace(/"[^"]*("|$)/g, "");
      return { end, cells: [], problems: [{ kind: "tooLong", column: outsideQuotes.split(delimiter).length - 1 }] };
    }
    if (isUnclear(end)) return "unfinished";
    if (nextQuote(start) > end) return { end, cells: text.slice(start, end).split(delimiter), problems: [] };
    return quotedRecord(start, end, width);
  }

  return { record, lineEnd, isUnclear };
}

/** Reads one file, piece by piece. Its first record is the header: the others have as many cells. */
export function createCsvReader({ delimiter = "," } = {}) {
  let rest = "";
  let line = 1;
  let inTooLongLine = false;
  let width: number | undefined;
  /** A record that was cut, until it is clear which lines it spoils. */
  let held: CsvRecord | undefined;

  function check(record: CsvRecord, mayHaveBadBytes: boolean): void {
    const { cells, problems } = record;
    width ??= cells.length;
    if (problems.length === 0 && cells.length !== width) problems.push({ kind: "cellCount", found: cells.length, expected: width });
    if (mayHaveBadBytes)
      for (const [column, cell] of cells.entries()) if (!cell.isWellFormed()) problems.push({ kind: "badBytes", column });
    problems.splice(maxProblems);
  }

  /** Lines of text that follow a record that was cut are no rows of their own, but spoiled by it. */
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
    /** The records of which this piece tells what they are. */
    *read(piece: string, isLast = false): Generator<CsvRecord> {
      const text = rest + piece;
      const mayHaveBadBytes = !text.isWellFormed();
      const find = recordFinder(text, delimiter, isLast);
      let at = 0;
      while (at < text.length) {
        const found = inTooLongLine ? { end: find.lineEnd(at), cells: [], problems: [] } : find.record(at, width);
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
