/** What the audit trail has of reads, repeated requests and refusals. */
import { randomUUID } from "node:crypto";
import { afterAll, expect, test } from "vitest";
import { openCounter } from "./testing.ts";

const { billing, issuer, clerk, headers, opener, client, newAccount, newPatient, rows, post, close } = await openCounter();
afterAll(close);

const amount = { currencyCode: "EUR", minorUnits: 1_000n };

/** Makes a call, and gives its answer and the entries that it left. */
async function entriesOf<Answer>(call: (options: { headers: Record<string, string> }) => Promise<Answer>, authorization = clerk) {
  const requestId = randomUUID();
  const answer = await call({ headers: { authorization, "x-request-id": requestId } });
  const entries = await rows("select action, subject, details from audit_entries where request_id = $1 order by id", [requestId]);
  return { answer, entries };
}

test("every read leaves one entry, with the account that was shown", async () => {
  const accountId = await newAccount();
  await client.createCharge({ accountId, amount, description: "Consultation", requestId: randomUUID() }, headers);
  await client.recordPayment({ accountId, amount, method: 1, requestId: randomUUID() }, headers);
  const created = await client.createInvoice({ accountId, issue: true, requestId: randomUUID() }, headers);
  const invoiceId = created.invoice?.invoiceId ?? "";
  const period = { fromDate: "2026-01-01", toDate: "2026-12-31" };
  const one = async (call: Parameters<typeof entriesOf>[0]) => {
    const { entries } = await entriesOf(call);
    expect(entries).toHaveLength(1);
    return entries[0];
  };
  const key = { case: "accountId" as const, value: accountId };
  expect(await one((options) => client.getBillingAccount({ key }, options))).toMatchObject({ action: "account.read", subject: accountId });
  const accounts = await one((options) => client.listBillingAccounts({}, options));
  expect(accounts).toMatchObject({ action: "accounts.listed", details: { ids: [accountId] } });
  for (const [action, call] of [
    ["charges.listed", (options) => client.listCharges({ accountId }, options)],
    ["payments.listed", (options) => client.listPayments({ accountId }, options)],
    ["transactions.listed", (options) => client.listTransactions({ accountId }, options)],
    ["statement.read", (options) => client.getStatement({ accountId, ...period }, options)],
    ["invoice.read", (options) => client.getInvoice({ invoiceId }, options)],
    ["invoices.listed", (options) => client.listInvoices({ accountId }, options)],
    ["account.read", (options) => client.updateBillingAccount({ account: { accountId, name: "Ada" }, requestId: randomUUID() }, options)],
    ["account.watched", (options) => client.watchAccount({ accountId }, options)[Symbol.asyncIterator]().next()],
  ] as [string, Parameters<typeof entriesOf>[0]][])
    expect(await one(call)).toMatchObject({ action, subject: accountId });
  for (const format of ["html", "pdf", "json"])
    for (const [action, path] of [
      ["invoice.read", `invoices/${invoiceId}?`],
      ["statement.read", `statements/${accountId}?from=2026-01-01&to=2026-12-31&`],
    ] as const) {
      const entry = await one((options) =>
        fetch(`${billing.url}/billing/${path}format=${format}`, options).then((answer) => answer.text()),
      );
      expect(entry).toMatchObject({ action, subject: accountId, details: { format } });
    }
});

test("a repeated request leaves an entry, because its answer shows again what the first one did", async () => {
  const patient = newPatient();
  const { accountId } = await client.createBillingAccount(patient, opener);
  const charge = { accountId, amount, description: "Consultation", requestId: randomUUID() };
  const rename = { account: { accountId, name: "Grace" }, requestId: randomUUID() };
  const invoice = { accountId, requestId: randomUUID() };
  const repeated = (method: string) => [{ action: "request.repeated", subject: accountId, details: { method } }];
  const twice = async (call: Parameters<typeof entriesOf>[0]) => {
    await entriesOf(call);
    return (await entriesOf(call)).entries;
  };
  expect(await twice((options) => client.createCharge(charge, options))).toEqual(repeated("CreateCharge"));
  expect(await twice((options) => client.updateBillingAccount(rename, options))).toEqual(repeated("UpdateBillingAccount"));
  expect(await twice((options) => client.createInvoice(invoice, options))).toEqual(repeated("CreateInvoice"));
  const again = await entriesOf(({ headers }) => client.createBillingAccount(patient, { headers: { ...headers, ...opener.headers } }));
  expect(again.entries).toEqual([{ action: "account.read", subject: accountId, details: {} }]);
  const service = await issuer.service("patient");
  const asked = await entriesOf((options) => client.batchCreateBillingAccounts({ requests: [patient] }, options), service);
  expect(asked).toMatchObject({ answer: { accounts: [{ accountId }] }, entries: [] });
});

test("a refusal leaves an entry, by every protocol", async () => {
  const analyst = await issuer.person("analyst");
  const refused = await entriesOf((options) => client.listCharges({ accountId: randomUUID() }, options).catch(() => undefined), analyst);
  const operation = "billing.v1.BillingService/ListCharges";
  const details = { operation, code: "permission_denied", scope: "billing:read" };
  expect(refused.entries).toEqual([{ action: "access.refused", subject: operation, details }]);
  const before = await rows("select count(*)::int as n from audit_entries where action = 'access.refused'");
  expect((await post("ListCharges", "{}", analyst)).status).toBe(403);
  expect((await fetch(`${billing.url}/billing/invoices/${randomUUID()}`, { headers: { authorization: analyst } })).status).toBe(403);
  expect(await rows("select count(*)::int as n from audit_entries where action = 'access.refused'")).toEqual([{ n: before[0].n + 2 }]);
  const missing = randomUUID();
  const key = { case: "patientId" as const, value: missing };
  const unknown = await entriesOf((options) => client.getBillingAccount({ key }, options).catch(() => undefined));
  expect(unknown.entries).toMatchObject([{ action: "access.refused", subject: missing, details: { code: "not_found" } }]);
});
