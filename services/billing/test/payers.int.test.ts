/** Somebody else pays: payers, the accounts that they pay for, and the documents that are addressed to them. */
import { randomUUID } from "node:crypto";
import { Code } from "@connectrpc/connect";
import type { Queries } from "@pm/kit/postgres/transaction";
import { InvoiceStatus, PayerKind } from "@pm/proto/billing/v1/billing";
import { BadRequestSchema, ErrorInfoSchema } from "@pm/proto/google/rpc/error_details";
import { query } from "@pm/stack/native/postgres";
import { afterAll, expect, test } from "vitest";
import { totalsOfPayer } from "../src/accounts/store.ts";
import { CreditNoteJsonSchema, InvoiceJsonSchema, PayerStatementJsonSchema } from "../src/documents/schemas.ts";
import { openCounter } from "./testing.ts";

const { billing, issuer, clerk, headers, opener, client, newAccount, newPatient, rows, failure, post, close, migrationDatabaseUrl } =
  await openCounter();
afterAll(close);

const insurer = {
  kind: PayerKind.ORGANISATION,
  name: "Helvetia Health",
  address: "Bahnhofstrasse 1, 8001 Zürich",
  email: "claims@helvetia.example",
  reference: "Policy 4711",
};
const { kind: _, ...addressed } = insurer;

async function newPayer(changes: Partial<typeof insurer> = {}): Promise<string> {
  const { payer } = await client.createPayer({ ...insurer, ...changes, requestId: randomUUID() }, headers);
  return payer?.payerId ?? "";
}
const setPayer = (accountId: string, payerId: string) =>
  client.updateBillingAccount({ account: { accountId, payerId }, updateMask: { paths: ["payer_id"] }, requestId: randomUUID() }, headers);
const charge = (accountId: string, minorUnits: bigint, currencyCode = "EUR") =>
  client.createCharge({ accountId, amount: { currencyCode, minorUnits }, description: "Visit", requestId: randomUUID() }, headers);
const page = (path: string, accept: string) => fetch(`${billing.url}${path}`, { headers: { accept, authorization: clerk } });

/** An account that the payer pays for, with a charge. */
async function paidFor(payerId: string, minorUnits = 1_000n): Promise<string> {
  const accountId = await newAccount();
  await setPayer(accountId, payerId);
  await charge(accountId, minorUnits);
  return accountId;
}
const invoiceOf = async (accountId: string, issue: boolean) =>
  (await client.createInvoice({ accountId, issue, requestId: randomUUID() }, headers)).invoice;

test("a payer is created once per request id, read, listed and changed, and no change is lost", async () => {
  const request = { ...insurer, requestId: randomUUID() };
  const [{ payer }, again] = await Promise.all([client.createPayer(request, headers), client.createPayer(request, headers)]);
  expect(payer).toMatchObject({ ...insurer, payerId: expect.stringMatching(/^[0-9a-f-]{36}$/), etag: "v1" });
  expect(again.payer).toEqual(payer);
  const payerId = payer?.payerId ?? "";
  expect((await client.getPayer({ payerId }, headers)).payer).toEqual(payer);
  const personId = await newPayer({ kind: PayerKind.PERSON, name: "Byron" });
  const listed = async (kind: PayerKind) => (await client.listPayers({ kind }, headers)).payers.map((each) => each.payerId);
  expect(await listed(PayerKind.UNSPECIFIED)).toEqual([personId, payerId]);
  expect(await listed(PayerKind.PERSON)).toEqual([personId]);
  const first = await client.listPayers({ pageSize: 1 }, headers);
  expect((await client.listPayers({ pageSize: 1, pageToken: first.nextPageToken }, headers)).payers).toMatchObject([{ payerId }]);

  const change = { payer: { payerId, email: "bills@helvetia.example", etag: "v1" }, requestId: randomUUID() };
  const { payer: changed } = await client.updatePayer(change, headers);
  expect(changed).toMatchObject({ ...insurer, email: "bills@helvetia.example", etag: "v2" });
  expect((await client.updatePayer(change, headers)).payer).toEqual(changed);
  expect((await failure(client.updatePayer({ ...change, requestId: randomUUID() }, headers))).code).toBe(Code.Aborted);
  const cleared = { payer: { payerId }, updateMask: { paths: ["reference", "address"] }, requestId: randomUUID() };
  expect((await client.updatePayer(cleared, headers)).payer).toMatchObject({ name: insurer.name, reference: "", address: "" });
  for (const path of ["name", "kind"]) {
    const nameless = client.updatePayer({ payer: { payerId }, updateMask: { paths: [path] }, requestId: randomUUID() }, headers);
    const [bad] = (await failure(nameless)).findDetails(BadRequestSchema);
    expect(bad?.fieldViolations).toMatchObject([{ field: `payer.${path}`, description: "must have a value" }]);
  }
  const missing = await failure(client.getPayer({ payerId: randomUUID() }, headers));
  expect([missing.code, missing.findDetails(ErrorInfoSchema)[0]?.reason]).toEqual([Code.NotFound, "PAYER_NOT_FOUND"]);
});

