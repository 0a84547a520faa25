/** Small files of the shapes that clinics send, over a real Postgres, and files that nobody should send. */
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { expect, test } from "vitest";
import { patientsOfThisFile, someBody } from "./testing.ts";

const { service, admin } = await patientsOfThisFile();

const sample = (name: string) => readFileSync(join(import.meta.dirname, "files", name));
const csv = "text/csv";
const ndjson = "application/x-ndjson";

async function importBytes(bytes: Uint8Array<ArrayBuffer>, headers: Record<string, string>) {
  const authorization = `Bearer ${admin.caller.token}`;
  const response = await service.app.request("/patients:import", { method: "POST", headers: { authorization, ...headers }, body: bytes });
  return { status: response.status, body: (await response.json()) as ReturnType<typeof JSON.parse> };
}

test.each([
  ["stray-quote.csv", csv, 2, [[3, "name", "has a quote inside an unquoted cell"]]],
  ["cell-of-70-kb.csv", csv, 2, [[3, "address", "longer than 65536 characters"]]],
  ["unclosed-quote.csv", csv, 398, [[3, "address", "not closed: 1 line could not be read because of it"]]],
  ["line-breaks-in-cells-crlf.csv", csv, 1, [[4, "dateOfBirth", ""]]],
  ["windows-1252-declared.csv", `${csv}; charset=windows-1252`, 1, []],
  ["utf16le-bom.csv", csv, 1, []],
  ["bom.ndjson", ndjson, 2, []],
])("%s as %s creates %d", async (name, contentType, created, errors) => {
  const { status, body } = await importBytes(sample(name), { "content-type": contentType });
  expect({ status, ...body }).toMatchObject({ status: 200, created, failed: errors.length });
  expect(body.errors).toEqual(
    errors.map(([line, path, message]) => ({ line, errors: [{ path, message: expect.stringContaining(String(message)) }] })),
  );
});

test.each([
  ["latin1-undeclared.csv", [{ path: "line 2", message: expect.stringMatching(/is not UTF-8.*charset=windows-1252/) }]],
  ["twice-the-same-column.csv", [{ path: "header.PhoneNumber", message: expect.stringContaining("second time") }]],
])("%s is refused whole", async (name, errors) => {
  const { status, body } = await importBytes(sample(name), { "content-type": csv });
  expect({ status, ...body }).toMatchObject({ status: 400, errors });
});

test("letters of other charsets are stored as they are meant", async () => {
  const names = (await admin.send("GET", "/patients?q=zoe.nunez@mail.example")).body.items.map(({ name }: { name: string }) => name);
  expect(names).toEqual(["Zoë “Zo” Núñez"]);
});

test("charsets and encodings that are not read are refused by their names", async () => {
  const file = Buffer.from("name\n");
  const refusal = async (headers: Record<string, string>, bytes = file) => {
    const { status, body } = await importBytes(bytes, headers);
    return [status, body.detail];
  };
  expect(await refusal({ "content-type": `${csv}; charset=big5` })).toEqual([415, expect.stringContaining("windows-1252")]);
  expect(await refusal({ "content-type": `${ndjson}; charset=iso-8859-1` })).toEqual([415, expect.stringContaining("must be utf-8")]);
  const zipped = { "content-type": csv, "content-encoding": "gzip" };
  expect(await refusal(zipped, gzipSync(file))).toEqual([415, expect.stringContaining("Send the file as it is")]);
  expect((await importBytes(file, { "content-type": csv, "content-encoding": "identity" })).status).toBe(200);
});

test("nothing is stored of a file whose first MiB is not UTF-8 somewhere, and a wrong byte behind it costs its line", async () => {
  const rows = (count: number) =>
    Array.from({ length: count }, () => `Ada,${randomUUID()}@example.com,1987-04-12,${"1 Main St ".repeat(15)}\n`).join("");
  const count = async () => (await service.db.pool.query("select count(*)::int as n from patients")).rows[0].n;
  const [header, wrong] = ["name,email,dateOfBirth,address\n", Buffer.from(`Z\xfcrich,a@example.com,1987-04-12,x\n`, "latin1")];
  const before = await count();
  const early = await importBytes(Buffer.concat([Buffer.from(header + rows(4_000)), wrong]), { "content-type": csv });
  expect({ status: early.status, ...early.body }).toMatchObject({ status: 400, errors: [{ path: "line 4002" }] });
  expect(await count()).toBe(before);
  const late = await importBytes(Buffer.concat([Buffer.from(header + rows(6_000)), wrong, Buffer.from(rows(1))]), { "content-type": csv });
  expect(late.body).toMatchObject({ created: 6_001, failed: 1, errors: [{ line: 6_002, errors: [{ path: "name" }] }] });
});

test("a file of CSV with wrong lines goes on where it stopped, and gives its report again", async () => {
  const row = (index: number) => {
    if (index % 500 === 499) return `Robert "Bob" Stone,${index},1987-04-12,x\n`;
    if (index % 700 === 699) return `Ada,${index},1987-04-12,"x\n`;
    return `Ada,${randomUUID()}@example.com,1987-04-12,"${"1 Main St, ".repeat(14)}\n2nd floor"\n`;
  };
  const file = Buffer.from(`name,email,dateOfBirth,address\n${Array.from({ length: 8_000 }, (_, index) => row(index)).join("")}`);
  const headers = { authorization: `Bearer ${admin.caller.token}`, "content-type": csv, "idempotency-key": randomUUID() };
  const cut = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(file.subarray(0, -100_000)),
    pull: (controller) => controller.error(new Error("the client went away")),
  });
  const request = new Request("http://localhost/patients:import", { method: "POST", body: cut, headers, duplex: "half" } as RequestInit);
  expect((await service.app.request(request)).status).toBe(499);
  const stopped = (await service.db.pool.query("select created::int as n from imports where key = $1", [headers["idempotency-key"]]))
    .rows[0].n;
  expect(stopped).toBeGreaterThan(0);
  const done = await importBytes(file, headers);
  expect({ status: done.status, ...done.body }).toMatchObject({ status: 200, created: 7_975, failed: 25 });
  expect(await importBytes(file, headers)).toEqual(done);
});

test("what a wrong line names is stored, whatever characters it has", async () => {
  const file = `{"\\u0000a":1}\n{"\\ud800":1}\n{"${"x".repeat(99)}😀":1}\n${JSON.stringify(someBody())}\n`;
  const { status, body } = await importBytes(Buffer.from(file), { "content-type": ndjson });
  expect({ status, ...body }).toMatchObject({ status: 200, created: 1, failed: 3 });
});

test.each([csv, ndjson])("whatever bytes a file of %s has, its import answers 200 or 400", async (contentType) => {
  const piece = fc.oneof(
    fc
      .constantFrom('"', ",", "\n", "\r\n", "{}", '{"name":1}', "a@example.com", "1987-04-12", "\0", "x".repeat(70_000))
      .map((text) => Buffer.from(text)),
    fc.uint8Array({ maxLength: 6 }),
  );
  await fc.assert(
    fc.asyncProperty(fc.boolean(), fc.array(piece, { maxLength: 30 }), async (isLate, parts) => {
      const start = `name,email,dateOfBirth,address\n${isLate ? `${"x".repeat(60_000)}\n`.repeat(18) : ""}`;
      const { status } = await importBytes(Buffer.concat([Buffer.from(start), ...parts]), { "content-type": contentType });
      expect([200, 400]).toContain(status);
    }),
    { numRuns: 100 },
  );
});
