/** The methods over the network: invoices, statements, pages, updates and invalid input. */
import { randomUUID } from "node:crypto";
import { Code } from "@connectrpc/connect";
import { BillingAccountStatus, InvoiceStatus, TransactionType } from "@pm/proto/billing/v1/billing";
import { BadRequestSchema, ErrorInfoSchema } from "@pm/proto/google/rpc/error_details";
import { afterAll, expect, test } from "vitest";
import { CreditNoteJsonSchema, InvoiceJsonSchema, StatementJsonSchema } from "../src/documents/schemas.ts";
import { openCounter } from "./testing.ts";

const { billing, issuer, clerk, headers, client, newAccount, rows, failure, post, close } = await openCounter();
afterAll(close);

const charge = (accountId: string, minorUnits: bigint, description = "Consultation") =>
  client.createCharge({ accountId, amount: { currencyCode: "EUR", minorUnits }, description, requestId: randomUUID() }, headers);
const pay = (accountId: string, minorUnits: bigint) =>
  client.recordPayment({ accountId, amount: { currencyCode: "EUR", minorUnits }, requestId: randomUUID() }, headers);
const page = (path: string, accept = "text/html", authorization = clerk) =>
  fetch(`${billing.url}${path}`, { headers: { accept, ...(authorization && { authorization }) } });

test("an invoice goes from draft over issued to paid, and the year's numbers have no gaps", async () => {
  const accountId = await newAccount();
  await charge(accountId, 10_000n, "Consultation");
  await charge(accountId, 5_000n, "Blood count");
  const { invoice: draft } = await client.createInvoice({ accountId, requestId: randomUUID() }, headers);
  expect(draft).toMatchObject({ number: "", status: InvoiceStatus.DRAFT, total: { minorUnits: 15_000n }, lines: [{}, {}] });
  const nothing = await failure(client.createInvoice({ accountId, requestId: randomUUID() }, headers));
  expect(nothing.findDetails(ErrorInfoSchema)[0]?.reason).toBe("NOTHING_TO_INVOICE");
  const request = { invoiceId: draft?.invoiceId ?? "", etag: draft?.etag ?? "", requestId: randomUUID() };
  const { invoice: issued } = await client.issueInvoice(request, headers);
  expect(await client.issueInvoice(request, headers)).toMatchObject({ invoice: { number: issued?.number } });
  expect((await failure(client.issueInvoice({ ...request, requestId: randomUUID() }, headers))).code).toBe(Code.Aborted);
  const year = new Date().getUTCFullYear();
  expect(issued).toMatchObject({ status: InvoiceStatus.ISSUED, number: expect.stringMatching(new RegExp(`^${year}-\\d{6}$`)) });
  await pay(accountId, 15_000n);
  expect((await client.getInvoice({ invoiceId: draft?.invoiceId ?? "" }, headers)).invoice?.status).toBe(InvoiceStatus.PAID);

  const others = await Promise.all(Array.from({ length: 12 }, newAccount));
  const made = await Promise.all(
    others.map(async (id) => {
      await charge(id, 1_000n);
      return (await client.createInvoice({ accountId: id, issue: true, requestId: randomUUID() }, headers)).invoice;
    }),
  );
  const numbers = [issued, ...made].map((each) => Number(each?.number.split("-")[1])).sort((a, b) => a - b);
  expect(numbers).toEqual(numbers.map((_, index) => (numbers[0] ?? 0) + index));
  const { invoice: voided } = await client.voidInvoice(
    { invoiceId: made[0]?.invoiceId ?? "", reason: "Wrong patient", requestId: randomUUID() },
    headers,
  );
  expect(voided).toMatchObject({ status: InvoiceStatus.VOID, number: made[0]?.number, outstanding: { minorUnits: 0n } });
  expect((await client.listCharges({ accountId: others[0] ?? "", uninvoicedOnly: true }, headers)).charges).toHaveLength(1);
  expect((await client.listInvoices({ status: InvoiceStatus.PAID }, headers)).invoices.map((each) => each.invoiceId)).toEqual([
    draft?.invoiceId,
  ]);
});