test("an account has a payer until it is cleared, and accounts are found by their payer", async () => {
  const [payerId, otherId] = [await newPayer(), await newPayer()];
  const accounts = [await paidFor(payerId), await paidFor(payerId)];
  await paidFor(otherId);
  const found = async (id: string) => (await client.listBillingAccounts({ payerId: id }, headers)).accounts.map((each) => each.accountId);
  expect(await found(payerId)).toEqual(accounts.toReversed());
  const first = await client.listBillingAccounts({ payerId, pageSize: 1 }, headers);
  const foreign = client.listBillingAccounts({ payerId: otherId, pageSize: 1, pageToken: first.nextPageToken }, headers);
  expect((await failure(foreign)).code).toBe(Code.InvalidArgument);
  const { account } = await client.updateBillingAccount(
    { account: { accountId: accounts[0] ?? "", name: "Grace" }, requestId: randomUUID() },
    headers,
  );
  expect(account).toMatchObject({ name: "Grace", payerId });
  expect((await setPayer(accounts[0] ?? "", "")).account?.payerId).toBe("");
  expect(await found(payerId)).toEqual(accounts.slice(1));
  const unknown = await failure(setPayer(accounts[0] ?? "", randomUUID()));
  expect(unknown.findDetails(BadRequestSchema)[0]?.fieldViolations).toMatchObject([{ field: "account.payer_id" }]);
});

test("an invoice is addressed to the payer, and an issued one keeps the addressee that it had at issue", async () => {
  const payerId = await newPayer();
  const accountId = await paidFor(payerId);
  const draft = await invoiceOf(accountId, false);
  expect(draft).toMatchObject({ patientName: "Ada", addressee: { payerId, ...addressed } });
  const rename = { payer: { payerId, name: "Helvetia Care" }, requestId: randomUUID() };
  await client.updatePayer(rename, headers);
  const get = async () => (await client.getInvoice({ invoiceId: draft?.invoiceId ?? "" }, headers)).invoice;
  expect(await get()).toMatchObject({ addressee: { name: "Helvetia Care" } });
  const { invoice } = await client.issueInvoice({ invoiceId: draft?.invoiceId ?? "", requestId: randomUUID() }, headers);

  await client.updatePayer({ payer: { payerId, name: "Somebody else", reference: "Other" }, requestId: randomUUID() }, headers);
  await setPayer(accountId, "");
  await client.updateBillingAccount({ account: { accountId, name: "Grace" }, requestId: randomUUID() }, headers);
  expect(await get()).toEqual(invoice);
  expect(invoice).toMatchObject({ patientName: "Ada", addressee: { payerId, ...addressed, name: "Helvetia Care" } });
  await charge(accountId, 1n);
  expect(await invoiceOf(accountId, true)).toMatchObject({
    patientName: "Grace",
    addressee: { payerId: "", name: "Grace", email: "ada@example.com", address: "", reference: "" },
  });
});

test("an invoice that an earlier release has issued is addressed to the patient", async () => {
  const accountId = await paidFor(await newPayer());
  const invoice = await invoiceOf(accountId, true);
  await rows("update invoices set addressee = null where id = $1", [invoice?.invoiceId]);
  const { invoice: read } = await client.getInvoice({ invoiceId: invoice?.invoiceId ?? "" }, headers);
  expect(read).toMatchObject({ patientName: "Ada", addressee: { payerId: "", name: "Ada", email: "ada@example.com" } });
});

