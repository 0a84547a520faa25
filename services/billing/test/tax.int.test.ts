/** Tax over the network: charges, documents, books, refusals, and a version before that knows no tax. */
import { randomUUID } from "node:crypto";
import { Code } from "@connectrpc/connect";
import { TaxMode } from "@pm/proto/billing/v1/billing";
import { BadRequestSchema, ErrorInfoSchema } from "@pm/proto/google/rpc/error_details";
import { afterAll, expect, test } from "vitest";
import { CreditNoteJsonSchema, InvoiceJsonSchema } from "../src/documents/schemas.ts";
import { verifyLedger } from "../src/ledger/verification-store.ts";
import { openCounter, openReplica } from "./testing.ts";

const { billing, issuer, clerk, headers, client, newAccount, rows, failure, databaseUrl, close } = await openCounter();
const ledger = openReplica(databaseUrl);
afterAll(async () => {
  await ledger.close();
  await close();
});

const euros = (minorUnits: bigint) => ({ currencyCode: "EUR", minorUnits });
const vat = (rateBasisPoints: number, mode = TaxMode.EXCLUSIVE, code = "VAT") => ({ code, rateBasisPoints, mode });
type Tax = ReturnType<typeof vat>;
const charge = async (accountId: string, minorUnits: bigint, tax?: Tax, requestId: string = randomUUID()) => {
  const request = { accountId, amount: euros(minorUnits), description: "Lens", requestId, ...(tax && { tax }) };
  return (await client.createCharge(request, headers)).charge;
};
const draftOf = async (accountId: string) => (await client.createInvoice({ accountId, requestId: randomUUID() }, headers)).invoice;
const get = (path: string, authorization = clerk) => fetch(`${billing.url}${path}`, { headers: { authorization } });
const today = new Date().toISOString().slice(0, 10);

test("a charge says what tax is in its amount, whether it was added or was in it before", async () => {
  const accountId = await newAccount();
  const tax = { code: "VAT", rateBasisPoints: 1_900, net: euros(10_000n), tax: euros(1_900n), gross: euros(11_900n) };
  const added = await charge(accountId, 10_000n, vat(1_900));
  expect(added).toMatchObject({ amount: euros(11_900n), outstanding: euros(11_900n), tax });
  expect(await charge(accountId, 11_900n, vat(1_900, TaxMode.INCLUSIVE))).toMatchObject({ amount: euros(11_900n), tax });
  const exempt = await charge(accountId, 10_000n, vat(0, TaxMode.EXCLUSIVE, "Exempt"));
  expect(exempt).toMatchObject({ amount: euros(10_000n), tax: { code: "Exempt", rateBasisPoints: 0, tax: euros(0n) } });
  expect((await charge(accountId, 10_000n))?.tax).toBeUndefined();
  const { charges } = await client.listCharges({ accountId }, headers);
  expect(charges.at(-1)).toEqual(added);
  const { transactions } = await client.listTransactions({ accountId }, headers);
  expect(transactions.at(-1)?.entries.map(({ ledgerAccount, amount }) => [ledgerAccount, amount?.minorUnits])).toEqual([
    [1, 11_900n],
    [6, -1_900n],
    [3, -10_000n],
  ]);
});

test("a repeated charge with another tax is another request, and a wrong tax is refused by its field", async () => {
  const accountId = await newAccount();
  const requestId = randomUUID();
  const first = await charge(accountId, 10_000n, vat(1_900), requestId);
  expect(await charge(accountId, 10_000n, vat(1_900), requestId)).toEqual(first);
  for (const other of [vat(700), vat(1_900, TaxMode.INCLUSIVE), vat(1_900, TaxMode.EXCLUSIVE, "GST"), undefined])
    expect((await failure(charge(accountId, 10_000n, other, requestId))).findDetails(ErrorInfoSchema)[0]?.reason).toBe("REQUEST_ID_REUSED");
  const wrong: [Tax, string, string][] = [
    [vat(-1), "tax.rate_basis_points", "0"],
    [vat(10_001), "tax.rate_basis_points", "10000"],
    [vat(1_900, TaxMode.UNSPECIFIED), "tax.mode", "TAX_MODE_EXCLUSIVE"],
    [vat(1_900, 3 as TaxMode), "tax.mode", "TAX_MODE_INCLUSIVE"],
    [vat(1_900, TaxMode.EXCLUSIVE, ""), "tax.code", "must not be empty"],
    [vat(1_900, TaxMode.EXCLUSIVE, "x".repeat(21)), "tax.code", "20"],
    [vat(1_900, TaxMode.EXCLUSIVE, "\u200b"), "tax.code", "visible"],
  ];
  for (const [tax, field, fix] of wrong) {
    const error = await failure(charge(accountId, 100n, tax));
    expect(error.code).toBe(Code.InvalidArgument);
    expect(error.findDetails(BadRequestSchema)[0]?.fieldViolations).toMatchObject([{ field, description: expect.stringContaining(fix) }]);
  }
  expect(await charge(accountId, 10n ** 12n, vat(10_000))).toMatchObject({ amount: euros(2n * 10n ** 12n) });
});

