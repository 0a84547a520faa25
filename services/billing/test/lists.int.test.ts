/** Reading charges, payments, invoices and accounts by id, by patient, by day and by state. */
import { randomUUID } from "node:crypto";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { BillingAccountStatus, InvoiceStatus, PaymentMethod } from "@pm/proto/billing/v1/billing";
import { ErrorInfoSchema } from "@pm/proto/google/rpc/error_details";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openCounter } from "./testing.ts";

let counter: Awaited<ReturnType<typeof openCounter>>;
beforeAll(async () => {
  counter = await openCounter();
});
afterAll(async () => counter?.close());

const euros = (minorUnits: bigint) => ({ currencyCode: "EUR", minorUnits });

async function open() {
  const patient = counter.newPatient();
  const { accountId } = await counter.client.createBillingAccount(patient, counter.opener);
  return { patientId: patient.patientId, accountId };
}

async function charge(accountId: string, serviceDate = "", minorUnits = 1_000n): Promise<string> {
  const request = { accountId, amount: euros(minorUnits), description: "Visit", serviceDate, requestId: randomUUID() };
  return (await counter.client.createCharge(request, counter.headers)).charge?.chargeId ?? "";
}

async function pay(accountId: string, minorUnits: bigint): Promise<string> {
  const request = { accountId, amount: euros(minorUnits), method: PaymentMethod.CARD, requestId: randomUUID() };
  return (await counter.client.recordPayment(request, counter.headers)).payment?.paymentId ?? "";
}

/** Two accounts of one person: the second one's record was merged into the first one's. */
async function openLinked() {
  const [survivor, merged] = [await open(), await open()];
  const own = { headers: { authorization: await counter.issuer.service("patient") } };
  const link = () =>
    counter.internal.linkAccounts({ patientId: merged.patientId, survivorPatientId: survivor.patientId, revision: 1n }, own);
  return { survivor, merged, link };
}

/** The ids of all pages of a list, two on a page. */
async function all(page: (pageToken: string) => Promise<{ ids: string[]; nextPageToken: string }>): Promise<string[]> {
  const found: string[] = [];
  for (let token = ""; ; ) {
    const { ids, nextPageToken } = await page(token);
    found.push(...ids);
    if (nextPageToken === "") return found;
    token = nextPageToken;
  }
}

const chargesOf = (filter: object) =>
  all(async (pageToken) => {
    const { charges, nextPageToken } = await counter.client.listCharges({ pageSize: 2, pageToken, ...filter }, counter.headers);
    return { ids: charges.map(({ chargeId }) => chargeId), nextPageToken };
  });
const paymentsOf = (filter: object) =>
  all(async (pageToken) => {
    const { payments, nextPageToken } = await counter.client.listPayments({ pageSize: 2, pageToken, ...filter }, counter.headers);
    return { ids: payments.map(({ paymentId }) => paymentId), nextPageToken };
  });
const invoicesOf = (filter: object) =>
  all(async (pageToken) => {
    const { invoices, nextPageToken } = await counter.client.listInvoices({ pageSize: 2, pageToken, ...filter }, counter.headers);
    return { ids: invoices.map(({ invoiceId }) => invoiceId), nextPageToken };
  });

test("a charge and a payment are read by their ids, with the patient and with what the payment settles", async () => {
  const { patientId, accountId } = await open();
  const [first, second] = [await charge(accountId), await charge(accountId)];
  const paymentId = await pay(accountId, 1_500n);
  const read = await counter.client.getCharge({ chargeId: first.toUpperCase() }, counter.headers);
  expect(read.charge).toMatchObject({ chargeId: first, accountId, patientId, outstanding: { minorUnits: 0n } });
  const { payment } = await counter.client.getPayment({ paymentId }, counter.headers);
  expect(payment).toMatchObject({ paymentId, accountId, patientId, allocated: { minorUnits: 1_500n } });
  const settled = payment?.allocations.map((each) => [each.chargeId, each.amount?.minorUnits]).sort();
  expect(settled).toEqual([[first, 1_000n], [second, 500n]].sort()); // biome-ignore format: a table
  expect((await counter.failure(counter.client.getCharge({ chargeId: paymentId }, counter.headers))).code).toBe(Code.NotFound);
  expect((await counter.failure(counter.client.getPayment({ paymentId: first }, counter.headers))).code).toBe(Code.NotFound);
});