test("an invoice and its credit note show payer, reference and patient as HTML, PDF and JSON", async () => {
  const payerId = await newPayer();
  const invoice = await invoiceOf(await paidFor(payerId), true);
  await client.updatePayer({ payer: { payerId, name: "Helvetia Care" }, requestId: randomUUID() }, headers);
  const credit = { invoiceId: invoice?.invoiceId ?? "", reason: "Too long", requestId: randomUUID() };
  const { creditNote } = await client.createCreditNote(credit, headers);
  expect(creditNote).toMatchObject({ patientName: "Ada", addressee: { payerId, ...addressed } });
  const documents = [
    [`/billing/invoices/${invoice?.invoiceId}`, InvoiceJsonSchema],
    [`/billing/credit-notes/${creditNote?.creditNoteId}`, CreditNoteJsonSchema],
  ] as const;
  for (const [path, schema] of documents) {
    const html = await (await page(path, "text/html")).text();
    for (const text of [...Object.values(addressed), "<dt>Patient</dt><dd>Ada</dd>", "<dt>Your reference</dt>"])
      expect(html).toContain(text);
    expect(html).not.toContain("ada@example.com");
    const pdf = await page(path, "application/pdf");
    expect(Buffer.from(await pdf.arrayBuffer()).toString("latin1")).toContain("%PDF-1.7");
    const json = await (await page(path, "application/json")).json();
    expect(schema.parse(json)).toEqual(json);
    expect(json).toMatchObject({ patientName: "Ada", addressee: { payerId, ...addressed } });
  }
});

test("what a payer owes is summed per currency, over all pages, and never over currencies", async () => {
  const payerId = await newPayer();
  const euros = [await paidFor(payerId, 1_000n), await paidFor(payerId, 250n)];
  const francs = await newAccount();
  const currency = { account: { accountId: francs, currencyCode: "CHF", payerId }, requestId: randomUUID() };
  await client.updateBillingAccount(currency, headers);
  await charge(francs, 700n, "CHF");
  const amount = { currencyCode: "EUR", minorUnits: 300n };
  await client.recordPayment({ accountId: euros[1] ?? "", amount, requestId: randomUUID() }, headers);
  await paidFor(await newPayer());

  const first = await client.getPayerBalance({ payerId, pageSize: 2 }, headers);
  const totals = first.totals.map((total) => [
    total.outstanding?.currencyCode,
    total.outstanding?.minorUnits,
    total.credit?.minorUnits,
    total.accountCount,
  ]);
  expect(totals).toEqual([
    ["CHF", 700n, 0n, 1n],
    ["EUR", 1_000n, 50n, 2n],
  ]);
  const second = await client.getPayerBalance({ payerId, pageSize: 2, pageToken: first.nextPageToken }, headers);
  expect(second).toMatchObject({ payer: { payerId }, totals: first.totals, nextPageToken: "" });
  const shown = [...first.accounts, ...second.accounts].map((account) => [account.accountId, account.outstanding?.minorUnits]);
  expect(shown).toEqual([
    [francs, 700n],
    [euros[1], 0n],
    [euros[0], 1_000n],
  ]);
  expect(await client.getPayerBalance({ payerId: await newPayer() }, headers)).toMatchObject({ totals: [], accounts: [] });
  expect((await failure(client.getPayerBalance({ payerId: randomUUID() }, headers))).code).toBe(Code.NotFound);
});

test("what is open on a payer's accounts and on the invoices addressed to them are two figures", async () => {
  const payerId = await newPayer();
  const accountId = await newAccount();
  await charge(accountId, 1_000n);
  await invoiceOf(accountId, true);
  await setPayer(accountId, payerId);
  const figures = async () =>
    (await client.getPayerBalance({ payerId }, headers)).totals.map(({ outstanding, invoiced, accountCount }) => [
      ...[outstanding?.minorUnits, invoiced?.minorUnits, accountCount],
    ]);
  expect(await figures()).toEqual([[1_000n, 0n, 1n]]);
  await charge(accountId, 500n);
  await invoiceOf(accountId, false);
  expect(await figures()).toEqual([[1_500n, 0n, 1n]]);
  await charge(accountId, 250n);
  const invoice = await invoiceOf(accountId, true);
  expect(await figures()).toEqual([[1_750n, 250n, 1n]]);
  await setPayer(accountId, "");
  expect(await figures()).toEqual([[0n, 250n, 0n]]);
  const path = `/billing/payers/${payerId}/statement?from=2020-01-01&to=${new Date().toISOString().slice(0, 10)}&currency=EUR`;
  const json = await (await page(path, "application/json")).json();
  expect(PayerStatementJsonSchema.parse(json)).toMatchObject({ statements: [], invoiced: { minorUnits: "250" } });
  expect(await (await page(path, "text/html")).text()).toContain("Open today on invoices addressed to you: €2.50.");
  const amount = { currencyCode: "EUR", minorUnits: 250n };
  const target = { case: "invoiceId" as const, value: invoice?.invoiceId ?? "" };
  await client.recordPayment({ accountId, amount, allocations: [{ target }], requestId: randomUUID() }, headers);
  expect(await figures()).toEqual([]);
});