test("an invoice and its credit note sum up each rate, after a discount too, on paper and as JSON", async () => {
  const accountId = await newAccount();
  const lens = await charge(accountId, 10_000n, vat(1_900));
  await charge(accountId, 10_700n, vat(700, TaxMode.INCLUSIVE));
  await charge(accountId, 5_000n);
  const invoiceId = (await draftOf(accountId))?.invoiceId ?? "";
  const reductions = [{ chargeId: lens?.chargeId ?? "", amount: euros(3_967n) }];
  await client.discountInvoice({ invoiceId, reductions, reason: "Family", requestId: randomUUID() }, headers);
  const { invoice } = await client.issueInvoice({ invoiceId, requestId: randomUUID() }, headers);
  expect(invoice?.total).toMatchObject(euros(23_633n));
  expect(invoice?.lines.map(({ tax }) => tax?.tax?.minorUnits)).toEqual([1_900n, 700n, undefined, -633n]);
  expect(
    invoice?.taxes.map((sum) => [sum.code, sum.rateBasisPoints, ...[sum.net, sum.tax, sum.gross].map((each) => each?.minorUnits)]),
  ).toEqual([
    ["", 0, 5_000n, 0n, 5_000n],
    ["VAT", 700, 10_000n, 700n, 10_700n],
    ["VAT", 1_900, 6_666n, 1_267n, 7_933n],
  ]);
  const html = await (await get(`/billing/invoices/${invoiceId}`)).text();
  for (const text of ["<td>VAT 19%</td>", "<dt>Net, VAT 7%</dt><dd>€100.00</dd>", "<dt>VAT 19%</dt><dd>€12.67</dd>", "€236.33"])
    expect(html).toContain(text);
  expect((await get(`/billing/invoices/${invoiceId}?format=pdf`)).status).toBe(200);
  const json = (await (await get(`/billing/invoices/${invoiceId}?format=json`)).json()) as object;
  expect(InvoiceJsonSchema.parse(json)).toEqual(json);

  // What was paid of it becomes credit, with its tax.
  await client.recordPayment({ accountId, amount: euros(23_633n), requestId: randomUUID() }, headers);
  const { creditNote } = await client.createCreditNote({ invoiceId, reductions, reason: "Broken", requestId: randomUUID() }, headers);
  expect(creditNote).toMatchObject({ total: euros(3_967n), taxes: [{ rateBasisPoints: 1_900, net: euros(3_333n), tax: euros(634n) }] });
  const { creditNote: rest } = await client.createCreditNote({ invoiceId, reason: "All of it", requestId: randomUUID() }, headers);
  expect(rest?.taxes.map(({ tax }) => tax?.minorUnits)).toEqual([0n, 700n, 633n]);
  const path = `/billing/credit-notes/${creditNote?.creditNoteId}`;
  expect(await (await get(path)).text()).toContain("<dt>Net, VAT 19%</dt><dd>€33.33</dd>");
  const noteJson = (await (await get(`${path}?format=json`)).json()) as object;
  expect(CreditNoteJsonSchema.parse(noteJson)).toEqual(noteJson);
  expect(await rows("select revenue, tax_payable, credit from accounts where id = $1", [accountId])).toEqual([
    { revenue: 0n, tax_payable: 0n, credit: 23_633n },
  ]);
  expect(await verifyLedger(ledger.db.pool)).toMatchObject({ holds: true, findings: [] });
});

test("a write-off leaves the tax payable", async () => {
  const accountId = await newAccount();
  const made = await charge(accountId, 10_000n, vat(1_900));
  const target = { case: "chargeId" as const, value: made?.chargeId ?? "" };
  await client.writeOff({ target, reason: "Insolvent", requestId: randomUUID() }, headers);
  expect(await rows("select revenue, tax_payable, bad_debt from accounts where id = $1", [accountId])).toEqual([
    { revenue: 10_000n, tax_payable: 1_900n, bad_debt: 11_900n },
  ]);
});

