import { AppError } from "@pm/kit/errors";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type CsvOptions, readMap } from "./columns.ts";
import { type Format, readFile } from "./formats.ts";
import type { ImportLine } from "./rows.ts";

function linesOf(format: Format, bytes: Uint8Array, options?: CsvOptions): Promise<ImportLine[]> {
  return Array.fromAsync(readFile(format, ReadableStream.from([bytes]) as ReadableStream<Uint8Array>, "utf-8", options).lines);
}

/** The bodies of rows of CSV, or their errors. */
async function bodiesOf(text: string, options?: CsvOptions): Promise<unknown[]> {
  const lines = await linesOf("csv", Buffer.from(text), options);
  return lines.map(
    ({ body, added, errors }) => errors?.map(({ path, message }) => `${path}: ${message}`) ?? { ...(body as object), ...added },
  );
}

test.each([
  ["first_name;surname;DOB;gender;zip", "Nora;Vik;1980-01-31;F;0150"],
  ["Given Name\tFamily Name\tDate of Birth\tSex\tPostal Code", "Nora\tVik\t 1980-01-31 00:00:00\tfemale \t0150"],
  ["fname,lname,dob,sex,postal_code,status", "Nora,Vik,1980-01-31T00:00:00.000+0000,Female,0150,married"],
])("columns are known by the names of other systems: %s", async (header, row) => {
  const [body] = await bodiesOf(`${header}\n${row}\n`);
  expect({ ...(body as { sex: string }), sex: (body as { sex: string }).sex.toLowerCase() }).toEqual({
    ...{ firstName: "Nora", lastName: "Vik", dateOfBirth: "1980-01-31", sex: "female" },
    address: { zipCode: "0150" },
  });
});

test("a map says what columns mean, and leaves columns out", async () => {
  const file = "Vorname,Notiz,Pass,Name\nIda,x,C01X00T47,Ida Kern\n";
  const map = readMap("Vorname:given_name, Notiz:-,Pass:identifiers.passport-de");
  expect(await bodiesOf(file, { map })).toEqual([
    { firstName: "Ida", name: "Ida Kern", identifiers: [{ system: "passport-de", value: "C01X00T47" }] },
  ]);
  const wrong = await bodiesOf(file, { map: readMap("Nachname:lastName") }).catch(({ options }) => options.errors);
  expect(wrong.map(({ path }: { path: string }) => path)).toEqual(["header.Vorname", "header.Notiz", "header.Pass", "map"]);
  for (const text of ["Vorname", "Vorname:nonsense", ":name", "a:b:c", "Vorname:race"]) expect(() => readMap(text), text).toThrow(/map/);
});

test.each([
  [undefined, "1990-02-01", "1990-02-01"],
  [undefined, "1950", "1950"],
  [undefined, "01/02/1990", /dateFormat=DD\/MM\/YYYY or dateFormat=MM\/DD\/YYYY/],
  [undefined, "13/02/1990", /dateFormat=DD\/MM\/YYYY$/],
  [undefined, "3.2.1970", /dateFormat=DD\.MM\.YYYY$/],
  ["DD/MM/YYYY", "01/02/1990", "1990-02-01"],
  ["MM/DD/YYYY", "01/02/1990", "1990-01-02"],
  ["MM/DD/YYYY", "13/02/1990", /must be a date as MM\/DD\/YYYY or YYYY-MM-DD/],
  ["DD.MM.YYYY", "3.2.1970", "1970-02-03"],
  ["DD.MM.YYYY", "1970-02-03", "1970-02-03"],
  ["YYYYMMDD", "19700203", "1970-02-03"],
] as const)("with dateFormat %s, %s is %s", async (dateFormat, cell, date) => {
  const [found] = await bodiesOf(`DOB\n${cell}\n`, { dateFormat });
  expect(found).toEqual(typeof date === "string" ? { dateOfBirth: date } : [expect.stringMatching(date)]);
});

test("empty rows and columns are no rows and columns, and a value without a column is told", async () => {
  expect(await bodiesOf("name,, \nAda,,\n,,\n ,\n\nBo,,x\n")).toEqual([
    { name: "Ada" },
    ["column 3: has a value but no name: name the column"],
  ]);
});

test("columns that a record has no field for are named", async () => {
  const file = readFile("csv", ReadableStream.from([Buffer.from("name,RACE,County\nAda,white,\n")]) as ReadableStream<Uint8Array>, "utf-8");
  await Array.fromAsync(file.lines);
  expect(file.ignoredColumns).toEqual(["RACE", "County"]);
});

test("an address beside a city is the street, unless it names the city", async () => {
  expect(await bodiesOf('name,address,city\nAda,1 Way,Ayr\nBo,"1 Way, Ayr",Ayr\n')).toEqual([
    { name: "Ada", address: { street: "1 Way", city: "Ayr" } },
    { name: "Bo", address: { text: "1 Way, Ayr", city: "Ayr" } },
  ]);
});

test("an apostrophe before a formula, and Excel's quotes, belong to no text", async () => {
  expect(await bodiesOf(`name,city\n'=x,"=""0150"""\n''=x,'x\n`)).toEqual([
    { name: "=x", address: { city: "0150" } },
    { name: "'=x", address: { city: "'x" } },
  ]);
});

test.each([
  ['name,"email\n', "header", "a quote that is not closed"],
  ["name,emial\n", "header.emial", "not a known column"],
  ["name,email,Name\n", "header.Name", "second time"],
])("the header %j is refused", async (text, path, message) => {
  const { options } = await linesOf("csv", Buffer.from(text)).catch((error) => error);
  expect(options.errors).toEqual([{ path, message: expect.stringContaining(message) }]);
});

test.each([
  ["csv", ""],
  ["csv", "\n"],
  ["ndjson", ""],
  ["ndjson", " \n\n"],
] as const)("an empty file is refused: %s %j", async (format, text) => {
  const { options } = await linesOf(format, Buffer.from(text)).catch((error) => error);
  expect(options?.errors).toEqual([{ path: "", message: expect.stringContaining("is empty") }]);
});

test("a file without lines below its header has no lines", async () => {
  expect(await linesOf("csv", Buffer.from("name,email\n"))).toEqual([]);
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