test("an invoice is shown as HTML, PDF and JSON, as Accept or format say", async () => {
  const accountId = await newAccount();
  await charge(accountId, 123_450n, '<b>Stitches & "plaster"</b>');
  const { invoice } = await client.createInvoice({ accountId, issue: true, requestId: randomUUID() }, headers);
  const path = `/billing/invoices/${invoice?.invoiceId}`;
  const html = await page(path);
  expect(html.headers.get("content-security-policy")).toContain("default-src 'none'");
  const text = await html.text();
  expect(text).toContain("&lt;b&gt;Stitches &amp; &quot;plaster&quot;&lt;/b&gt;");
  for (const part of [`Invoice ${invoice?.number}`, "€1,234.50", '<html lang="en">', '<th scope="col"']) expect(text).toContain(part);
  const pdf = await page(path, "application/pdf");
  expect(pdf.headers.get("content-type")).toBe("application/pdf");
  const bytes = Buffer.from(await pdf.arrayBuffer()).toString("latin1");
  for (const part of ["%PDF-1.7", "/StructTreeRoot", "/Marked true", "/Lang (en)", "/DisplayDocTitle true"]) expect(bytes).toContain(part);
  expect(await (await page(`${path}?format=json`)).json()).toMatchObject({ number: invoice?.number });
  expect((await page(path, "image/png")).status).toBe(406);
  expect((await page(path, "*/*")).headers.get("content-type")).toBe("text/html; charset=utf-8");
  expect((await page(path, "text/html", "")).status).toBe(401);
  expect((await page(path, "text/html", await issuer.person("user"))).status).toBe(403);
  expect((await page(`/billing/invoices/${randomUUID()}`)).status).toBe(404);
  expect((await page("/billing/invoices/x")).status).toBe(400);
});

test("invoices and statements as JSON have the form that the API document describes, and nothing else", async () => {
  const accountId = await newAccount();
  await charge(accountId, 1_000n);
  const { payment } = await pay(accountId, 2_000n);
  const { charge: second } = await charge(accountId, 500n);
  await client.voidCharge({ chargeId: second?.chargeId ?? "", reason: "Mistake", requestId: randomUUID() }, headers);
  await client.refundPayment({ paymentId: payment?.paymentId ?? "", reason: "Cancelled", requestId: randomUUID() }, headers);
  const { invoice: draft } = await client.createInvoice({ accountId, requestId: randomUUID() }, headers);
  const { invoice } = await client.issueInvoice({ invoiceId: draft?.invoiceId ?? "", requestId: randomUUID() }, headers);
  const voiding = { invoiceId: invoice?.invoiceId ?? "", reason: "Mistake", requestId: randomUUID() };
  const path = `/billing/invoices/${draft?.invoiceId}`;
  const shown = [await (await page(path, "application/json")).json()];
  await client.voidInvoice(voiding, headers);
  shown.push(await (await page(path, "application/json")).json());
  for (const json of shown) expect(InvoiceJsonSchema.parse(json)).toEqual(json);
  const today = new Date().toISOString().slice(0, 10);
  const statement = await (await page(`/billing/statements/${accountId}?from=2020-01-01&to=${today}`, "application/json")).json();
  expect(StatementJsonSchema.parse(statement)).toEqual(statement);
});

test("a credit note is shown as HTML, PDF and JSON, and an invoice says what was credited and written off", async () => {
  const accountId = await newAccount();
  const { charge: visit } = await charge(accountId, 10_000n, "Visit");
  const { invoice } = await client.createInvoice({ accountId, issue: true, requestId: randomUUID() }, headers);
  const invoiceId = invoice?.invoiceId ?? "";
  const reductions = [{ chargeId: visit?.chargeId ?? "", amount: { currencyCode: "EUR", minorUnits: 2_500n } }];
  const { creditNote } = await client.createCreditNote({ invoiceId, reductions, reason: "Too long", requestId: randomUUID() }, headers);
  await client.writeOff({ target: { case: "invoiceId", value: invoiceId }, reason: "Insolvent", requestId: randomUUID() }, headers);
  const id = creditNote?.creditNoteId ?? "";
  expect(await client.getCreditNote({ creditNoteId: id }, headers)).toMatchObject({ creditNote: { ...creditNote } });
  const html = await (await page(`/billing/credit-notes/${id}`)).text();
  for (const text of [creditNote?.number, invoice?.number, "Too long", "Visit", "€25.00"]) expect(html).toContain(text);
  const pdf = await page(`/billing/credit-notes/${id}`, "application/pdf");
  expect(
    Buffer.from(await pdf.arrayBuffer())
      .subarray(0, 5)
      .toString(),
  ).toBe("%PDF-");
  const json = await (await page(`/billing/credit-notes/${id}`, "application/json")).json();
  expect(CreditNoteJsonSchema.parse(json)).toEqual(json);
  const closed = await (await page(`/billing/invoices/${invoiceId}`)).text();
  for (const text of ["Credited", "-€25.00", "Written off", "-€75.00"]) expect(closed).toContain(text);
  const closedJson = await (await page(`/billing/invoices/${invoiceId}`, "application/json")).json();
  expect(InvoiceJsonSchema.parse(closedJson)).toEqual(closedJson);
  expect((await page(`/billing/credit-notes/${randomUUID()}`)).status).toBe(404);
});

