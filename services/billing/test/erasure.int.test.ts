/** Erasing a patient in billing: names and texts go, amounts stay, and what the law keeps stays. */
import { randomUUID } from "node:crypto";
import { Code } from "@connectrpc/connect";
import { verifyAudit } from "@pm/kit/audit/verify";
import { tablesWith } from "@pm/kit/test/tables";
import { BillingAccountStatus, PayerKind } from "@pm/proto/billing/v1/billing";
import { ErrorInfoSchema } from "@pm/proto/google/rpc/error_details";
import { query } from "@pm/stack/native/postgres";
import { Pool } from "pg";
import { afterAll, expect, test } from "vitest";
import { verifyLedger } from "../src/ledger/verification-store.ts";
import { openCounter } from "./testing.ts";

const counter = await openCounter();
const { issuer, headers, client, internal, rows, failure, opener, databaseUrl, migrationDatabaseUrl } = counter;
const pool = new Pool({ connectionString: databaseUrl, max: 2 });
const service = { headers: { authorization: await issuer.service("patient") } };
afterAll(async () => {
  await pool.end();
  await counter.close();
});

const asOwner = (text: string, values: unknown[] = []) =>
  query(migrationDatabaseUrl, async (connection) => (await connection.query(text, values)).rows);
const euros = (minorUnits: bigint) => ({ currencyCode: "EUR", minorUnits });
const holdsOf = async (patientId: string) => (await internal.getErasureHolds({ patientId }, service)).holds;
const erase = (patientId: string, erasureId: string = randomUUID()) => internal.eraseParty({ patientId, erasureId }, service);

/** A patient with a payer of their own, every kind of text, and nothing open; issued so many years ago. */
async function billed(years = 11) {
  const word = `Quillonbrack${randomUUID().slice(0, 8)}`;
  const patientId = randomUUID();
  const account = await client.createBillingAccount({ patientId, name: word, email: `${word}@example.com` }, opener);
  const { accountId } = account;
  const request = () => ({ requestId: randomUUID() });
  const { payer } = await client.createPayer(
    { kind: PayerKind.PERSON, name: `${word} the elder`, address: `1 ${word} Road`, email: "", reference: word, ...request() },
    headers,
  );
  await client.updateBillingAccount({ account: { accountId, payerId: payer?.payerId ?? "" }, ...request() }, headers);
  const charge = (amount: bigint) =>
    client.createCharge({ accountId, amount: euros(amount), description: `${word} visit`, ...request() }, headers);
  const { charge: voided } = await charge(100n);
  await client.voidCharge({ chargeId: voided?.chargeId ?? "", reason: `not ${word}`, ...request() }, headers);
  const { charge: open } = await charge(5_000n);
  const { invoice: first } = await client.createInvoice({ accountId, issue: true, ...request() }, headers);
  await client.voidInvoice({ invoiceId: first?.invoiceId ?? "", reason: `${word} again`, ...request() }, headers);
  const { invoice } = await client.createInvoice({ accountId, ...request() }, headers);
  const invoiceId = invoice?.invoiceId ?? "";
  const less = (amount: bigint) => [{ chargeId: open?.chargeId ?? "", amount: euros(amount) }];
  await client.discountInvoice({ invoiceId, reductions: less(500n), reason: `for ${word}`, ...request() }, headers);
  await client.issueInvoice({ invoiceId, ...request() }, headers);
  await client.createCreditNote({ invoiceId, reductions: less(1_000n), reason: `${word} complained`, ...request() }, headers);
  const { payment } = await client.recordPayment({ accountId, amount: euros(4_000n), reference: `from ${word}`, ...request() }, headers);
  await client.refundPayment({ paymentId: payment?.paymentId ?? "", amount: euros(500n), reason: `to ${word}`, ...request() }, headers);
  const back = ["update invoices set issue_date = issue_date - make_interval(years => $2) where account_id = $1"];
  back.push("update credit_notes set issue_date = issue_date - make_interval(years => $2) where account_id = $1");
  for (const text of back) await asOwner(text, [accountId, years]);
  return { word, patientId, accountId, payerId: payer?.payerId ?? "" };
}