test("what is open on a payer's invoices is summed over the charges that are open, however many are paid", async () => {
  const [payerId, accountId] = [await newPayer(), await newAccount()];
  await setPayer(accountId, payerId);
  await charge(accountId, 400n);
  const invoice = await invoiceOf(accountId, true);
  await rows(
    `with paid as materialized (
      select n, gen_random_uuid() as id, gen_random_uuid() as charge, gen_random_uuid() as invoice from generate_series(1, 5000) n
    ), transactions_added as (
      insert into transactions (id, account_id, sequence, type, amount, balance, charge_id, description, request_id, created_at)
      select id, $1, n + 1, 'CHARGE', 100, 100, charge, '', id, now() from paid
    ), invoices_added as (
      insert into invoices (id, account_id, number, status, total, issue_date, due_date, created_at, addressee)
      select paid.invoice, $1, 'PAID-' || n, 'ISSUED', 100, current_date, current_date, now(), addressee
      from paid, invoices where invoices.id = $2
    )
    insert into charges (id, account_id, sequence, transaction_id, amount, settled, description, service_date, invoice_id, created_at)
    select charge, $1, n + 1, id, 100, 100, '', current_date, invoice, now() from paid`,
    [accountId, invoice?.invoiceId],
  );
  await query(migrationDatabaseUrl, (connection) => connection.query("analyze invoices, charges, accounts"));
  type Plan = {
    "Relation Name"?: string;
    "Actual Rows": number;
    "Actual Loops": number;
    "Rows Removed by Filter"?: number;
    Plans?: Plan[];
  };
  const plans: Plan[] = [];
  const explain: Queries["query"] = async ({ text }, values) => {
    const [row] = await rows(`explain (analyze, format json) ${text}`, values);
    plans.push(row["QUERY PLAN"][0].Plan);
    return [];
  };
  await totalsOfPayer({ query: explain }, payerId);
  const chargesRead = (plan: Plan): number =>
    (plan["Relation Name"] === "charges" ? plan["Actual Loops"] * (plan["Actual Rows"] + (plan["Rows Removed by Filter"] ?? 0)) : 0) +
    (plan.Plans ?? []).reduce((sum, part) => sum + chargesRead(part), 0);
  // Also those of other payers, since Postgres may begin with all that are open.
  const [read] = plans.map(chargesRead);
  expect(read).toBeGreaterThan(0);
  expect(read).toBeLessThan(50);
  expect((await client.getPayerBalance({ payerId }, headers)).totals).toMatchObject([{ invoiced: { minorUnits: 400n } }]);
});