test("charges and payments of a patient are those of all their accounts, account by account, without a gap between pages", async () => {
  const { survivor, merged, link } = await openLinked();
  const [charges, payments]: [string[], string[]] = [[], []];
  for (const { accountId } of [merged, survivor]) {
    for (let n = 0; n < 3; n += 1) charges.unshift(await charge(accountId));
    for (let n = 0; n < 3; n += 1) payments.unshift(await pay(accountId, 100n));
  }
  await link();
  for (const { patientId } of [survivor, merged]) {
    expect(await chargesOf({ patientId })).toEqual(charges);
    expect(await paymentsOf({ patientId })).toEqual(payments);
  }
  expect(await chargesOf({ patientId: survivor.patientId, accountId: merged.accountId })).toEqual(charges.slice(3));
  expect(await chargesOf({ patientId: (await open()).patientId, accountId: merged.accountId })).toEqual([]);
  expect(await paymentsOf({ patientId: randomUUID() })).toEqual([]);
  const { payments: shown } = await counter.client.listPayments(
    { accountId: survivor.accountId, includeAllocations: true },
    counter.headers,
  );
  expect(shown.map(({ allocations }) => allocations.length)).toEqual([1, 1, 1]);
  const { payments: plain } = await counter.client.listPayments({ accountId: survivor.accountId }, counter.headers);
  expect(plain.map(({ allocations }) => allocations.length)).toEqual([0, 0, 0]);
});

test("charges and payments are found by ids, also of several accounts, and those of others are left out", async () => {
  const [one, other] = [await open(), await open()];
  const charges = [await charge(one.accountId), await charge(other.accountId), await charge(one.accountId)];
  const payments = [await pay(one.accountId, 1n), await pay(other.accountId, 1n), await pay(one.accountId, 1n)];
  expect(await chargesOf({ chargeIds: [...charges, randomUUID()] })).toEqual(charges.toReversed());
  expect(await chargesOf({ chargeIds: charges, patientId: other.patientId })).toEqual([charges[1]]);
  expect(await paymentsOf({ paymentIds: payments })).toEqual(payments.toReversed());
  expect(await paymentsOf({ paymentIds: payments, accountId: one.accountId })).toEqual([payments[2], payments[0]]);
  for (const call of [counter.client.listCharges({}, counter.headers), counter.client.listPayments({}, counter.headers)])
    expect((await counter.failure(call)).message).toContain("must have account_id, patient_id or");
});

test("charges are found by the day of the service and by when they were charged, payments by when they were recorded", async () => {
  const { accountId } = await open();
  const [early, late] = [await charge(accountId, "2026-01-05"), await charge(accountId, "2026-02-05")];
  const paymentId = await pay(accountId, 1n);
  expect(await chargesOf({ accountId, fromDate: "2026-01-05", toDate: "2026-02-04" })).toEqual([early]);
  expect(await chargesOf({ accountId, fromDate: "2026-01-06" })).toEqual([late]);
  const tomorrow = timestampFromDate(new Date(Date.now() + 86_400_000));
  expect(await chargesOf({ accountId, startTime: tomorrow })).toEqual([]);
  expect(await chargesOf({ accountId, endTime: tomorrow })).toEqual([late, early]);
  expect(await paymentsOf({ accountId, startTime: tomorrow })).toEqual([]);
  expect(await paymentsOf({ accountId, endTime: tomorrow })).toEqual([paymentId]);
  const wrong = await counter.failure(counter.client.listCharges({ accountId, fromDate: "2026-02-30" }, counter.headers));
  expect([wrong.code, wrong.message]).toEqual([Code.InvalidArgument, expect.stringContaining("from_date: must be a day of the calendar")]);
});

test("invoices are found by patient, ids, number, states and days of issue, with their lines if the caller wants them", async () => {
  const { survivor, merged, link } = await openLinked();
  const invoice = async (accountId: string, issue: boolean) => {
    await charge(accountId);
    return (await counter.client.createInvoice({ accountId, issue, requestId: randomUUID() }, counter.headers)).invoice;
  };
  const issued = [await invoice(merged.accountId, true), await invoice(survivor.accountId, true)];
  const draft = await invoice(survivor.accountId, false);
  await link();
  const ids = [draft, ...issued.toReversed()].map((each) => each?.invoiceId ?? "");
  expect(await invoicesOf({ patientId: merged.patientId })).toEqual(ids);
  expect(await invoicesOf({ patientId: randomUUID() })).toEqual([]);
  expect(await invoicesOf({ invoiceIds: [...ids, randomUUID()] })).toEqual(ids);
  expect(await invoicesOf({ invoiceIds: ids, accountId: merged.accountId })).toEqual([ids[2]]);
  expect(await invoicesOf({ number: issued[0]?.number })).toEqual([ids[2]]);
  expect(await invoicesOf({ number: issued[0]?.number, accountId: survivor.accountId })).toEqual([]);
  const { patientId } = survivor;
  expect(await invoicesOf({ patientId, statuses: [InvoiceStatus.DRAFT, InvoiceStatus.PAID] })).toEqual([ids[0]]);
  expect(await invoicesOf({ patientId, status: InvoiceStatus.DRAFT, statuses: [InvoiceStatus.ISSUED] })).toEqual([]);
  const today = issued[0]?.issueDate ?? "";
  expect(await invoicesOf({ patientId, fromDate: today, toDate: today })).toEqual(ids.slice(1));
  expect(await invoicesOf({ patientId, toDate: "2020-01-01" })).toEqual([]);
  const { invoices } = await counter.client.listInvoices({ patientId, includeLines: true }, counter.headers);
  for (const each of invoices)
    expect(each).toEqual((await counter.client.getInvoice({ invoiceId: each.invoiceId }, counter.headers)).invoice);
  expect(invoices[2]).toMatchObject({ patientId: merged.patientId, lines: [{ description: "Visit" }] });
});