test("names and free texts go from every table, and every amount stays", async () => {
  const { word, patientId, accountId } = await billed();
  expect(await tablesWith(migrationDatabaseUrl, word)).toEqual(
    expect.arrayContaining([
      "accounts",
      "payers",
      "requests",
      "transactions",
      "charges",
      "invoices",
      "invoice_lines",
      "payments",
      "refunds",
    ]),
  );
  const amounts = "select id, type, amount, balance, created_at from transactions where account_id = $1 order by sequence";
  const before = await rows(amounts, [accountId]);
  expect((await erase(patientId)).erased).toMatchObject({ accounts: 1n, payers: 1n, invoices: 2n, refunds: 1n, creditNotes: 1n });
  expect(await tablesWith(migrationDatabaseUrl, word)).toEqual([]);
  expect(await rows(amounts, [accountId])).toEqual(before);
  expect(await verifyLedger(pool)).toMatchObject({ holds: true });
  expect(await verifyAudit(pool)).toMatchObject({ intact: true });
  const { account } = await client.getBillingAccount({ key: { case: "patientId", value: patientId } }, headers);
  expect(account).toMatchObject({ accountId, status: BillingAccountStatus.CLOSED, name: "", email: "", payerId: "" });
});

test("answers of the release before, which do not say whose they are, go too", async () => {
  const { word, patientId, accountId } = await billed();
  await asOwner("update requests set subject = null where subject = $1", [accountId]);
  await erase(patientId);
  expect(await tablesWith(migrationDatabaseUrl, word)).toEqual([]);
});

test("an open balance and young invoices are named, and hold the erasure", async () => {
  const { patientId, accountId } = await billed(1);
  await client.createCharge({ accountId, amount: euros(700n), description: "Visit", requestId: randomUUID() }, headers);
  const year = new Date().getUTCFullYear() + 9;
  expect(await holdsOf(patientId)).toMatchObject({
    outstanding: { minorUnits: 700n },
    invoiceCount: 3,
    keepUntilDate: expect.stringMatching(`^${year}-`),
  });
  const { holds, eraseTime } = await erase(patientId);
  expect({ holds, eraseTime }).toMatchObject({ holds: { invoiceCount: 3 }, eraseTime: undefined });
  expect((await rows("select name from accounts where id = $1", [accountId]))[0].name).not.toBe("");
});

test("a repeated erasure changes nothing and answers the same", async () => {
  const { patientId } = await billed();
  const first = await erase(patientId);
  expect(await erase(patientId, randomUUID())).toEqual(first);
  expect(
    await rows("select 1 from audit_entries where action = 'account.erased' and details->>'patientId' = $1", [patientId]),
  ).toHaveLength(1);
});

test("who has no account is erased at once", async () => {
  expect(await erase(randomUUID())).toMatchObject({ erased: {}, eraseTime: {} });
});

test("nothing can be written about somebody who was erased", async () => {
  const { patientId, accountId } = await billed();
  const [payment] = await rows("select id from payments where account_id = $1", [accountId]);
  await erase(patientId);
  const writes: (() => Promise<unknown>)[] = [
    () => client.createCharge({ accountId, amount: euros(1n), description: "again", requestId: randomUUID() }, headers),
    () => client.refundPayment({ paymentId: payment.id, amount: euros(1n), reason: "again", requestId: randomUUID() }, headers),
    () => client.updateBillingAccount({ account: { accountId, name: "again" }, requestId: randomUUID() }, headers),
    () => client.createInvoice({ accountId, requestId: randomUUID() }, headers),
  ];
  for (const write of writes) {
    const error = await failure(write());
    expect([error.code, error.findDetails(ErrorInfoSchema)[0]?.reason]).toEqual([Code.FailedPrecondition, "ACCOUNT_ERASED"]);
  }
});

test("a payer who pays for somebody else too keeps their name", async () => {
  const { patientId, payerId } = await billed();
  const other = await counter.newAccount();
  await client.updateBillingAccount({ account: { accountId: other, payerId }, requestId: randomUUID() }, headers);
  await erase(patientId);
  expect((await client.getPayer({ payerId }, headers)).payer?.name).not.toBe("");
});

test("an erasure and charges at once leave either an open account or an erased one without a new charge", async () => {
  const { patientId, accountId } = await billed();
  const charge = () => client.createCharge({ accountId, amount: euros(1n), description: "x", requestId: randomUUID() }, headers);
  const [erased, ...charges] = await Promise.allSettled([erase(patientId), ...Array.from({ length: 16 }, charge)]);
  const posted = charges.filter(({ status }) => status === "fulfilled").length;
  expect(erased?.status === "fulfilled" && erased.value.holds === undefined).toBe(posted === 0);
  expect(await verifyLedger(pool)).toMatchObject({ holds: true });
});

