import { AppError } from "@pm/kit/errors";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type Format, type ImportLine, readLines } from "./formats.ts";

function linesOf(format: Format, bytes: Uint8Array): Promise<ImportLine[]> {
  return Array.fromAsync(readLines(format, ReadableStream.from([bytes]) as ReadableStream<Uint8Array>, "utf-8"));
}

test.each([
  ['name,"email\n', "header", "a quote that is not closed"],
  ["name,emial\n", "header.emial", "not a known column"],
  ["name,email,Name\n", "header.Name", "second time"],
])("the header %j is refused", async (text, path, message) => {
  const { options } = await linesOf("csv", Buffer.from(text)).catch((error) => error);
  expect(options.errors).toEqual([{ path, message: expect.stringContaining(message) }]);
});

test("what is wrong with a line of CSV is told by the name of its column", async () => {
  const file = 'Name,email,city\nRobert "Bob" Stone,a,b\n"x" y,a,b\na,b\nx,y,"z\na,b,c\n';
  const lines = await linesOf("csv", Buffer.from(file));
  expect(lines.map(({ number, errors }) => [number, ...(errors ?? []).map(({ path, message }) => `${path}: ${message}`)])).toEqual([
    [2, "name: has a quote inside an unquoted cell: put the whole cell into quotes, and double the quotes inside it"],
    [3, "name: has text after its closing quote: double each quote that belongs to the text"],
    [4, ": has 2 cells where the header has 3: check its commas and quotes"],
    [5, "city: begins with a quote that is not closed: 1 line could not be read because of it. Close it, or take it away"],
    [6],
  ]);
});

test("a row of CSV has the number of its first line, and its address in one line", async () => {
  const lines = await linesOf("csv", Buffer.from('name,address\nAda,"1 Way,\r\n  Flat 2\n"\n"B\no",x\n'));
  expect(lines.map(({ number, body }) => [number, body])).toEqual([
    [2, { name: "Ada", address: "1 Way, Flat 2" }],
    [5, { name: "B\no", address: "x" }],
  ]);
});

test("a byte that is not UTF-8 behind the first MiB costs its line", async () => {
  const row = `${"x".repeat(1023)}\n`;
  const csv = Buffer.from(`name\n${row.repeat(1_100)}Z\xfcrich\nBern\n`, "latin1");
  expect((await linesOf("csv", csv)).slice(-2)).toMatchObject([
    { number: 1_102, errors: [{ path: "name" }] },
    { number: 1_103, body: { name: "Bern" } },
  ]);
  const ndjson = Buffer.from(`${`{"name":"${"x".repeat(1_012)}"}\n`.repeat(1_100)}"Z\xfcrich"\n{}\n`, "latin1");
  expect((await linesOf("ndjson", ndjson)).slice(-2)).toMatchObject([
    { number: 1_101, errors: [{ message: "is not UTF-8" }] },
    { number: 1_102, body: {} },
  ]);
});

test("NDJSON may begin with a byte order mark", async () => {
  expect(await linesOf("ndjson", Buffer.from('\uFEFF{"name":"Bo"}\n'))).toMatchObject([{ number: 1, body: { name: "Bo" } }]);
});

test.each(["csv", "ndjson"] as const)("whatever bytes a file of %s has, each of its lines is told at most once", async (format) => {
  const piece = fc.oneof(
    fc.constantFrom("name,email\n", '"', ",", "\n", "\r\n", "{}", "\uFEFF", "x".repeat(70_000)).map((text) => Buffer.from(text)),
    fc.uint8Array({ maxLength: 6 }),
  );
  await fc.assert(
    fc.asyncProperty(fc.boolean(), fc.array(piece, { maxLength: 20 }), async (isLate, parts) => {
      const start = isLate ? `name,email\n${`${"x".repeat(1_000)}\n`.repeat(1_100)}` : "name,email\n";
      const lines = await linesOf(format, Buffer.concat([Buffer.from(start), ...parts])).catch((error) => error);
      if (lines instanceof AppError) {
        expect(lines.code).toBe("invalid_argument");
        return;
      }
      const numbers = lines.map(({ number }: ImportLine) => number);
      expect(numbers).toEqual([...new Set(numbers)].sort((one, other) => Number(one) - Number(other)));
    }),
    { numRuns: 40 },
  );
});
