import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { inflateSync } from "node:zlib";
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { registerTrail } from "@pm/kit/auditor/rest";
import { createRestApp } from "@pm/kit/http/rest";
import { createLogger } from "@pm/kit/log";
import { formatMoney } from "@pm/kit/money";
import {
  AddresseeSchema,
  GetStatementResponseSchema,
  InvoiceSchema,
  InvoiceStatus,
  TransactionSchema,
  TransactionType,
} from "@pm/proto/billing/v1/billing";
import fc from "fast-check";
import { expect, test } from "vitest";
import { invoiceDocument } from "../src/documents/document.ts";
import { toHtml } from "../src/documents/html.ts";
import { toPdf, writable } from "../src/documents/pdf.ts";
import { about, registerDocuments } from "../src/documents/rest.ts";
import { statementDocument } from "../src/documents/statement-document.ts";
import { registerBooks } from "../src/ledger/journal-rest.ts";
import { registerTotals } from "../src/ledger/rest.ts";

const golden = join(import.meta.dirname, "..", "openapi.json");
const lifecycle = { onClose: () => undefined, onReady: () => undefined, notReady: async () => [], shutdown: async () => undefined };
const clinic = { name: "Lakeside Clinic", address: "1 Harbour Street", paymentDetails: "Pay at the reception." };
const euros = (minorUnits: bigint) => ({ currencyCode: "EUR", minorUnits });
const patient = { name: "Łucja Παπαδοπούλου", email: "lucja@example.com" };
const invoice = create(InvoiceSchema, {
  addressee: patient,
  patientName: patient.name,
  number: "2026-000007",
  status: InvoiceStatus.ISSUED,
  total: euros(12_500n),
  outstanding: euros(2_500n),
  issueDate: "2026-11-21",
  dueDate: "2026-12-21",
  lines: [{ serviceDate: "2026-11-20", description: "Consultation", amount: euros(12_500n) }],
});
const addressedTo = (addressee: { name: string; email: string }) =>
  create(InvoiceSchema, { ...invoice, addressee: create(AddresseeSchema, addressee) });

const textOf = async (pieces: AsyncIterable<string>) => (await Array.fromAsync(pieces)).join("");

test("the OpenAPI document is the one that was checked in (UPDATE=1 rewrites it)", async () => {
  const verifier = { verify: () => Promise.reject(new Error("nobody is asked")), onRevoked: () => () => undefined };
  const rest = createRestApp({
    service: "billing",
    ...about,
    log: createLogger("test", "silent"),
    lifecycle,
    verifier,
    audit: { record: async () => undefined },
  });
  registerDocuments(rest, {} as never);
  registerBooks(rest, {} as never);
  registerTotals(rest, {} as never);
  registerTrail(rest, { service: "billing" } as never);
  const document = `${JSON.stringify(await (await rest.app.request("/openapi.json")).json(), null, 2)}\n`;
  if (process.env.UPDATE) writeFileSync(golden, document);
  expect(document).toBe(readFileSync(golden, "utf8"));
});

test("an invoice says what is to be paid, by when, and by whom", async () => {
  const page = await textOf(toHtml(invoiceDocument(invoice, clinic)));
  for (const part of [
    "Invoice 2026-000007",
    "Łucja Παπαδοπούλου",
    "20 Nov 2026",
    "€125.00",
    "-€100.00",
    "€25.00",
    "Please pay by 21 Dec 2026",
  ])
    expect(page).toContain(part);
});

const vat = (rateBasisPoints: number, net: bigint, tax: bigint) => ({
  ...{ code: "VAT", rateBasisPoints, net: euros(net), tax: euros(tax), gross: euros(net + tax) },
});

