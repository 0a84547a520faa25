import fc from "fast-check";
import { expect, test } from "vitest";
import { type CsvRecord, createCsvReader, maxRecordLength } from "./csv.ts";

function read(pieces: string[]): CsvRecord[] {
  const reader = createCsvReader();
  return [...pieces.flatMap((piece) => [...reader.read(piece)]), ...reader.read("", true)];
}

/** The lines of each row, and its cells or problems; without the header. */
const rows = (text: string, pieces = [text]) =>
  read(pieces)
    .slice(1)
    .map(({ line, lastLine, cells, problems }) => [
      line === lastLine ? line : `${line}-${lastLine}`,
      problems.length > 0 ? problems : cells,
    ]);

/** A text in pieces of these lengths, again and again. */
function cut(text: string, lengths: number[]): string[] {
  const pieces: string[] = [];
  for (let at = 0, turn = 0; at < text.length; turn++) {
    const length = lengths[turn % lengths.length] ?? 1;
    pieces.push(text.slice(at, at + length));
    at += length;
  }
  return pieces;
}

test("lines are numbered as in a text editor, whatever ends them", () => {
  const text = 'a,b\r\n1,"two\r\nlines"\r2,"three\n\rlines"\n\r\n3,x';
  expect(read([text]).map(({ line, lastLine, cells }) => [line, lastLine, cells])).toEqual([
    [1, 1, ["a", "b"]],
    [2, 3, ["1", "two\r\nlines"]],
    [4, 6, ["2", "three\n\rlines"]],
    [8, 8, ["3", "x"]],
  ]);
});

test("a quote inside an unquoted cell costs its line", () => {
  expect(rows('a,b\nRobert "Bob" Stone,1\nx,y\n')).toEqual([
    [2, [{ kind: "strayQuote", column: 0 }]],
    [3, ["x", "y"]],
  ]);
});

test("text after a closing quote costs its line, also with quotes in the other cells", () => {
  expect(rows('a,b\n"Robert "Bob" Stone","1"\n"Bob" Stone,"1"\n"x","y"\n')).toEqual([
    [2, [{ kind: "textAfterQuote", column: 0 }]],
    [3, [{ kind: "textAfterQuote", column: 0 }]],
    [4, ["x", "y"]],
  ]);
});

test.each([
  ["to the end of the file", 'a,b\nx,"open\n1,2\n3,4\n'],
  ["to the next quoted cell", 'a,b\nx,"open\n1,2\n3,4\n5,"six"\n'],
  ["to the next line of a file of quoted cells", '"a","b"\n"x","open\n"1","2"\n"3","4"\n'],
  ["to a quote inside an unquoted cell", 'a,b\nx,"open\n1,2\n3,4\n5,si"x\n'],
])("an open quote costs the line in which it begins, not the lines %s", (_, text) => {
  const [first, ...others] = rows(text);
  expect(first).toEqual([2, [{ kind: "openQuote", column: 1 }]]);
  expect(others.slice(0, 2)).toEqual([
    [3, ["1", "2"]],
    [4, ["3", "4"]],
  ]);
});

test("lines of text behind an open quote are told with it and not one by one", () => {
  expect(rows('a,b,c\nx,"see\nthe "report" of\n\nMonday",y\n1,2,3\n')).toEqual([
    ["2-5", [{ kind: "openQuote", column: 1 }]],
    [6, ["1", "2", "3"]],
  ]);
});

test("spaces around quotes belong to no cell", () => {
  expect(rows('a, "b"\nSam, "1 High St, Ayr"\n "x"  ,"y" \n')).toEqual([
    [2, ["Sam", "1 High St, Ayr"]],
    [3, ["x", "y"]],
  ]);
});

test.each([";", "\t", ","])("the delimiter is the one that the header has most often outside quotes: %j", (delimiter) => {
  const header = [`"a;,\t${delimiter === "," ? ";;;;" : ",,,,"}"`, "b", "c"].join(delimiter);
  for (const text of [`${header}\n1${delimiter}2,5;6\t7`, `\r\n${header}`])
    for (const lengths of [[1], [1_000]]) expect(read(cut(text, lengths))[0]?.cells.slice(1)).toEqual(["b", "c"]);
});