test("accounts are found by their ids and by several statuses", async () => {
  const [active, suspended] = [await open(), await open()];
  const account = { accountId: suspended.accountId, status: BillingAccountStatus.SUSPENDED };
  await counter.client.updateBillingAccount({ account, requestId: randomUUID() }, counter.headers);
  const accountIds = [active.accountId, suspended.accountId];
  const { ACTIVE, SUSPENDED, CLOSED } = BillingAccountStatus;
  const found = async (statuses: BillingAccountStatus[], status = BillingAccountStatus.UNSPECIFIED) => {
    const { accounts } = await counter.client.listBillingAccounts({ accountIds, statuses, status }, counter.headers);
    return accounts.map(({ accountId }) => accountId);
  };
  expect(await found([])).toEqual(accountIds.toReversed());
  expect(await found([SUSPENDED, CLOSED])).toEqual([suspended.accountId]);
  expect(await found([SUSPENDED, ACTIVE], ACTIVE)).toEqual([active.accountId]);
  expect(await found([SUSPENDED], ACTIVE)).toEqual([]);
});

test("a list by patient or by ids leaves an entry that every patient's trail has", async () => {
  const { patientId, accountId } = await open();
  const chargeId = await charge(accountId);
  const traced = async (call: (options: { headers: Record<string, string> }) => Promise<unknown>) => {
    const requestId = randomUUID();
    await call({ headers: { ...counter.headers.headers, "x-request-id": requestId } });
    return counter.rows(
      `select e.action, e.subject, array(select patient_id::text from audit_patients p where p.entry_id = e.id) as patients
       from audit_entries e where request_id = $1`,
      [requestId],
    );
  };
  expect(await traced((options) => counter.client.listCharges({ patientId }, options))).toEqual([
    { action: "charges.listed", subject: patientId, patients: [patientId] },
  ]);
  expect(await traced((options) => counter.client.listCharges({ chargeIds: [chargeId] }, options))).toEqual([
    { action: "charges.listed", subject: "charges", patients: [patientId] },
  ]);
  expect(await traced((options) => counter.client.getCharge({ chargeId }, options))).toEqual([
    { action: "charge.read", subject: accountId, patients: [] },
  ]);
});

test("a charge that was written off goes on no invoice, and one of which a part was left is still invoiced", async () => {
  const { client, headers, failure } = counter;
  const { accountId } = await open();
  const [gone, part] = [await charge(accountId), await charge(accountId)];
  const writeOff = (chargeId: string, amount = {}) =>
    client.writeOff({ target: { case: "chargeId", value: chargeId }, reason: "Insolvent", requestId: randomUUID(), ...amount }, headers);
  await writeOff(gone);
  await writeOff(part, { amount: euros(400n) });
  const named = await failure(client.createInvoice({ accountId, chargeIds: [part, gone], requestId: randomUUID() }, headers));
  expect([named.code, named.rawMessage]).toEqual([Code.InvalidArgument, "charge_ids[1]: was written off"]);
  const { invoice } = await client.createInvoice({ accountId, requestId: randomUUID() }, headers);
  expect(invoice?.lines.map(({ chargeId }) => chargeId)).toEqual([part]);
  expect(invoice).toMatchObject({ outstanding: euros(600n), writtenOff: euros(400n) });
  const nothing = await failure(client.createInvoice({ accountId, requestId: randomUUID() }, headers));
  expect(nothing.findDetails(ErrorInfoSchema)[0]?.reason).toBe("NOTHING_TO_INVOICE");
});