test("the statement of a payer has their accounts in one currency, each with its own balances, as HTML, PDF and JSON", async () => {
  const payerId = await newPayer();
  const [owing, paid] = [await paidFor(payerId, 1_000n), await paidFor(payerId, 250n)];
  await client.recordPayment({ accountId: paid, amount: { currencyCode: "EUR", minorUnits: 300n }, requestId: randomUUID() }, headers);
  const francs = await newAccount();
  const currency = { account: { accountId: francs, currencyCode: "CHF", payerId }, requestId: randomUUID() };
  await client.updateBillingAccount(currency, headers);
  await charge(francs, 700n, "CHF");
  await setPayer(await newAccount(), payerId);
  await paidFor(await newPayer());
  const today = new Date().toISOString().slice(0, 10);
  const path = (query: string, id = payerId) => `/billing/payers/${id}/statement?${query}`;
  const ofYear = `from=2020-01-01&to=${today}&currency`;

  const json = PayerStatementJsonSchema.parse(await (await page(path(`${ofYear}=EUR`), "application/json")).json());
  expect(json).toMatchObject({
    payer: { payerId, ...addressed },
    currencyCode: "EUR",
    charged: { minorUnits: "1250" },
    paid: { minorUnits: "300" },
    closingBalance: { minorUnits: "950" },
    outstanding: { minorUnits: "1000" },
    credit: { minorUnits: "50" },
    transactionCount: "3",
    statements: [
      { account: { accountId: owing }, closingBalance: { minorUnits: "1000" }, transactions: [{ amount: { minorUnits: "1000" } }] },
      { account: { accountId: paid }, closingBalance: { minorUnits: "-50" }, transactions: [{}, { amount: { minorUnits: "-300" } }] },
    ],
  });
  const html = await (await page(path(`${ofYear}=EUR`), "text/html")).text();
  for (const text of [...Object.values(addressed), "Ada: balance brought forward", "<dd>€10.00</dd>", "<dt>Credit</dt><dd>€0.50</dd>"])
    expect(html).toContain(text);
  expect(html.match(/balance brought forward/g)).toHaveLength(2);
  expect(html).not.toContain("CHF");
  const pdf = await page(path(`${ofYear}=CHF`), "application/pdf");
  expect(Buffer.from(await pdf.arrayBuffer()).toString("latin1")).toContain("%PDF-1.7");
  const empty = await (await page(path(`${ofYear}=JPY`), "application/json")).json();
  expect(PayerStatementJsonSchema.parse(empty)).toMatchObject({ statements: [], currencyCode: "JPY" });
  // Afterwards there are balances and no transactions.
  const later = await (await page(path("from=2100-01-01&to=2100-12-31&currency=EUR"), "application/json")).json();
  expect(later).toMatchObject({ openingBalance: { minorUnits: "950" }, statements: [{ transactions: [] }, { transactions: [] }] });
  for (const [url, status] of [
    [path(`from=2020-01-01&to=${today}`), 400],
    [path(`${ofYear}=euro`), 400],
    [path("from=2026-02-30&to=2026-03-01&currency=EUR"), 400],
    [path(`${ofYear}=EUR`, randomUUID()), 404],
  ] as const)
    expect((await page(url, "text/html")).status, url).toBe(status);
  const entries = await rows(
    `select details->'ids' as ids, array(select a.id from audit_patients p join accounts a using (patient_id) where p.entry_id = e.id order by a.id) as shown
      from audit_entries e where subject = $1 and action = 'payer_statement.read'`,
    [payerId],
  );
  expect(entries).toContainEqual({ ids: [owing, paid], shown: [owing, paid].toSorted() });
});

test("invoices are found by the payer to whom they are addressed, whoever pays today", async () => {
  const [payerId, otherId] = [await newPayer(), await newPayer()];
  const accountId = await paidFor(payerId);
  const issued = await invoiceOf(accountId, true);
  await charge(accountId, 5n);
  const draft = await invoiceOf(accountId, false);
  const found = async (id: string, filter: object = {}) =>
    (await client.listInvoices({ payerId: id, ...filter }, headers)).invoices.map(({ invoiceId }) => invoiceId);
  expect(await found(payerId)).toEqual([draft?.invoiceId, issued?.invoiceId]);
  await setPayer(accountId, otherId);
  expect(await found(payerId)).toEqual([issued?.invoiceId]);
  expect(await found(otherId)).toEqual([draft?.invoiceId]);
  expect(await found(payerId, { accountId, status: InvoiceStatus.ISSUED })).toEqual([issued?.invoiceId]);
  expect(await found(payerId, { accountId: await newAccount() })).toEqual([]);
  expect(await found(payerId.toUpperCase())).toEqual([issued?.invoiceId]);
  await setPayer(accountId, payerId);
  const first = await client.listInvoices({ payerId, pageSize: 1 }, headers);
  const second = await client.listInvoices({ payerId, pageSize: 1, pageToken: first.nextPageToken }, headers);
  expect([first, second].flatMap(({ invoices }) => invoices.map(({ invoiceId }) => invoiceId))).toEqual([
    draft?.invoiceId,
    issued?.invoiceId,
  ]);
  const foreign = client.listInvoices({ payerId: otherId, pageSize: 1, pageToken: first.nextPageToken }, headers);
  expect((await failure(foreign)).code).toBe(Code.InvalidArgument);
});

test("sums that an answer cannot hold are refused, and are no internal error", async () => {
  const payerId = await newPayer();
  await rows(
    `insert into accounts (id, patient_id, currency, name, email, receivable, revenue, payer_id, created_at, updated_at)
      select gen_random_uuid(), gen_random_uuid(), 'EUR', '', '', 2^53, 2^53, $1, now(), now() from generate_series(1, 1025)`,
    [payerId],
  );
  const error = await failure(client.getPayerBalance({ payerId }, headers));
  expect([error.code, error.findDetails(ErrorInfoSchema)[0]?.reason]).toEqual([Code.FailedPrecondition, "BALANCE_LIMIT"]);
});