test("why an invoice was voided stands in the invoice, and not in the audit trail", async () => {
  const accountId = await counter.newAccount();
  await client.createCharge({ accountId, amount: euros(1n), description: "x", requestId: randomUUID() }, headers);
  const { invoice } = await client.createInvoice({ accountId, issue: true, requestId: randomUUID() }, headers);
  await client.voidInvoice({ invoiceId: invoice?.invoiceId ?? "", reason: "Zanzibar", requestId: randomUUID() }, headers);
  expect(await tablesWith(migrationDatabaseUrl, "Zanzibar")).toEqual(["invoices"]);
});

/** Everything that shows something of an account, by every protocol, as somebody sees it. */
async function shownTo(
  authorization: string,
  { word, accountId, patientId, payerId, repeated }: Awaited<ReturnType<typeof billed>> & { repeated: string },
) {
  const as = { headers: { authorization } };
  const [invoice] = await rows("select id from invoices where account_id = $1 and number is not null and status <> 'VOID'", [accountId]);
  const [note] = await rows("select id from credit_notes where account_id = $1", [accountId]);
  const [charge] = await rows("select id from charges where account_id = $1 and voided_at is null", [accountId]);
  const [payment] = await rows("select id from payments where account_id = $1", [accountId]);
  const year = new Date().getUTCFullYear();
  const days = { fromDate: `${year - 20}-01-01`, toDate: `${year + 1}-12-31` };
  const period = `from=${days.fromDate}&to=${days.toDate}`;
  const all = async (messages: AsyncIterable<unknown>) => Array.fromAsync(messages);
  const watch = new AbortController();
  const firstOf = async (messages: AsyncIterable<unknown>) => {
    for await (const message of messages) return message;
  };
  const page = async (path: string) => {
    const response = await fetch(`${counter.billing.url}${path}`, { headers: { authorization } });
    expect([path, response.status]).toEqual([path, 200]);
    return response.text();
  };
  const answers: Record<string, unknown> = {
    account: await client.getBillingAccount({ key: { case: "accountId", value: accountId } }, as),
    "account as JSON": await (await counter.post("GetBillingAccount", JSON.stringify({ patientId }), authorization)).text(),
    accounts: await client.listBillingAccounts({ accountIds: [accountId] }, as),
    payer: await client.getPayer({ payerId }, as),
    charge: await client.getCharge({ chargeId: charge.id }, as),
    charges: await client.listCharges({ accountId }, as),
    payment: await client.getPayment({ paymentId: payment.id }, as),
    payments: await client.listPayments({ patientId }, as),
    transactions: await client.listTransactions({ accountId }, as),
    invoice: await client.getInvoice({ invoiceId: invoice.id }, as),
    invoices: await client.listInvoices({ accountId }, as),
    creditNote: await client.getCreditNote({ creditNoteId: note.id }, as),
    creditNotes: await client.listCreditNotes({ accountId }, as),
    statement: await client.getStatement({ accountId, ...days }, as),
    "statement in parts": await all(client.streamStatement({ accountId, ...days }, as)),
    watch: await firstOf(client.watchAccount({ accountId, position: 0n }, { ...as, signal: watch.signal })),
    "repeated request": await client.createCharge({ accountId, amount: euros(1n), description: `${word} again`, requestId: repeated }, as),
    journal: await page(`/billing/journal?${period}&format=ndjson`),
    "journal as CSV": await page(`/billing/journal?${period}`),
  };
  watch.abort();
  for (const format of ["html", "json"])
    Object.assign(answers, {
      [`invoice as ${format}`]: await page(`/billing/invoices/${invoice.id}?format=${format}`),
      [`credit note as ${format}`]: await page(`/billing/credit-notes/${note.id}?format=${format}`),
      [`statement as ${format}`]: await page(`/billing/statements/${accountId}?${period}&format=${format}`),
      [`payer statement as ${format}`]: await page(`/billing/payers/${payerId}/statement?${period}&currency=EUR&format=${format}`),
    });
  const text = (answer: unknown) => JSON.stringify(answer, (_, value) => (typeof value === "bigint" ? String(value) : value));
  return new Map(Object.entries(answers).map(([name, answer]) => [name, text(answer)]));
}