test("a statement has the balances of its days, and its lines lead from one to the other", async () => {
  const accountId = await newAccount();
  await charge(accountId, 10_000n);
  await pay(accountId, 2_500n);
  const today = new Date().toISOString().slice(0, 10);
  const statement = await client.getStatement({ accountId, fromDate: "2020-01-01", toDate: today }, headers);
  expect(statement).toMatchObject({
    openingBalance: { minorUnits: 0n },
    closingBalance: { minorUnits: 7_500n },
    charged: { minorUnits: 10_000n },
    paid: { minorUnits: 2_500n },
  });
  expect(statement.transactions.map(({ amount, balance }) => [amount?.minorUnits, balance?.minorUnits])).toEqual([
    [10_000n, 10_000n],
    [-2_500n, 7_500n],
  ]);
  const html = await (await page(`/billing/statements/${accountId}?from=2020-01-01&to=${today}`)).text();
  for (const part of ["Balance brought forward", "-€25.00", "€75.00"]) expect(html).toContain(part);
  for (const [from, to] of [
    ["2026-02-30", today],
    [today, "2020-01-01"],
    ["yesterday", today],
  ])
    expect((await page(`/billing/statements/${accountId}?from=${from}&to=${to}`)).status).toBe(400);
});

test("pages of transactions neither repeat nor skip while new ones are posted", async () => {
  const accountId = await newAccount();
  for (let count = 0; count < 7; count += 1) await charge(accountId, 100n);
  const seen: bigint[] = [];
  let pageToken = "";
  do {
    const answer = await client.listTransactions({ accountId, pageSize: 3, pageToken, types: [TransactionType.CHARGE] }, headers);
    seen.push(...answer.transactions.map((transaction) => transaction.sequence));
    await charge(accountId, 100n);
    pageToken = answer.nextPageToken;
  } while (pageToken !== "");
  expect(seen).toEqual([7n, 6n, 5n, 4n, 3n, 2n, 1n]);
  const { nextPageToken } = await client.listTransactions({ accountId, pageSize: 3 }, headers);
  const error = await failure(
    client.listTransactions({ accountId, pageSize: 3, pageToken: nextPageToken, types: [TransactionType.VOID] }, headers),
  );
  expect(error.rawMessage).toContain("page_token");
});

test("an update changes what its mask names, once, and only the version that was seen", async () => {
  const accountId = await newAccount();
  const { account } = await client.getBillingAccount({ key: { case: "accountId", value: accountId } }, headers);
  const update = (changes: object, paths?: string[], requestId: string = randomUUID()) =>
    client.updateBillingAccount({ account: { accountId, ...changes }, requestId, ...(paths && { updateMask: { paths } }) }, headers);
  const requestId = randomUUID();
  const changes = { status: BillingAccountStatus.SUSPENDED, name: "Not this", etag: account?.etag ?? "" };
  const first = await update(changes, ["status"], requestId);
  expect(first.account).toMatchObject({ status: BillingAccountStatus.SUSPENDED, name: "Ada" });
  expect(await update(changes, ["status"], requestId)).toEqual(first);
  expect((await failure(update(changes, ["status"]))).code).toBe(Code.Aborted);
  expect((await failure(charge(accountId, 1n))).findDetails(ErrorInfoSchema)[0]?.reason).toBe("ACCOUNT_SUSPENDED");
  expect((await failure(update({ name: "" }, ["name"]))).code).toBe(Code.InvalidArgument);
  expect((await update({ email: "" }, ["email"])).account?.email).toBe("");
  expect((await failure(update({}, ["patient_id"]))).code).toBe(Code.InvalidArgument);
  await pay(accountId, 5n);
  const closing = await failure(update({ status: BillingAccountStatus.CLOSED }));
  expect(closing.findDetails(ErrorInfoSchema)[0]?.reason).toBe("ACCOUNT_NOT_SETTLED");
  expect(await rows("select type from outbox where key = $1 order by id", [accountId])).toEqual(
    ["account_opened", "account_status_changed", "payment_recorded"].map((name) => ({ type: `billing.v1.${name}` })),
  );
});