test("a payer's texts are stored as NFC, and one that hides or turns around is refused by its field", async () => {
  const payerId = await newPayer({ name: "Zoe\u0308", address: "Rue du Cafe\u0301 1", reference: "E\u0301 1" });
  const read = async () => (await client.getPayer({ payerId }, headers)).payer;
  expect(await read()).toMatchObject({ name: "Zoë", address: "Rue du Café 1", reference: "É 1" });
  await client.updatePayer({ payer: { payerId, name: "Noe\u0308l" }, requestId: randomUUID() }, headers);
  expect((await read())?.name).toBe("Noël");
  for (const field of ["name", "address", "email", "reference"])
    for (const wrong of ["a\u202eb", "\u200b", "a\u0007", "x".repeat(501)])
      for (const [method, path, request] of [
        ["CreatePayer", field, { name: "X", kind: "PAYER_KIND_PERSON", [field]: wrong, requestId: randomUUID() }],
        ["UpdatePayer", `payer.${field}`, { payer: { payerId, [field]: wrong }, requestId: randomUUID() }],
      ] as const) {
        const answer = await post(method, JSON.stringify(request));
        const refused = (await answer.json()) as { code: string; details: { debug: { fieldViolations?: { field: string }[] } }[] };
        const fields = new Set(refused.details[1]?.debug.fieldViolations?.map((violation) => violation.field));
        expect([refused.code, fields], method).toEqual(["invalid_argument", new Set([path])]);
      }
});

test("a payer's personal data is in no event and no audit entry, and each read and repetition leaves an entry", async () => {
  const requestId = randomUUID();
  const options = { headers: { authorization: clerk, "x-request-id": requestId } };
  const request = { ...insurer, name: "Kontaktperson", requestId: randomUUID() };
  const { payer } = await client.createPayer(request, options);
  const payerId = payer?.payerId ?? "";
  await client.createPayer(request, options);
  const accountId = await paidFor(payerId);
  await invoiceOf(accountId, true);
  await client.updatePayer({ payer: { payerId, address: "Elsewhere 2" }, requestId: randomUUID() }, options);
  await client.updatePayer({ payer: { payerId, address: "Elsewhere 2" }, requestId: randomUUID() }, options);
  await client.getPayer({ payerId }, options);
  await client.getPayerBalance({ payerId }, options);
  await client.listPayers({ pageSize: 1 }, options);
  const entries = await rows("select action, subject, details from audit_entries where request_id = $1 order by id", [requestId]);
  expect(entries).toEqual([
    { action: "payer.created", subject: payerId, details: {} },
    { action: "request.repeated", subject: payerId, details: { method: "CreatePayer" } },
    { action: "payer.updated", subject: payerId, details: { changed: ["address"] } },
    { action: "payer.read", subject: payerId, details: {} },
    { action: "payer.read", subject: payerId, details: {} },
    { action: "payer_balance.read", subject: payerId, details: { ids: [accountId] } },
    { action: "payers.listed", subject: "payers", details: { ids: [payerId] } },
  ]);
  const written = JSON.stringify([
    await rows("select details from audit_entries"),
    (await rows("select payload from outbox")).map(({ payload }) => payload.toString("latin1")),
  ]);
  for (const personal of ["Kontaktperson", "Elsewhere", insurer.address, insurer.email, insurer.reference])
    expect(written).not.toContain(personal);
});

test("only people who bill see payers", async () => {
  const { patientId } = newPatient();
  const account = await client.createBillingAccount({ patientId, name: "Ada", email: "ada@example.com" }, opener);
  const analyst = { headers: { authorization: await issuer.person("user") } };
  const calls: Promise<unknown>[] = [
    client.listPayers({}, analyst),
    client.getPayer({ payerId: account.accountId }, analyst),
    client.getPayerBalance({ payerId: account.accountId }, analyst),
    client.createPayer({ ...insurer, requestId: randomUUID() }, analyst),
  ];
  const errors = await Promise.all(calls.map(failure));
  expect(new Set(errors.map(({ code }) => code))).toEqual(new Set([Code.PermissionDenied]));
});