test("the account of a restricted patient shows names and texts to administrators only, by every door, and amounts to all", async () => {
  const of = await billed(1);
  const { patientId, accountId } = of;
  const repeated = randomUUID();
  const admin = await issuer.person("admin");
  await client.createCharge({ accountId, amount: euros(1n), description: `${of.word} again`, requestId: repeated }, headers);
  for (const [name, text] of await shownTo(counter.clerk, { ...of, repeated })) expect(text, name).toContain(of.word);
  for (let again = 0; again < 2; again++) await internal.restrictParty({ patientId, erasureId: randomUUID() }, service);
  for (const [name, text] of await shownTo(counter.clerk, { ...of, repeated })) expect(text, name).not.toContain(of.word);
  for (const [name, text] of await shownTo(admin, { ...of, repeated })) expect(text, name).toContain(of.word);
  expect(await rows("select 1 from audit_entries where action = 'account.restricted' and subject = $1", [accountId])).toHaveLength(1);

  const { account } = await client.getBillingAccount({ key: { case: "accountId", value: accountId } }, headers);
  expect(account).toMatchObject({ accountId, patientId, name: "", email: "", currencyCode: "EUR", transactionCount: 8n });
  // A clerk can settle what is open. The answer does not even have the text that they have just sent.
  const payment = { accountId, amount: euros(500n), reference: of.word, requestId: randomUUID() };
  expect((await client.recordPayment(payment, headers)).payment).toMatchObject({ amount: { minorUnits: 500n }, reference: "" });
});

test("a restricted account takes what settles it and no new charges, and others in the same batch take theirs", async () => {
  const { patientId, accountId } = await billed(1);
  const other = await counter.newAccount();
  const request = () => ({ requestId: randomUUID() });
  const charge = (to: string) => client.createCharge({ accountId: to, amount: euros(900n), description: "Visit", ...request() }, headers);
  const { charge: paid } = await charge(accountId);
  const { charge: credited } = await charge(accountId);
  const { charge: writtenOff } = await charge(accountId);
  await internal.restrictParty({ patientId, erasureId: randomUUID() }, service);

  const charges = await Promise.allSettled([charge(accountId), charge(other), charge(accountId), charge(other)]);
  expect(charges.map(({ status }) => status)).toEqual(["rejected", "fulfilled", "rejected", "fulfilled"]);
  const refusal = await failure(charge(accountId));
  expect([refusal.code, refusal.findDetails(ErrorInfoSchema)[0]?.reason]).toEqual([Code.FailedPrecondition, "ACCOUNT_RESTRICTED"]);

  const chargeIds = [paid, credited].map((each) => each?.chargeId ?? "");
  const { invoice } = await client.createInvoice({ accountId, chargeIds, issue: true, ...request() }, headers);
  const invoiceId = invoice?.invoiceId ?? "";
  const reductions = [{ chargeId: credited?.chargeId ?? "" }];
  await client.createCreditNote({ invoiceId, reductions, reason: "Settled", ...request() }, headers);
  const { payment } = await client.recordPayment(
    { accountId, amount: euros(900n), allocations: [{ target: { case: "invoiceId", value: invoiceId } }], ...request() },
    headers,
  );
  await client.writeOff({ target: { case: "chargeId", value: writtenOff?.chargeId ?? "" }, reason: "Settled", ...request() }, headers);
  expect((await holdsOf(patientId))?.outstanding).toBeUndefined();
  await client.refundPayment({ paymentId: payment?.paymentId ?? "", amount: euros(100n), reason: "Too much", ...request() }, headers);
});

test("a payer of a restricted account and of another one keeps their name, and other accounts stay as they are", async () => {
  const [restricted, other] = [await billed(1), await billed(1)];
  await client.updateBillingAccount(
    { account: { accountId: other.accountId, payerId: restricted.payerId }, requestId: randomUUID() },
    headers,
  );
  await internal.restrictParty({ patientId: restricted.patientId, erasureId: randomUUID() }, service);
  expect((await client.getPayer({ payerId: restricted.payerId }, headers)).payer?.name).toContain(restricted.word);
  const { accounts } = await client.listBillingAccounts({ accountIds: [restricted.accountId, other.accountId] }, headers);
  expect(accounts.map(({ name }) => name).sort()).toEqual(["", other.word]);
});

test("a person who has once paid for somebody else keeps their name, while the patient is restricted and once they are erased", async () => {
  const [restricted, other] = [await billed(), await counter.newAccount()];
  const { payerId, word } = restricted;
  const payFor = (payer: string) =>
    client.updateBillingAccount(
      { account: { accountId: other, payerId: payer }, updateMask: { paths: ["payer_id"] }, requestId: randomUUID() },
      headers,
    );
  await payFor(payerId);
  await client.createCharge({ accountId: other, amount: euros(1n), description: "x", requestId: randomUUID() }, headers);
  await client.createInvoice({ accountId: other, issue: true, requestId: randomUUID() }, headers);
  await payFor("");
  const name = async () => (await client.getPayer({ payerId }, headers)).payer?.name;
  await internal.restrictParty({ patientId: restricted.patientId, erasureId: randomUUID() }, service);
  expect(await name()).toContain(word);
  await erase(restricted.patientId);
  expect(await name()).toContain(word);
});