test("each of several open quotes is told", () => {
  expect(rows('a,b\nx,"1\ny,"2\n1,2\n').map(([line]) => line)).toEqual([2, 3, 4]);
});

test("a row with another number of cells than the header is told", () => {
  expect(rows("a,b\n1\n1,2,3\n1,2\n")).toEqual([
    [2, [{ kind: "cellCount", found: 1, expected: 2 }]],
    [3, [{ kind: "cellCount", found: 3, expected: 2 }]],
    [4, ["1", "2"]],
  ]);
});

test("a row over several lines with another number of cells is told once, and costs no other", () => {
  expect(rows('a,b,c\nx,"two\nlines"\n1,2,3\n')).toEqual([
    ["2-3", [{ kind: "cellCount", found: 2, expected: 3 }]],
    [4, ["1", "2", "3"]],
  ]);
});

test.each([7, 1_000, 200_000])("a row that is too long is told by its column and costs its lines, in pieces of %d", (length) => {
  const long = "x".repeat(maxRecordLength + 1);
  const text = `a,b,c\n"1,",${long},3\n"${long}\n1,2,3\n4,5,"${"x\n".repeat(maxRecordLength / 2)}x"\n6,7,8\n`;
  expect(rows(text, cut(text, [length]))).toEqual([
    [2, [{ kind: "tooLong", column: 1 }]],
    [3, [{ kind: "tooLong", column: 0 }]],
    [4, ["1", "2", "3"]],
    [`5-${5 + maxRecordLength / 2}`, [{ kind: "openQuote", column: 2 }]],
    [6 + maxRecordLength / 2, ["6", "7", "8"]],
  ]);
});

test("a row may be as long as the longest", () => {
  for (const cell of ["x".repeat(maxRecordLength - 1), `"${"x\n".repeat(maxRecordLength / 2 - 2)}x"`])
    for (const length of [1_000, 200_000]) expect(read(cut(`a,b\n,${cell}\n`, [length])).map(({ problems }) => problems)).toEqual([[], []]);
});

test("halves of surrogate pairs are told by their column", () => {
  expect(rows("a,b\n1,\udc80\n1,😀\n")).toEqual([
    [2, [{ kind: "badBytes", column: 1 }]],
    [3, ["1", "😀"]],
  ]);
});

const delimiters = fc.constantFrom(",", ";", "\t");
const piecesOf = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 5 });
const cell = fc.string({
  unit: fc.constantFrom('"', ",", ";", "\t", "\r", "\n", "\r\n", "a", "é", "😀", "\uFEFF", "=", "'", " "),
  maxLength: 8,
});
const table = (cells: fc.Arbitrary<string>) =>
  fc
    .integer({ min: 2, max: 4 })
    .chain((width) => fc.array(fc.array(cells, { minLength: width, maxLength: width }), { minLength: 1, maxLength: 8 }));