test("an invoice with tax names it on each line, and has net and tax of each rate over the total", async () => {
  const taxes = [{ gross: euros(500n), net: euros(500n), tax: euros(0n) }, vat(725, 1_000n, 73n), vat(1_900, 10_000n, 1_900n)];
  const lines = [
    { serviceDate: "2026-11-20", description: "Lens", amount: euros(11_900n), tax: vat(1_900, 10_000n, 1_900n) },
    { serviceDate: "2026-11-20", description: "Consultation", amount: euros(500n) },
  ];
  const taxed = create(InvoiceSchema, { total: euros(13_473n), lines, taxes });
  const document = invoiceDocument({ ...invoice, total: taxed.total, lines: taxed.lines, taxes: taxed.taxes }, clinic);
  expect(document.table.columns.map(({ label }) => label)).toEqual(["Date", "Service", "Tax", "Amount"]);
  expect(document.table.columns.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1);
  expect(document.table.rows.map((row) => row[2])).toEqual(["VAT 19%", ""]);
  expect(document.totals.slice(0, 6)).toEqual([
    { label: "Without tax", value: "€5.00" },
    { label: "Net, VAT 7.25%", value: "€10.00" },
    { label: "VAT 7.25%", value: "€0.73" },
    { label: "Net, VAT 19%", value: "€100.00" },
    { label: "VAT 19%", value: "€19.00" },
    { label: "Total", value: "€134.73" },
  ]);
  expect(await textOf(toHtml(document))).toContain("<dt>Net, VAT 7.25%</dt><dd>€10.00</dd>");
  const many = Array.from({ length: 200 }, (_, index) => ({ ...vat(index, 100n, 1n), code: "A tax of a long name" }));
  const long = invoiceDocument({ ...invoice, taxes: create(InvoiceSchema, { taxes: many }).taxes }, clinic);
  const pdf = Buffer.concat(await Array.fromAsync(toPdf(long, new Date(0))));
  // 400 sums, of which each page has at least fifteen.
  expect(pdf.toString("latin1").match(/\/Type \/Page\b/g)?.length).toBeLessThan(30);
});

test.each([
  [InvoiceStatus.DRAFT, "Draft", "not a request for payment"],
  [InvoiceStatus.PAID, "Paid", "is paid"],
  [InvoiceStatus.VOID, "Void", "Nothing is to be paid"],
])("an invoice that is not to be paid says so (%s)", async (status, stamp, note) => {
  const page = await textOf(toHtml(invoiceDocument(create(InvoiceSchema, { ...invoice, status }), clinic)));
  expect(page).toContain(`<p class="stamp">${stamp}</p>`);
  expect(page).toContain(note);
  expect(page).not.toContain("Please pay");
});

test("the addressee of somebody without e-mail is their name alone", () => {
  expect(invoiceDocument(addressedTo({ ...patient, email: "" }), clinic).addressee).toEqual([patient.name]);
});

test("nothing that a person wrote becomes markup", async () => {
  await fc.assert(
    fc.asyncProperty(fc.string({ unit: "binary" }), async (text) => {
      const lines = [{ serviceDate: "2026-11-20", description: `<script>${text}`, amount: euros(1n) }];
      const written = `<img ${text}>`;
      const addressee = { payerId: "1", name: written, address: written, email: text, reference: written };
      const document = invoiceDocument(create(InvoiceSchema, { lines, addressee, patientName: written }), clinic);
      expect(await textOf(toHtml(document))).not.toMatch(/<script|<img/);
    }),
    { numRuns: 50 },
  );
});

test("a long document has a table with its head on each page, numbers its pages and stays tagged", { timeout: 60_000 }, async () => {
  const lines = Array.from({ length: 120 }, (_, index) => ({
    serviceDate: "2026-11-20",
    description: `Visit ${index} ${"that took long ".repeat(index % 9)}`,
    amount: euros(100n),
  }));
  const document = invoiceDocument({ ...invoice, lines: create(InvoiceSchema, { lines }).lines }, clinic);
  const pdf = Buffer.concat(await Array.fromAsync(toPdf(document, new Date(0))));
  const text = pdf.toString("latin1");
  const pages = text.match(/\/Type \/Page\b/g)?.length ?? 0;
  const tables = text.match(/\/S \/Table\b/g)?.length ?? 0;
  expect(pages).toBeGreaterThan(3);
  // The last page may have the sums only.
  expect([pages, pages - 1]).toContain(tables);
  expect(text.match(/\/S \/TH\b/g)).toHaveLength(3 * tables);
  expect(text.match(/\/S \/TR\b/g)).toHaveLength(120 + tables);
  expect(contents(pdf).filter((content) => content.includes("/Type /Pagination"))).toHaveLength(pages);
});

/** The compressed streams of a PDF, inflated. */
function contents(pdf: Buffer): string[] {
  const streams: string[] = [];
  for (let at = pdf.indexOf("\nstream\n"); at !== -1; at = pdf.indexOf("\nstream\n", at + 1)) {
    const bytes = pdf.subarray(at + "\nstream\n".length, pdf.indexOf("\nendstream", at));
    if (bytes[0] === 0x78) streams.push(inflateSync(bytes).toString("latin1"));
  }
  return streams;
}