test("a person who pays for two restricted patients is concealed until both are erased, and goes with the last", async () => {
  const [first, second] = [await billed(), await billed(1)];
  const { payerId, word } = first;
  await client.updateBillingAccount({ account: { accountId: second.accountId, payerId }, requestId: randomUUID() }, headers);
  const nameFor = async (authorization: string) => (await client.getPayer({ payerId }, { headers: { authorization } })).payer?.name;
  const admin = await issuer.person("admin");
  for (const { patientId } of [first, second]) await internal.restrictParty({ patientId, erasureId: randomUUID() }, service);
  expect((await erase(first.patientId)).holds).toBeUndefined();
  // The law holds the invoices of the second one.
  expect((await erase(second.patientId)).holds).toMatchObject({ invoiceCount: 3 });
  expect([await nameFor(counter.clerk), await nameFor(admin)]).toEqual(["", expect.stringContaining(word)]);
  const old = "set issue_date = issue_date - interval '10 years' where account_id = $1";
  for (const table of ["invoices", "credit_notes"]) await asOwner(`update ${table} ${old}`, [second.accountId]);
  expect((await erase(second.patientId)).erased).toMatchObject({ payers: 2n });
  expect(await nameFor(admin)).toBe("");
});

test("who reads while an account is restricted gets all of it or none, and nothing once it is", async () => {
  const { word, patientId, accountId } = await billed(1);
  let isRestricted = false;
  const read = async () => {
    for (let shown = true; shown; ) {
      const wasRestricted = isRestricted;
      const { charges } = await client.listCharges({ accountId }, headers);
      const texts = new Set(charges.map(({ description }) => description.includes(word)));
      expect(texts.size).toBe(1);
      shown = texts.has(true);
      expect(shown && wasRestricted).toBe(false);
    }
  };
  const restrict = async () => {
    await internal.restrictParty({ patientId, erasureId: randomUUID() }, service);
    isRestricted = true;
  };
  await Promise.all([...Array.from({ length: 16 }, read), restrict()]);
});

test("who has no account is restricted without one, and an erasure takes what was restricted", async () => {
  await internal.restrictParty({ patientId: randomUUID(), erasureId: randomUUID() }, service);
  const { word, patientId } = await billed();
  await internal.restrictParty({ patientId, erasureId: randomUUID() }, service);
  expect((await erase(patientId)).erased).toMatchObject({ accounts: 1n });
  expect(await tablesWith(migrationDatabaseUrl, word)).toEqual([]);
});

test("people and other services may not ask, and the service can erase by the function alone", async () => {
  for (const authorization of [counter.clerk, await issuer.person("admin"), await issuer.service("analytics")])
    for (const call of [
      () => internal.getErasureHolds({ patientId: randomUUID() }, { headers: { authorization } }),
      () => internal.restrictParty({ patientId: randomUUID(), erasureId: randomUUID() }, { headers: { authorization } }),
      () => internal.eraseParty({ patientId: randomUUID(), erasureId: randomUUID() }, { headers: { authorization } }),
    ])
      expect((await failure(call())).code).toBe(Code.PermissionDenied);
  const denied = [
    "update transactions set description = ''",
    "update refunds set reason = ''",
    "update invoice_lines set description = ''",
    "update credit_notes set reason = ''",
    "update requests set response = ''",
    "delete from transactions",
    "insert into erasures (id, patient_id, erased) values (gen_random_uuid(), gen_random_uuid(), '{}')",
    "update audit_entries set details = '{}'",
    `select erase_texts('${randomUUID()}')`,
    `select erase_payers('${randomUUID()}')`,
  ];
  for (const text of denied) await expect(pool.query(text), text).rejects.toMatchObject({ code: "42501" });
  const { patientId, accountId } = await billed();
  await client.createCharge({ accountId, amount: euros(1n), description: "x", requestId: randomUUID() }, headers);
  await expect(pool.query("select erase_party($1, $2)", [patientId, randomUUID()])).rejects.toThrow("open balance");
});
