/** An export is imported into another platform and exported from there: nothing is lost on the way. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { type Client, patientsOfThisFile } from "./testing.ts";

const settings = { emailRequired: false, emailUnique: false, addressRequired: false, dateOfBirthPrecision: "year" } as const;
const [{ service }, { service: other }] = [await patientsOfThisFile({ settings }), await patientsOfThisFile({ settings })];

/** What the platform writes by itself differs between two platforms. */
const ownColumns = ["id", "version", "createdAt", "updatedAt", "billingStatus", "billingAccountId", "billing"];

type Lines = { [recordNumber: string]: string };

/** The lines of an export by record number, without what differs. */
const readers: { [format: string]: (text: string) => Lines } = {
  ndjson: (text) =>
    Object.fromEntries(
      text.split("\n").flatMap((line) => {
        if (line === "") return [];
        const body = JSON.parse(line);
        const own = Object.entries(body).filter(([field]) => !ownColumns.includes(field));
        return [[body.identifiers.find(({ system }: { system: string }) => system === "mrn").value, JSON.stringify(own)]];
      }),
    ),
  csv: (text) => {
    const [header = [], ...rows] = cellsOf(text);
    const column = header.indexOf("mrn");
    return Object.fromEntries(
      rows.map((cells) => [cells[column], JSON.stringify(cells.filter((_, index) => !ownColumns.includes(header[index] ?? "")))]),
    );
  },
};

/** Plain CSV, since what is tested must not read it. */
const cellsOf = (text: string) =>
  text
    .replace(/^\uFEFF/, "")
    .trimEnd()
    .split("\n")
    .map((line) => line.match(/("([^"]|"")*"|[^,"]*)(,|$)/g)?.map((cell) => cell.replace(/,$/, "")) ?? []);

const nasty = fc.constantFrom(
  "=SUM(1)",
  "＝SUM(1)",
  "'=x",
  "''=x",
  "'x",
  "+49",
  "-1",
  "@a",
  '="1"',
  "0150",
  "1E5",
  "a;b",
  'say "hi"',
  "a,b",
  "[1]",
  "TRUE",
);
const text = fc.oneof(
  nasty,
  fc
    .string({ unit: fc.constantFrom("a", "é", "字", "'", "=", '"', ",", ";", " ", "1"), minLength: 1, maxLength: 12 })
    .filter((one) => one.trim() !== ""),
);
const optional = <T>(of: fc.Arbitrary<T>) => fc.option(of, { nil: undefined });
const period = fc.constantFrom(undefined, { start: "2020" }, { start: "2020-01", end: "2026-05-12" });
const use = (...uses: string[]) => optional(fc.constantFrom(...uses));
const phone = fc.constantFrom("+12125550123", "+447700900123", "+12125550123;ext=5");
const email = fc.constantFrom("ada@example.com", "'ada@example.com", "grace@example.org");
const address = fc.record({ text: optional(text), street: text, city: optional(text), state: optional(text), zipCode: optional(text) });
const list = <T>(entry: fc.Arbitrary<T>) => optional(fc.array(entry, { minLength: 1, maxLength: 3 }));
const body = fc
  .record({
    names: fc.array(
      fc.oneof(
        fc.record({ text, use: use("official", "maiden"), period }),
        fc.record({ given: text, family: text, prefix: optional(text), suffix: optional(text), use: use("usual") }),
      ),
      { minLength: 1, maxLength: 3 },
    ),
    phones: list(fc.record({ value: phone, use: use("mobile", "home"), period })),
    emails: list(fc.record({ value: email, use: use("work") })),
    addresses: list(fc.oneof(fc.record({ text, country: use("DE", "CH") }), address)),
    contacts: list(fc.record({ name: text, relationship: optional(text), phone: optional(phone), address: optional(text) })),
    dateOfBirth: fc.constantFrom("1976-05-12", "1976-05", "1976"),
    dateOfBirthEstimated: optional(fc.boolean()),
    deceased: optional(fc.constantFrom(true, false, "2026-05-12")),
    maritalStatus: use("married", "widowed"),
    languages: list(fc.record({ language: fc.constantFrom("de", "pt-BR") })),
    generalPractitioner: optional(text),
    managingSite: optional(text),
    fhirElements: optional(text),
    sex: use("female", "male", "other", "unknown"),
    registeredDate: optional(fc.constant("2026-01-28")),
    identifiers: optional(
      fc.uniqueArray(fc.record({ system: fc.constantFrom("a", "b"), value: fc.uuid() }), { selector: ({ system }) => system }),
    ),
  })
  .map((fields) => JSON.parse(JSON.stringify(fields)));

async function exported(client: Client, format: string): Promise<string> {
  return (await client.send("GET", `/patients:export?format=${format.replace("excel", "csv&excel=true")}`)).text;
}

test.each(["ndjson", "csv", "excel"])("export as %s, import and export give the same bytes", async (format) => {
  const read = readers[format === "ndjson" ? "ndjson" : "csv"] ?? (() => ({}));
  const contentType = { "content-type": format === "ndjson" ? "application/x-ndjson" : "text/csv" };
  await fc.assert(
    fc.asyncProperty(fc.array(body, { minLength: 1, maxLength: 20 }), async (bodies) => {
      const [owner, heir] = [service.as("user"), other.as("user")];
      const file = bodies.map((one) => `${JSON.stringify(one)}\n`).join("");
      const created = await owner.send("POST", "/patients:import", file, { "content-type": "application/x-ndjson" });
      expect(created.body).toMatchObject({ created: bodies.length, errors: [] });
      const text = await exported(owner, format);
      const { body } = await heir.send("POST", "/patients:import", text, contentType);
      expect(body).toMatchObject({ created: bodies.length, failed: 0, ignoredColumns: [] });
      const before = read(text);
      expect(Object.keys(before).length).toBe(bodies.length);
      expect(read(await exported(heir, format))).toEqual(before);
    }),
    { numRuns: 15 },
  );
});

test("Excel gets a byte order mark, and texts that look like numbers in its quotes", async () => {
  const owner = service.as("user");
  await owner.send("POST", "/patients", { name: "Ada", dateOfBirth: "1976", address: { zipCode: "0150" }, phoneNumber: "+12125550123" });
  const headers = { authorization: `Bearer ${owner.caller.token}` };
  const response = await service.app.request("/patients:export?excel=true", { headers });
  const text = Buffer.from(await response.arrayBuffer()).toString();
  expect(text.startsWith("\uFEFFid,name,")).toBe(true);
  expect(text).toContain('"=""0150"""');
  expect(text).toContain('"=""+12125550123"""');
  expect((await owner.send("GET", "/patients:export?format=ndjson&excel=true")).status).toBe(400);
});