test("what the PDF's font lacks is not printed as empty boxes, and a note says where to read it", async () => {
  const document = invoiceDocument(addressedTo({ name: "田中 太郎 (Tanaka) Łucja", email: "t@example.com" }), clinic);
  const hasNoHan = (codePoint: number) => codePoint < 0x3000;
  expect(writable(document, hasNoHan)).toMatchObject({
    addressee: ["[…] (Tanaka) Łucja", "t@example.com"],
    notes: [...document.notes, expect.stringContaining("format=html")],
  });
  const whole = invoiceDocument(invoice, clinic);
  expect(writable(whole, hasNoHan)).toBe(whole);
  // With the real fonts, the note is one paragraph more.
  const paragraphs = async (name: string) => {
    const pdf = Buffer.concat(await Array.fromAsync(toPdf(invoiceDocument(addressedTo({ ...patient, name }), clinic), new Date(0))));
    return pdf.toString("latin1").match(/\/S \/P\b/g)?.length ?? 0;
  };
  expect(await paragraphs("田中")).toBe((await paragraphs(patient.name)) + 1);
});

test("amounts are written with every digit that they have, and with as many decimals as the currency has", () => {
  expect(formatMoney(euros(9_007_199_254_740_992n))).toBe("€90,071,992,547,409.92");
  expect([formatMoney({ currencyCode: "JPY", minorUnits: 1_234n }), formatMoney({ currencyCode: "KWD", minorUnits: -5n })]).toEqual([
    "¥1,234",
    "-KWD\u00a00.005",
  ]);
  fc.assert(
    fc.property(fc.bigInt(-(2n ** 62n), 2n ** 62n), (minorUnits) => {
      const digits = formatMoney(euros(minorUnits)).replace(/[^\d]/g, "");
      expect(BigInt(digits)).toBe(minorUnits < 0n ? -minorUnits : minorUnits);
    }),
  );
});

test("a statement gives each transaction the day that it was in the clinic's zone", async () => {
  const createTime = timestampFromMs(Date.parse("2026-12-31T23:30:00Z"));
  const statement = create(GetStatementResponseSchema, { fromDate: "2027-01-01", toDate: "2027-01-31" });
  const dayIn = async (zone: string) => {
    const parts = (async function* () {
      yield { statement, transactions: [create(TransactionSchema, { createTime })] };
    })();
    const { rows } = statementDocument({ statement, parts, linked: [] }, clinic, zone).table;
    return (await Array.fromAsync(rows as AsyncIterable<string[][]>)).flat().at(-1)?.[0];
  };
  const days = await Promise.all(["UTC", "Europe/Berlin", "America/New_York"].map(dayIn));
  expect(days).toEqual(["31 Dec 2026", "1 Jan 2027", "31 Dec 2026"]);
});

test("a statement gives a payment the day on which it was made, and when it was posted if that was another day", async () => {
  const createTime = timestampFromMs(Date.parse("2027-01-05T10:00:00Z"));
  const statement = create(GetStatementResponseSchema, { fromDate: "2027-01-01", toDate: "2027-01-31" });
  const paid = (paymentDate: string) =>
    create(TransactionSchema, { createTime, paymentDate, type: TransactionType.PAYMENT, description: "Transfer" });
  const parts = (async function* () {
    yield { statement, transactions: ["2027-01-02", "2027-01-05", ""].map(paid) };
  })();
  const { rows } = statementDocument({ statement, parts, linked: [] }, clinic, "UTC").table;
  const shown = (await Array.fromAsync(rows as AsyncIterable<string[][]>)).flat().slice(1);
  expect(shown.map((row) => row.slice(0, 2))).toEqual([
    ["2 Jan 2027", "Payment: Transfer (posted 5 Jan 2027)"],
    ["5 Jan 2027", "Payment: Transfer"],
    ["5 Jan 2027", "Payment: Transfer"],
  ]);
});

test("a statement says how to pay if any of the linked accounts owes something, and whose sums it has", () => {
  const of = (minorUnits: bigint) =>
    create(GetStatementResponseSchema, { fromDate: "2027-01-01", toDate: "2027-01-31", closingBalance: euros(minorUnits) });
  const print = (own: bigint, ...others: bigint[]) => {
    const statement = { ...of(own), linkedStatements: others.map(of) };
    const { notes, totals } = statementDocument({ statement, parts: noParts(), linked: [] }, clinic, "UTC");
    return { notes, isOfThisAccount: totals.every(({ label }) => label.endsWith("(this account)")) };
  };
  const notes = [clinic.paymentDetails];
  expect(print(0n, 10_000n)).toEqual({ notes, isOfThisAccount: true });
  expect(print(-10_000n, 10_000n)).toEqual({ notes, isOfThisAccount: true });
  expect(print(10_000n)).toEqual({ notes, isOfThisAccount: false });
  expect(print(0n, 0n)).toEqual({ notes: [], isOfThisAccount: true });
});

async function* noParts(): AsyncGenerator<never> {}
