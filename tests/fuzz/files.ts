/**
 * Imports files that were damaged: those of the tests of imports, and exports of what is stored, with bytes cut out,
 * doubled and replaced. Whatever a file is, the answer is a report about its lines, or says what is wrong with it.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";

const folder = join(import.meta.dirname, "../../services/patient/test/files");
const ndjson = "application/x-ndjson";
const csv = "text/csv";

type File = { type: string; content: Buffer };
type Edit = { at: number; length: number; insert: Buffer };

/** What a parser may stumble over: marks, quotes, ends of lines, half characters, long cells, deep and large JSON. */
const pieces = [
  ...[
    '"',
    '""',
    ",",
    ";",
    "\t",
    "\r",
    "\n",
    "\r\n",
    "\0",
    "\ufeff",
    "\u2028",
    "\u202e",
    "\\",
    "\\u0000",
    "\\ud800",
    "{",
    "}",
    "[",
    "null",
    "1e999",
  ],
  ...["x".repeat(70_000), "[".repeat(2_000), `${"a,".repeat(1_500)}\n`, '{"a":1}\n'.repeat(300), "9007199254740993", '"__proto__":{},'],
  "name,email,dateOfBirth,address\n",
].map((text) => Buffer.from(text));
const bytes = [[0xff], [0xfe, 0xff], [0xff, 0xfe], [0xc3], [0xed, 0xa0, 0x80], [0xf5], [0x80], [0x1f, 0x8b, 0x08]].map((all) =>
  Buffer.from(all),
);

const anyEdit: fc.Arbitrary<Edit> = fc.record({
  at: fc.nat(),
  length: fc.oneof(fc.constant(0), fc.nat(20), fc.nat(2_000)),
  insert: fc.oneof(
    fc.constantFrom(...pieces, ...bytes),
    fc.uint8Array({ maxLength: 8 }).map((array) => Buffer.from(array)),
  ),
});
const anyType = fc.constantFrom(
  ...[csv, csv, ndjson, ndjson, `${csv}; charset=utf-8`, `${csv}; charset=utf-16`, `${csv}; charset="windows-1252"`],
  ...[`${csv};charset=iso-8859-1`, `${csv}; charset=nonsense`, `${ndjson}; charset=utf-8`, `${ndjson}; charset=latin1`, "text/plain"],
);

function edited(content: Buffer, edits: Edit[]): Buffer {
  return edits.reduce((whole, { at, length, insert }) => {
    const start = at % (whole.length + 1);
    return Buffer.concat([whole.subarray(0, start), insert, whole.subarray(start + length)]);
  }, content);
}

type Report = { lines: number; created: number; failed: number; errors: { line: number; errors: { path: string; message: string }[] }[] };

function checkReport({ lines, created, failed, errors }: Report): void {
  if (lines !== created + failed) throw new Error(`${lines} lines are not ${created} created and ${failed} failed ones`);
  if (errors.length > failed) throw new Error(`${failed} lines failed, and ${errors.length} are reported`);
  const numbers = errors.map(({ line }) => line);
  if (numbers.some((line, index) => line <= (numbers[index - 1] ?? 0))) throw new Error(`the lines are not in order: ${numbers}`);
  for (const { line, errors: wrong } of errors)
    if (wrong.length === 0 || wrong.some(({ message }) => !message)) throw new Error(`nothing says what is wrong with line ${line}`);
}

/** Exports what is stored, as seeds that are right. */
async function exported(url: string, authorization: string): Promise<File[]> {
  const formats = [ndjson, csv].map(async (type) => {
    const response = await fetch(`${url}/patients:export`, { headers: { authorization, accept: type } });
    const content = Buffer.from(await response.arrayBuffer());
    return { type, content: content.subarray(0, 4_000) };
  });
  return Promise.all(formats);
}

/**
 * Imports for this many seconds, one file after the other. Gives how many.
 * @throws Error with the smallest file that still fails, and the seed
 */
export async function fuzzFiles({ url, token }: { url: string; token: string }, seconds: number, seed: number): Promise<number> {
  const authorization = `Bearer ${token}`;
  const files = readdirSync(folder)
    .filter((name) => !name.startsWith("."))
    .map((name): File => ({ type: name.endsWith("csv") ? csv : ndjson, content: readFileSync(join(folder, name)) }));
  files.push(...(await exported(url, authorization)));
  let imports = 0;
  const property = fc.asyncProperty(
    fc.constantFrom(...files),
    fc.array(anyEdit, { maxLength: 4 }),
    fc.option(anyType, { freq: 3 }),
    fc.boolean(),
    async (file, edits, type, dryRun) => {
      imports += 1;
      const response = await fetch(`${url}/patients:import?dryRun=${dryRun}`, {
        method: "POST",
        headers: { authorization, "content-type": type ?? file.type },
        body: edited(file.content, edits),
        signal: AbortSignal.timeout(10_000),
      });
      const answer = (await response.json()) as Report & { detail?: string };
      if (response.status === 200) checkReport(answer);
      else if (![400, 415].includes(response.status) || !answer.detail)
        throw new Error(`HTTP ${response.status}: ${JSON.stringify(answer)}`);
    },
  );
  await fc.assert(property, {
    ...{ seed, numRuns: Number.MAX_SAFE_INTEGER, interruptAfterTimeLimit: seconds * 1_000 },
    reporter(details) {
      if (!details.failed) return;
      const [file, edits = [], type, dryRun] = details.counterexample ?? [];
      const content = file ? edited(file.content, edits).subarray(0, 2_000).toString("base64") : "";
      throw new Error(`${type ?? file?.type}, dryRun=${dryRun}, in base64: ${content}\n  ${details.errorInstance} (seed ${seed})`);
    },
  });
  return imports;
}