test("an account changes its currency until it has transactions, to one of ISO 4217 that is in use", async () => {
  const accountId = await newAccount();
  const update = (currencyCode: string, paths?: string[]) =>
    client.updateBillingAccount(
      { account: { accountId, currencyCode }, requestId: randomUUID(), ...(paths && { updateMask: { paths } }) },
      headers,
    );
  for (const code of ["HRK", "CUC", "ZWL", "XAU"]) {
    const refused = await failure(update(code));
    expect(refused.findDetails(BadRequestSchema)[0]?.fieldViolations).toMatchObject([{ field: "account.currency_code" }]);
  }
  expect((await failure(update("", ["currency_code"]))).code).toBe(Code.InvalidArgument);
  const { account } = await update("HUF");
  expect(account).toMatchObject({ currencyCode: "HUF", balance: { currencyCode: "HUF" } });
  expect(await rows("select type from outbox where key = $1 order by id", [accountId])).toEqual(
    ["account_opened", "account_currency_changed"].map((name) => ({ type: `billing.v1.${name}` })),
  );
  expect((await failure(charge(accountId, 1n))).code).toBe(Code.InvalidArgument);
  await update("EUR");
  // One wins: the account is changed before it is charged, or it is charged and keeps its currency.
  const [changed, charged] = await Promise.allSettled([update("USD"), charge(accountId, 1n)]);
  expect([changed.status, charged.status].toSorted()).toEqual(["fulfilled", "rejected"]);
  if (changed.status === "fulfilled") await update("EUR", ["currency_code"]).then(() => charge(accountId, 1n));
  const kept = await failure(update("USD"));
  expect([kept.code, kept.findDetails(ErrorInfoSchema)[0]?.reason]).toEqual([Code.FailedPrecondition, "ACCOUNT_HAS_TRANSACTIONS"]);
  expect((await update("EUR")).account?.currencyCode).toBe("EUR");
});

test("strange input is the caller's fault and never an internal error", async () => {
  const accountId = await newAccount();
  const body = (changes: object) =>
    JSON.stringify({ accountId, amount: { currencyCode: "EUR", minorUnits: "5" }, description: "x", requestId: randomUUID(), ...changes });
  const wrong = [
    { amount: undefined },
    { amount: { currencyCode: "EUR", minorUnits: "0" } },
    { amount: { currencyCode: "EUR", minorUnits: "-5" } },
    { amount: { currencyCode: "EUR", minorUnits: "1000000000001" } },
    { amount: { currencyCode: "EUR", minorUnits: "9007199254740993" } },
    { amount: { currencyCode: "EUR", minorUnits: "99999999999999999999" } },
    { amount: { currencyCode: "EUR", minorUnits: 1.5 } },
    { amount: { currencyCode: "USD", minorUnits: "5" } },
    { description: "a\u0000b" },
    { description: "\ud800" },
    { description: "" },
    { description: "x".repeat(501) },
    { serviceDate: "2026-02-30" },
    { serviceDate: "2999-01-01" },
    { requestId: "" },
    { requestId: "not-a-uuid" },
    { accountId: "' or 1=1 --" },
  ];
  for (const changes of wrong) {
    const answer = await post("CreateCharge", body(changes));
    expect([JSON.stringify(changes), ((await answer.json()) as { code: string }).code]).toEqual([
      JSON.stringify(changes),
      "invalid_argument",
    ]);
  }
  expect((await post("CreateCharge", body({ amount: { currencyCode: "EUR", minorUnits: "1000000000000" } }))).status).toBe(200);
  expect((await post("CreateCharge", body({ description: "x".repeat(2 ** 21) }))).status).toBeGreaterThanOrEqual(400);
});

test("the totals are for services only, and say what the ledger says", async () => {
  const answer = await page("/billing:totals", "application/json", await issuer.service("analytics"));
  const totals = (await answer.json()) as { currencies: Record<string, string>[]; transactions: number };
  expect(totals).toMatchObject({ timeZone: "UTC" });
  const [sums] = await rows(
    "select sum(receivable)::text as outstanding, sum(credit)::text as credit from accounts where currency = 'EUR'",
  );
  expect(totals.currencies[0]).toMatchObject({ currencyCode: "EUR", ...sums });
  expect((await page("/billing:totals", "application/json")).status).toBe(403);
});

test("a closed account takes no invoice, not even from a draft that there was", async () => {
  const accountId = await newAccount();
  await charge(accountId, 100n);
  await pay(accountId, 100n);
  const { invoice } = await client.createInvoice({ accountId, requestId: randomUUID() }, headers);
  const update = { account: { accountId, status: BillingAccountStatus.CLOSED }, requestId: randomUUID() };
  await client.updateBillingAccount(update, headers);
  const invoiceId = invoice?.invoiceId ?? "";
  const issue = await failure(client.issueInvoice({ invoiceId, requestId: randomUUID() }, headers));
  const cancel = await failure(client.voidInvoice({ invoiceId, reason: "Mistake", requestId: randomUUID() }, headers));
  for (const error of [issue, cancel]) expect(error.findDetails(ErrorInfoSchema)).toMatchObject([{ reason: "ACCOUNT_CLOSED" }]);
});