test("a tax that does not follow from its amount cannot be stored, so a version that knows no tax changes no taxed charge", async () => {
  const accountId = await newAccount();
  const { chargeId } = (await charge(accountId, 10_000n, vat(1_900))) ?? {};
  for (const change of ["voided_at = now()", "reduced = 100", "tax_payable = 1901", "tax_rate = 700", "tax_code = ''"])
    await expect(rows(`update charges set ${change} where id = $1`, [chargeId])).rejects.toThrow(/charges_tax_(follows|rate)/);
  await expect(rows("update accounts set tax_payable = 0 where id = $1", [accountId])).rejects.toThrow("accounts_in_balance");
});

test("the tax summary has each currency, rate and kind of a period, as CSV and NDJSON, and people with billing:read see it", async () => {
  const accountId = await newAccount();
  await client.updateBillingAccount({ account: { accountId, currencyCode: "CHF" }, requestId: randomUUID() }, headers);
  const francs = (minorUnits: bigint) => ({ currencyCode: "CHF", minorUnits });
  const make = async (minorUnits: bigint, tax?: Tax) => {
    const request = { accountId, amount: francs(minorUnits), description: "Lens", requestId: randomUUID(), ...(tax && { tax }) };
    return (await client.createCharge(request, headers)).charge?.chargeId ?? "";
  };
  await make(2_000n);
  const [first, second] = [await make(10_000n, vat(810)), await make(10_000n, vat(810))];
  const formula = await make(100n, vat(250, TaxMode.EXCLUSIVE, "=VAT"));
  await client.voidCharge({ chargeId: formula, reason: "Mistake", requestId: randomUUID() }, headers);
  const invoiceId = (await draftOf(accountId))?.invoiceId ?? "";
  const cut = (chargeId: string, minorUnits: bigint) => ({ invoiceId, reductions: [{ chargeId, amount: francs(minorUnits) }] });
  await client.discountInvoice({ ...cut(first, 1_081n), reason: "Family", requestId: randomUUID() }, headers);
  await client.issueInvoice({ invoiceId, requestId: randomUUID() }, headers);
  await client.createCreditNote({ ...cut(second, 10_810n), reason: "Broken", requestId: randomUUID() }, headers);

  const answer = await get(`/billing/tax-summary?from=${today}&to=${today}`);
  expect(answer.headers.get("content-type")).toBe("text/csv; charset=utf-8");
  expect(answer.headers.get("content-disposition")).toContain(`tax-summary-${today}-${today}.csv`);
  const lines = (await answer.text()).trim().split("\n");
  expect(lines[0]).toBe("currencyCode,taxCode,taxRateBasisPoints,type,count,netMinorUnits,taxMinorUnits,grossMinorUnits");
  expect(lines.filter((line) => line.startsWith("CHF"))).toEqual([
    "CHF,,0,CHARGE,1,2000,0,2000",
    "CHF,'=VAT,250,CHARGE,1,100,3,103",
    "CHF,'=VAT,250,VOID,1,-100,-3,-103",
    "CHF,VAT,810,CHARGE,2,20000,1620,21620",
    "CHF,VAT,810,CREDIT_NOTE,1,-10000,-810,-10810",
    "CHF,VAT,810,DISCOUNT,1,-1000,-81,-1081",
  ]);
  const ndjson = await get(`/billing/tax-summary?from=${today}&to=${today}&format=ndjson`);
  expect(ndjson.headers.get("content-type")).toBe("application/x-ndjson");
  const objects = (await ndjson.text())
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(objects).toContainEqual({
    ...{ currencyCode: "CHF", taxCode: "VAT", taxRateBasisPoints: 810, type: "DISCOUNT", count: 1 },
    ...{ netMinorUnits: "-1000", taxMinorUnits: "-81", grossMinorUnits: "-1081" },
  });
  expect(objects).toHaveLength(lines.length - 1);
  expect(await (await get("/billing/tax-summary?from=2020-01-01&to=2020-12-31&format=ndjson")).text()).toBe("");
  const audited = await rows("select subject, details from audit_entries where action = 'tax_summary.exported' order by id limit 1");
  expect(audited).toEqual([{ subject: "tax summary", details: { from: today, to: today, format: "csv" } }]);

  for (const [query, field] of [
    ["from=2026-02-30&to=2026-03-01", "from"],
    ["from=2026-03-01&to=2026-02-01", "to"],
    [`from=${today}&to=${today}&format=pdf`, "format"],
  ]) {
    const refused = await get(`/billing/tax-summary?${query}`);
    expect([refused.status, JSON.stringify(await refused.json())]).toEqual([400, expect.stringContaining(`"${field}"`)]);
  }
  expect((await get(`/billing/tax-summary?from=${today}&to=${today}`, await issuer.person("user"))).status).toBe(403);
});