/** RFC 4180: quotes where they are needed, or everywhere. */
function write(cells: string[], delimiter: string, everywhere: boolean): string {
  const needed = (text: string) => everywhere || /["\r\n]/.test(text) || text.includes(delimiter);
  return cells.map((text) => (needed(text) ? `"${text.replaceAll('"', '""')}"` : text)).join(delimiter);
}

test("every table that is written as CSV is read as it was, in whatever pieces it comes", () => {
  fc.assert(
    fc.property(
      table(cell),
      delimiters,
      fc.constantFrom("\r\n", "\n", "\r"),
      fc.boolean(),
      fc.boolean(),
      piecesOf,
      (content, delimiter, lineEnd, everywhere, endsWithLineEnd, lengths) => {
        const header = Array.from(content[0] ?? [], () => "column");
        const cells = [header, ...content];
        const text = cells.map((row) => write(row, delimiter, everywhere)).join(lineEnd) + (endsWithLineEnd ? lineEnd : "");
        const found = read(cut(text, lengths));
        expect(found.map((record) => record.cells)).toEqual(cells);
        expect(found.flatMap((record) => record.problems)).toEqual([]);
        let line = 1;
        for (const [index, record] of found.entries()) {
          expect(record.line).toBe(line);
          line += write(cells[index] ?? [], delimiter, everywhere).split(/\r\n?|\n/).length;
        }
      },
    ),
    { numRuns: 1_000 },
  );
});

test("a quote too many costs its row and no other", () => {
  // Of cells that begin so, the opening quotes look like the closing quotes of cells before, to people too.
  const text = cell.map((content) => content.replace(/^[", \r\n]+/, ""));
  fc.assert(
    fc.property(table(text), fc.boolean(), fc.nat(), fc.nat(), piecesOf, (cells, everywhere, which, where, lengths) => {
      const header = Array.from(cells[0] ?? [], () => "column");
      const written = cells.map((row) => write(row, ",", everywhere));
      const hurt = which % written.length;
      const whole = written[hurt] ?? "";
      const at = where % (whole.length + 1);
      written[hurt] = `${whole.slice(0, at)}"${whole.slice(at)}`;
      const found = read(cut([header.join(","), ...written].join("\n"), lengths)).slice(1);
      const begin =
        2 +
        written
          .slice(0, hurt)
          .join("\n")
          .split(/\r\n?|\n/).length -
        (hurt === 0 ? 1 : 0);
      const end = begin + (written[hurt] ?? "").split(/\r\n?|\n/).length;
      const isHurt = ({ line }: CsvRecord) => line >= begin && line < end;
      expect(found.filter((record) => !isHurt(record)).map((record) => record.cells)).toEqual(cells.filter((_, index) => index !== hurt));
      expect(found.filter((record) => !isHurt(record)).flatMap((record) => record.problems)).toEqual([]);
      const inHurt = found.filter(isHurt);
      if (end - begin === 1) expect(inHurt.length).toBe(1);
      expect(inHurt.some((record) => record.problems.length > 0)).toBe(true);
    }),
    { numRuns: 1_000 },
  );
});

test("whatever text comes, in whatever pieces, it gives the same rows, each in a line behind the one before", () => {
  const nonsense = fc.string({ unit: fc.constantFrom('"', '"', ",", "\r", "\n", "a", "\udc80", "x".repeat(30_000)), maxLength: 40 });
  fc.assert(
    fc.property(nonsense, piecesOf, fc.integer({ min: 1, max: 2_000 }), (text, lengths, factor) => {
      const found = read([text]);
      expect(
        read(
          cut(
            text,
            lengths.map((length) => length * (text.length > 10_000 ? factor + 100 : 1)),
          ),
        ),
      ).toEqual(found);
      for (const [index, { line, lastLine, problems }] of found.entries()) {
        expect(line).toBeGreaterThan(found[index - 1]?.lastLine ?? 0);
        expect(lastLine).toBeGreaterThanOrEqual(line);
        expect(problems.length).toBeLessThanOrEqual(20);
      }
    }),
    { numRuns: 1_000 },
  );
});

test("the cost of a file does not grow faster than its length, however its quotes stand", { timeout: 60_000 }, () => {
  const seconds = (text: string) => {
    // Of this thread, since other tests have the processor too.
    const start = process.threadCpuUsage().user;
    const reader = createCsvReader();
    for (let at = 0; at < text.length; at += maxRecordLength) for (const _ of reader.read(text.slice(at, at + maxRecordLength)));
    for (const _ of reader.read("", true));
    return (process.threadCpuUsage().user - start) / 1_000_000;
  };
  for (const line of [
    '"a\n',
    'a,"\n',
    '"a" b\n',
    '""a\n',
    '"""a\n',
    'a,"b""c\n',
    '"\n',
    "\n",
    '"",\n"a\n',
    'a"b,"c\n',
    'x","y\n',
    'x","y\n""\n',
  ])
    expect(seconds(`a,b,c,d,e,f,g,h\n${line.repeat(400_000 / line.length)}`), line).toBeLessThan(2);
});
