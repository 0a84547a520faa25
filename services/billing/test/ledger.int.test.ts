/** The ledger on a real Postgres: constraints, races, replays and crashes. */
import { randomUUID } from "node:crypto";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { AppError } from "@pm/kit/errors";
import { BillingService, type CreditNote, type Invoice, InvoiceSchema, InvoiceStatus } from "@pm/proto/billing/v1/billing";
import { BillingEventSchema } from "@pm/proto/billing/v1/events";
import type { Money } from "@pm/proto/common/v1/money";
import { query } from "@pm/stack/native/postgres";
import { type TestDatabase, testDatabase } from "@pm/stack/testing";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { requestKey } from "../src/idempotency/idempotency.ts";
import { verifyLedger } from "../src/ledger/verification-store.ts";
import { addCharges, openReplica, type Replica } from "./testing.ts";

let database: TestDatabase;
let one: Replica;
let other: Replica;

beforeAll(async () => {
  database = await testDatabase("billing");
  one = openReplica(database.databaseUrl);
  other = openReplica(database.databaseUrl);
});
afterAll(async () => {
  await Promise.all([one?.close(), other?.close()]);
  await database?.drop();
});

const rows = (sql: string, values: unknown[] = []) => query(database.databaseUrl, async (client) => (await client.query(sql, values)).rows);
const balances = async (accountId: string) => {
  const { receivable, credit, revenue, cash } = await one.accounts.get({ accountId });
  return { receivable, credit, revenue, cash };
};
const reasonOf = (call: Promise<unknown>) =>
  call.then(
    () => "none",
    (error: unknown) => (error instanceof AppError ? (error.options.reason ?? error.code) : String(error)),
  );
const expectToHold = async () => expect(await verifyLedger(one.db.pool)).toMatchObject({ holds: true, findings: [] });

test("the service may add facts and never change or remove them", async () => {
  const facts = ["transactions", "entries", "allocations", "refunds", "invoice_lines", "requests", "audit_entries", "audit_blocks"];
  for (const table of facts) {
    await expect(rows(`delete from ${table}`)).rejects.toThrow("permission denied");
    await expect(rows(`truncate ${table}`)).rejects.toThrow("permission denied");
    const [{ column_name }] = await rows(
      "select column_name from information_schema.columns where table_name = $1 order by ordinal_position desc limit 1",
      [table],
    );
    await expect(rows(`update ${table} set ${column_name} = ${column_name}`)).rejects.toThrow("permission denied");
  }
});

test("the database refuses what must never be", async () => {
  const accountId = await one.newAccount();
  const requestId = randomUUID();
  await one.charge(accountId, 100n, requestId);
  const add = `insert into transactions (id, account_id, sequence, type, amount, balance, description, request_id, created_at) values`;
  await expect(rows(`${add} (gen_random_uuid(), $1, 2, 'CHARGE', 1, 1, '', $2, now())`, [accountId, requestId])).rejects.toThrow(
    "transactions_one_per_request",
  );
  await expect(rows(`${add} (gen_random_uuid(), $1, 1, 'CHARGE', 1, 1, '', gen_random_uuid(), now())`, [accountId])).rejects.toThrow(
    "transactions_in_sequence",
  );
  const unbalanced = `with t as (${add} (gen_random_uuid(), $1, 2, 'CHARGE', 1, 1, '', gen_random_uuid(), now()) returning id)
    insert into entries select id, ledger_account, $2, amount from t, (values ('RECEIVABLE', 100::bigint), ('REVENUE', $3::bigint)) e (ledger_account, amount)`;
  await expect(rows(unbalanced, [accountId, "EUR", -99])).rejects.toThrow("do not sum to zero");
  await expect(rows(unbalanced, [accountId, "USD", -100])).rejects.toThrow("currency of its account");
  await expect(rows("update accounts set receivable = receivable + 1 where id = $1", [accountId])).rejects.toThrow("accounts_in_balance");
  const [{ patient_id }] = await rows("select patient_id from accounts where id = $1", [accountId]);
  await expect(
    rows(
      "insert into accounts (id, patient_id, currency, name, email, created_at, updated_at) values (gen_random_uuid(), $1, 'EUR', '', '', now(), now())",
      [patient_id],
    ),
  ).rejects.toThrow("accounts_one_per_patient");
});

test("charges, an overpayment, a refund and a void leave the balances that arithmetic says", async () => {
  const accountId = await one.newAccount();
  const { charge } = await one.charge(accountId, 5_000n);
  const { payment, allocations } = await one.pay(accountId, 7_500n);
  expect(allocations).toMatchObject([{ chargeId: charge?.chargeId, amount: { minorUnits: 5_000n } }]);
  expect(payment).toMatchObject({ allocated: { minorUnits: 5_000n }, credit: { minorUnits: 2_500n } });
  const { charge: second } = await one.charge(accountId, 4_000n);
  expect(second).toMatchObject({ outstanding: { minorUnits: 1_500n } });
  expect(await balances(accountId)).toEqual({ receivable: 1_500n, credit: 0n, revenue: 9_000n, cash: 7_500n });
  const voided = await one.void(charge?.chargeId ?? "");
  expect(voided.allocations.map(({ chargeId, amount }) => [chargeId, amount?.minorUnits])).toEqual([
    [charge?.chargeId, -5_000n],
    [second?.chargeId, 1_500n],
  ]);
  expect(await balances(accountId)).toEqual({ receivable: 0n, credit: 3_500n, revenue: 4_000n, cash: 7_500n });
  const { refund, payment: rest } = await one.refund(payment?.paymentId ?? "", undefined);
  expect([refund?.amount?.minorUnits, rest?.refunded?.minorUnits]).toEqual([7_500n, 7_500n]);
  expect(await balances(accountId)).toEqual({ receivable: 4_000n, credit: 0n, revenue: 4_000n, cash: 0n });
  await expectToHold();
});

test("64 parallel payments with one request id, over two replicas, are one transaction and one answer", async () => {
  const accountId = await one.newAccount();
  const requestId = randomUUID();
  const answers = await Promise.all(Array.from({ length: 64 }, (_, index) => (index % 2 ? one : other).pay(accountId, 1_000n, requestId)));
  expect(new Set(answers.map(({ payment }) => payment?.paymentId)).size).toBe(1);
  expect(await rows("select count(*)::int as count from transactions where request_id = $1", [requestId])).toEqual([{ count: 1 }]);
  expect(await balances(accountId)).toMatchObject({ cash: 1_000n, credit: 1_000n });
});

test("a payment that names an invoice settles it and leaves an older one open, and moves to that by a reallocation", async () => {
  const accountId = await one.newAccount();
  const invoiceOf = async (minorUnits: bigint) => {
    await one.charge(accountId, minorUnits);
    return (await one.createInvoice({ accountId, issue: true })).invoice?.invoiceId ?? "";
  };
  const [first, second] = [await invoiceOf(1_000n), await invoiceOf(400n)];
  const statuses = async () => [(await one.invoices.get(first)).status, (await one.invoices.get(second)).status];
  const { payment, allocations } = await one.pay(accountId, 400n, randomUUID(), [{ invoice: second }]);
  expect(allocations).toHaveLength(1);
  expect(await statuses()).toEqual([InvoiceStatus.ISSUED, InvoiceStatus.PAID]);
  const requestId = randomUUID();
  const moved = await one.reallocate(payment?.paymentId ?? "", [{ invoice: first }], requestId);
  expect(moved.allocations.map(({ amount }) => amount?.minorUnits).toSorted()).toEqual([-400n, 400n]);
  expect(await one.reallocate(payment?.paymentId ?? "", [{ invoice: first }], requestId)).toEqual(moved);
  expect(await statuses()).toEqual([InvoiceStatus.ISSUED, InvoiceStatus.ISSUED]);
  expect(await balances(accountId)).toEqual({ receivable: 1_000n, credit: 0n, revenue: 1_400n, cash: 400n });
  const { charge: foreign } = await one.charge(await one.newAccount(), 5n);
  expect(await reasonOf(one.pay(accountId, 5n, randomUUID(), [{ charge: foreign?.chargeId ?? "" }]))).toBe("CHARGE_NOT_FOUND");
  expect(await reasonOf(one.pay(accountId, 401n, randomUUID(), [{ invoice: second, amount: 401n }]))).toBe("AMOUNT_EXCEEDS_CHARGE");
  await expectToHold();
});

test("64 parallel payments of one charge, over two replicas, never settle more of it than is open", async () => {
  const accountId = await one.newAccount();
  const { charge } = await one.charge(accountId, 1_000n);
  const to = [{ charge: charge?.chargeId ?? "", amount: 30n }];
  const reasons = await Promise.all(
    Array.from({ length: 64 }, (_, index) => reasonOf((index % 2 ? one : other).pay(accountId, 30n, randomUUID(), to))),
  );
  expect(reasons.filter((reason) => reason === "none")).toHaveLength(33);
  expect(new Set(reasons)).toEqual(new Set(["none", "AMOUNT_EXCEEDS_CHARGE"]));
  expect(await balances(accountId)).toMatchObject({ cash: 990n, receivable: 10n });
});

test("credit notes lower an invoice until nothing is left of it, under numbers without gaps, also for 64 at once", async () => {
  const accountId = await one.newAccount();
  const { charge: first } = await one.charge(accountId, 6_400n);
  const { charge: second } = await one.charge(accountId, 600n);
  const { invoice: draft } = await one.createInvoice({ accountId });
  const id = draft?.invoiceId ?? "";
  expect(await reasonOf(one.credit(id))).toBe("INVOICE_NOT_ISSUED");
  const { invoice: discounted } = await one.discount(id, [{ charge: second?.chargeId ?? "", amount: 100n }]);
  expect(discounted).toMatchObject({ total: { minorUnits: 6_900n }, lines: [{}, {}, { amount: { minorUnits: -100n } }] });
  const request = create(BillingService.method.issueInvoice.input, { invoiceId: id, requestId: randomUUID() });
  await one.invoices.issue(request, requestKey(BillingService.method.issueInvoice, request), one.context);
  expect(await reasonOf(one.discount(id, [{ charge: second?.chargeId ?? "" }]))).toBe("INVOICE_NOT_DRAFT");
  await one.pay(accountId, 6_900n);
  const cut = [{ charge: first?.chargeId ?? "", amount: 100n }];
  const reasons = await Promise.all(Array.from({ length: 80 }, (_, index) => reasonOf((index % 2 ? one : other).credit(id, cut))));
  expect(reasons.filter((reason) => reason === "none")).toHaveLength(64);
  expect(new Set(reasons)).toEqual(new Set(["none", "AMOUNT_EXCEEDS_CHARGE"]));
  const { creditNote } = await one.credit(id);
  expect(creditNote).toMatchObject({ number: expect.stringMatching(/^CN-\d{4}-\d{6}$/), total: { minorUnits: 500n }, lines: [{}] });
  expect(await one.invoices.get(id)).toMatchObject({ status: InvoiceStatus.CREDITED, outstanding: { minorUnits: 0n } });
  expect(await reasonOf(one.credit(id))).toBe("INVOICE_CREDITED");
  expect(await balances(accountId)).toEqual({ receivable: 0n, credit: 6_900n, revenue: 0n, cash: 6_900n });
  const { creditNotes } = await one.creditNotes(create(BillingService.method.listCreditNotes.input, { invoiceId: id }));
  expect([creditNotes.length, creditNotes[0]?.number]).toEqual([50, creditNote?.number]);
  await expectToHold();
});

test("what a credit note or a void frees settles open charges beyond the first twenty", async () => {
  const accountId = await one.newAccount();
  const first = (await one.charge(accountId, 100n)).charge?.chargeId ?? "";
  for (let count = 0; count < 21; count += 1) await one.charge(accountId, 100n);
  await one.pay(accountId, 100n, randomUUID(), [{ charge: first }]);
  const { invoice } = await one.createInvoice({ accountId, issue: true });
  await one.charge(accountId, 100n);
  const { allocations } = await one.credit(invoice?.invoiceId ?? "");
  expect(allocations.map(({ amount }) => amount?.minorUnits).toSorted()).toEqual([-100n, 100n]);
  expect(await balances(accountId)).toEqual({ receivable: 0n, credit: 0n, revenue: 100n, cash: 100n });

  const another = await one.newAccount();
  const large = (await one.charge(another, 1_000n)).charge?.chargeId ?? "";
  await one.pay(another, 500n);
  for (let count = 0; count < 30; count += 1) await one.charge(another, 10n);
  await one.void(large);
  expect(await balances(another)).toEqual({ receivable: 0n, credit: 200n, revenue: 300n, cash: 500n });
  await expectToHold();
});

test("one transaction settles 10,000 charges, whose event Kafka takes; one that would settle more is refused alone", {
  timeout: 120_000,
}, async () => {
  const accountId = await one.newAccount();
  await rows(addCharges, [accountId, 10_001, "Visit"]);
  const [tooMany, besides] = await Promise.all([reasonOf(one.pay(accountId, 1_000_100n)), one.charge(await one.newAccount(), 5n)]);
  expect([tooMany, besides.charge?.amount?.minorUnits]).toEqual(["TOO_MANY_ALLOCATIONS", 5n]);
  expect(await balances(accountId)).toMatchObject({ receivable: 1_000_100n, cash: 0n });
  const { allocations } = await one.pay(accountId, 1_000_000n);
  expect(allocations).toHaveLength(10_000);
  const events = await rows("select length(payload) as bytes from outbox where key = $1 order by id desc limit 1", [accountId]);
  expect(events[0]?.bytes).toBeLessThan(750 * 1024);
  await expectToHold();
});

test("an invoice has at most 1,500 lines, so that with the longest texts it can be received", { timeout: 120_000 }, async () => {
  const accountId = await one.newAccount();
  await rows(addCharges, [accountId, 500, "\u{1f469}".repeat(500)]);
  const { invoice } = await one.createInvoice({ accountId });
  const id = invoice?.invoiceId ?? "";
  const charges = invoice?.lines.map(({ chargeId }) => ({ charge: chargeId, amount: 1n })) ?? [];
  await one.discount(id, charges, undefined, "\u{1f469}".repeat(500));
  const { invoice: longest } = await one.discount(id, charges, undefined, "\u{1f469}".repeat(500));
  expect(longest?.lines).toHaveLength(1_500);
  expect(toBinary(InvoiceSchema, longest ?? create(InvoiceSchema)).byteLength).toBeLessThan(3.5 * 1024 * 1024);
  expect(await reasonOf(one.discount(id, charges.slice(0, 1)))).toBe("INVOICE_TOO_LONG");
  expect((await one.invoices.get(id)).lines).toHaveLength(1_500);
  await expectToHold();
});

test("a charge that was discounted in full is on no further invoice and is not voided, and a charge written off keeps its invoice", async () => {
  const accountId = await one.newAccount();
  const { charge } = await one.charge(accountId, 100n);
  const { invoice: draft } = await one.createInvoice({ accountId });
  await one.discount(draft?.invoiceId ?? "", [{ charge: charge?.chargeId ?? "" }]);
  await one.voidInvoice(draft?.invoiceId ?? "");
  expect(await reasonOf(one.void(charge?.chargeId ?? ""))).toBe("CHARGE_REDUCED");
  expect(await reasonOf(one.createInvoice({ accountId }))).toBe("NOTHING_TO_INVOICE");
  await one.charge(accountId, 50n);
  const { invoice } = await one.createInvoice({ accountId, issue: true });
  await one.writeOff(invoice?.invoiceId ?? "");
  expect(await reasonOf(one.voidInvoice(invoice?.invoiceId ?? ""))).toBe("INVOICE_WRITTEN_OFF");
  await expectToHold();
});

test("a write-off closes an invoice that nobody will pay, and the loss is bad debt", async () => {
  const accountId = await one.newAccount();
  await one.charge(accountId, 1_000n);
  const { invoice } = await one.createInvoice({ accountId, issue: true });
  const id = invoice?.invoiceId ?? "";
  await one.pay(accountId, 300n);
  expect(await one.writeOff(id, 100n)).toMatchObject({ accountId, amount: { minorUnits: 100n } });
  expect(await reasonOf(one.writeOff(id, 601n))).toBe("AMOUNT_EXCEEDS_CHARGE");
  await one.writeOff(id);
  expect(await one.invoices.get(id)).toMatchObject({ status: InvoiceStatus.WRITTEN_OFF, writtenOff: { minorUnits: 700n } });
  expect(await rows("select receivable, revenue, cash, bad_debt from accounts where id = $1", [accountId])).toEqual([
    { receivable: 0n, revenue: 1_000n, cash: 300n, bad_debt: 700n },
  ]);
  expect(await reasonOf(one.credit(id, []))).toBe("none");
  await expectToHold();
});

test("64 parallel refunds of one payment, over two replicas, never exceed it", async () => {
  const accountId = await one.newAccount();
  const { payment } = await one.pay(accountId, 1_000n);
  const reasons = await Promise.all(
    Array.from({ length: 64 }, (_, index) => reasonOf((index % 2 ? one : other).refund(payment?.paymentId ?? "", 30n))),
  );
  expect(reasons.filter((reason) => reason === "none")).toHaveLength(33);
  expect(new Set(reasons)).toEqual(new Set(["none", "REFUND_EXCEEDS_PAYMENT"]));
  expect(await balances(accountId)).toMatchObject({ cash: 10n, credit: 10n });
});

test("a request id with other content is refused, for another account and for another method too", async () => {
  const [accountId, another] = [await one.newAccount(), await one.newAccount()];
  const requestId = randomUUID();
  const { charge } = await one.charge(accountId, 100n, requestId);
  expect(await reasonOf(one.charge(accountId, 101n, requestId))).toBe("REQUEST_ID_REUSED");
  expect(await reasonOf(one.charge(another, 100n, requestId))).toBe("REQUEST_ID_REUSED");
  expect(await reasonOf(one.pay(accountId, 100n, requestId))).toBe("REQUEST_ID_REUSED");
  expect((await other.charge(accountId, 100n, requestId)).charge?.chargeId).toBe(charge?.chargeId);
});

test("one request id used for two accounts at the same moment is carried out once", async () => {
  const accounts = await Promise.all(Array.from({ length: 8 }, () => one.newAccount()));
  const requestId = randomUUID();
  const reasons = await Promise.all(accounts.map((id, index) => reasonOf((index % 2 ? one : other).charge(id, 5n, requestId))));
  expect(reasons.filter((reason) => reason === "none")).toHaveLength(1);
  expect(reasons.filter((reason) => reason === "REQUEST_ID_REUSED")).toHaveLength(7);
});

test("a refusal in a batch does not touch its neighbours", async () => {
  const accountId = await one.newAccount();
  const reasons = await Promise.all([
    reasonOf(one.charge(accountId, 10n)),
    reasonOf(one.charge(randomUUID(), 10n)),
    reasonOf(one.refund(randomUUID(), 1n)),
    reasonOf(one.void(randomUUID())),
    reasonOf(one.charge(accountId, 20n)),
  ]);
  expect(reasons).toEqual(["none", "ACCOUNT_NOT_FOUND", "PAYMENT_NOT_FOUND", "CHARGE_NOT_FOUND", "none"]);
  expect(await balances(accountId)).toMatchObject({ receivable: 30n });
});

test("what Postgres refuses in a batch does not touch its neighbours either", async () => {
  const accountId = await one.newAccount();
  // The validation of requests refuses NUL. This test calls the rules without it.
  const descriptions = ["Consultation", "NUL \u0000", "Consultation"];
  const answers = await Promise.allSettled(descriptions.map((text) => one.charge(accountId, 100n, randomUUID(), text)));
  expect(answers.map((answer) => answer.status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
  expect((await balances(accountId)).receivable).toBe(200n);
});

test("an account that 32 callers charge at once takes every charge, in one sequence", async () => {
  const accountId = await one.newAccount();
  const callers = Array.from({ length: 32 }, async (_, index) => {
    for (let count = 0; count < 20; count += 1) await (index % 2 ? one : other).charge(accountId, 1n);
  });
  await Promise.all(callers);
  expect(
    await rows("select count(*)::int as count, max(sequence)::int as last from transactions where account_id = $1", [accountId]),
  ).toEqual([{ count: 640, last: 640 }]);
});

test("a payment reaches past the first hundred open charges", async () => {
  const accountId = await one.newAccount();
  await Promise.all(Array.from({ length: 250 }, () => one.charge(accountId, 10n)));
  const { allocations } = await one.pay(accountId, 2_405n);
  expect(allocations).toHaveLength(241);
  expect(await balances(accountId)).toMatchObject({ receivable: 95n, credit: 0n });
});

/** Net and tax of each rate are the sums of the lines, and all rates together are the total. */
function expectToAddUp({ lines, taxes, total }: Invoice | CreditNote): void {
  const sum = (amounts: (Money | undefined)[]) => amounts.reduce((all, amount) => all + (amount?.minorUnits ?? 0n), 0n);
  expect(sum(lines.map(({ amount }) => amount))).toBe(total?.minorUnits);
  expect(taxes.length > 0).toBe(lines.some(({ tax }) => tax));
  expect(sum(taxes.map(({ gross }) => gross))).toBe(taxes.length > 0 ? total?.minorUnits : 0n);
  for (const { code, rateBasisPoints, net, tax, gross } of taxes) {
    expect(sum([net, tax])).toBe(gross?.minorUnits);
    const ofRate = lines.filter((line) => (line.tax?.code ?? "") === code && (line.tax?.rateBasisPoints ?? 0) === rateBasisPoints);
    expect(sum(ofRate.map((line) => line.tax?.tax))).toBe(tax?.minorUnits);
    expect(sum(ofRate.map(({ amount }) => amount))).toBe(gross?.minorUnits);
  }
}

/** The tax summary, the charges and the general ledger have the same tax of each rate, and the same revenue. */
async function expectTaxesToAgree(): Promise<void> {
  const period = { from: "2020-01-01", to: "2100-01-01" };
  type Line = { taxRateBasisPoints: number } & Record<"netMinorUnits" | "taxMinorUnits" | "grossMinorUnits", string>;
  const lines = (await one.books.taxSummary(period, "ndjson"))
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Line);
  const sum = (of: Line[], column: "netMinorUnits" | "taxMinorUnits") => of.reduce((all, line) => all + BigInt(line[column]), 0n);
  const payable = await rows("select tax_rate, sum(tax_payable)::bigint as sum from charges group by tax_rate order by tax_rate");
  const byRate = [...Map.groupBy(lines, (line) => line.taxRateBasisPoints)].sort(([one], [other]) => one - other);
  expect(byRate.map(([tax_rate, of]) => ({ tax_rate, sum: sum(of, "taxMinorUnits") }))).toEqual(payable);
  const { accounts } = await one.books.generalLedger(period);
  const closing = (name: string) => BigInt(accounts.find(({ ledgerAccount }) => ledgerAccount === name)?.closing ?? 0);
  expect([-sum(lines, "netMinorUnits"), -sum(lines, "taxMinorUnits")]).toEqual([closing("REVENUE"), closing("TAX_PAYABLE")]);
}

/** The balances of an account, computed from the amounts, taxes and allocations of its events. */
async function foldEvents(accountId: string) {
  const sums = { receivable: 0n, credit: 0n, revenue: 0n, cash: 0n, taxPayable: 0n };
  for (const { payload } of await rows("select payload from outbox where key = $1 order by id", [accountId])) {
    const { event } = fromBinary(BillingEventSchema, payload);
    if (event.case === "writtenOff") sums.receivable -= event.value.amount?.minorUnits ?? 0n;
    if (event.case === undefined || !("allocations" in event.value)) continue;
    const amount = "amount" in event.value ? (event.value.amount?.minorUnits ?? 0n) : 0n;
    const settled = event.value.allocations.reduce((sum, allocation) => sum + (allocation.amount?.minorUnits ?? 0n), 0n);
    const taxes =
      "reductions" in event.value ? event.value.reductions.map(({ tax }) => tax) : "tax" in event.value ? [event.value.tax] : [];
    const tax = taxes.reduce((sum, each) => sum + (each?.tax?.minorUnits ?? 0n), 0n);
    const sign = event.case === "chargeCreated" ? 1n : -1n;
    if (!event.case.startsWith("payment")) {
      sums.revenue += sign * (amount - tax);
      sums.taxPayable += sign * tax;
    }
    if (event.case === "paymentRecorded") sums.cash += amount;
    if (event.case === "paymentRefunded") sums.cash -= amount;
    const isLess = ["chargeVoided", "chargeDiscounted", "creditNoteIssued"].includes(event.case);
    const charged = event.case === "chargeCreated" ? amount : isLess ? -amount : 0n;
    const paid = event.case === "paymentRecorded" ? amount : event.case === "paymentRefunded" ? -amount : 0n;
    sums.receivable += charged - settled;
    sums.credit += paid - settled;
  }
  return sums;
}

type Step = {
  kind: "charge" | "payment" | "reallocation" | "refund" | "void" | "invoice" | "discount" | "credit" | "writeOff";
  account: number;
  amount: bigint;
  /** In basis points; added to the amount of a charge or in it, by the number of the target. */
  tax: number;
  target: number;
  /** Charges that a payment names, by their numbers, with what it settles of them. */
  to: { charge: number; amount: bigint }[];
  repeat: boolean;
};
const steps = fc.array(
  fc.record<Step>({
    kind: fc.constantFrom("charge", "charge", "payment", "reallocation", "refund", "void", "invoice", "discount", "credit", "writeOff"),
    account: fc.nat(2),
    amount: fc.bigInt(1n, 100n),
    tax: fc.constantFrom(0, 700, 1_900),
    target: fc.nat(30),
    to: fc.array(fc.record({ charge: fc.nat(30), amount: fc.bigInt(1n, 40n) }), { maxLength: 2 }),
    repeat: fc.boolean(),
  }),
  { minLength: 10, maxLength: 40 },
);

test("random interleavings over two replicas, with connections that die between: the ledger holds and replays change nothing", {
  timeout: 120_000,
}, async () => {
  await fc.assert(
    fc.asyncProperty(steps, fc.array(fc.nat(40), { maxLength: 4 }), async (list, crashes) => {
      const accounts = [await one.newAccount(), await one.newAccount(), await one.newAccount()];
      const [charges, payments, invoices]: [string[], string[], string[]] = [[], [], []];
      const done: { again: () => Promise<unknown>; answer: unknown }[] = [];

      /** Repeats a call with the same id, as callers do, unless a rule has refused it. */
      const insist = async (call: (replica: Replica) => Promise<unknown>, replica: Replica): Promise<unknown> => {
        for (let attempt = 0; ; attempt += 1) {
          try {
            const answer = await call(replica);
            done.push({ again: () => call(other), answer });
            return answer;
          } catch (error) {
            if (error instanceof AppError && error.code !== "aborted") return undefined;
            if (attempt === 20) throw error;
          }
        }
      };
      const take = async (step: Step, index: number) => {
        const replica = index % 2 ? one : other;
        const requestId = randomUUID();
        const accountId = accounts[step.account] as string;
        const named = step.kind === "void" ? charges[step.target % charges.length] : payments[step.target % payments.length];
        const to = charges.length > 0 ? step.to.map((part) => ({ ...part, charge: charges[part.charge % charges.length] as string })) : [];
        const invoice = invoices[step.target % invoices.length];
        const call = async (by: Replica): Promise<unknown> => {
          if (step.kind === "invoice") {
            const made = await by.createInvoice({ accountId, issue: step.amount > 50n, requestId });
            invoices.push(made.invoice?.invoiceId as string);
            return made;
          }
          if (step.kind === "discount" || step.kind === "credit" || step.kind === "writeOff") {
            if (invoice === undefined) return undefined;
            // The validation of requests refuses a discount that names no charge. This test calls the rules without it.
            if (step.kind === "discount") return to.length > 0 ? by.discount(invoice, to.slice(0, 1), requestId) : undefined;
            return step.kind === "credit" ? by.credit(invoice, to, requestId) : by.writeOff(invoice, step.amount, requestId);
          }
          if (step.kind === "charge") {
            const mode = step.target % 2 ? ("inclusive" as const) : ("exclusive" as const);
            const { charge } = step.tax
              ? await by.chargeWithTax(accountId, step.amount, { rate: step.tax, mode }, requestId)
              : await by.charge(accountId, step.amount, requestId);
            charges.push(charge?.chargeId as string);
            return charge;
          }
          if (step.kind === "payment") {
            const { payment } = await by.pay(accountId, step.amount, requestId, to);
            payments.push(payment?.paymentId as string);
            return payment;
          }
          if (named === undefined) return undefined;
          if (step.kind === "reallocation") return by.reallocate(named, to, requestId);
          return step.kind === "refund" ? by.refund(named, step.amount, requestId) : by.void(named, requestId);
        };
        if (crashes.includes(index)) {
          const kill = query(database.migrationDatabaseUrl, (client) =>
            client.query(
              "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'billing' and usename = 'billing'",
            ),
          ).catch(() => undefined);
          await Promise.all([insist(call, replica), kill]);
        } else await Promise.all([insist(call, replica), ...(step.repeat ? [insist(call, step.repeat ? one : other)] : [])]);
      };
      for (let index = 0; index < list.length; index += 6)
        await Promise.all(list.slice(index, index + 6).map((step, offset) => take(step, index + offset)));

      await expectToHold();
      for (const accountId of accounts) {
        const { tax_payable: taxPayable } = await one.accounts.get({ accountId });
        expect(await foldEvents(accountId)).toEqual({ ...(await balances(accountId)), taxPayable });
      }
      for (const id of invoices) expectToAddUp(await one.invoices.get(id));
      for (const { creditNoteId } of (await one.creditNotes(create(BillingService.method.listCreditNotes.input, {}))).creditNotes)
        expectToAddUp(await one.creditNote(creditNoteId));
      await expectTaxesToAgree();
      const before = await rows("select id, version, receivable, credit, cash from accounts where id = any($1) order by id", [accounts]);
      for (const { again, answer } of done) expect(await again()).toEqual(answer);
      expect(await rows("select id, version, receivable, credit, cash from accounts where id = any($1) order by id", [accounts])).toEqual(
        before,
      );
    }),
    { numRuns: 15 },
  );
});

test("the checker names what somebody with the owner's rights has tampered with", async () => {
  const accountId = await one.newAccount();
  await one.charge(accountId, 100n);
  const tamper = (sign: string) =>
    query(database.migrationDatabaseUrl, (client) =>
      client.query(`update accounts set receivable = receivable ${sign} 1, revenue = revenue ${sign} 1 where id = $1`, [accountId]),
    );
  await tamper("+");
  const { holds, findings } = await verifyLedger(one.db.pool);
  await tamper("-");
  expect(holds).toBe(false);
  expect(findings).toEqual([
    { rule: "the balances of an account are the sums of its entries", ids: [accountId] },
    { rule: "what an account owes is open on its charges", ids: [accountId] },
  ]);
  await expectToHold();
});

test("an event has the time of its transaction, also on a replica whose clock is behind", async () => {
  const behind = openReplica(database.databaseUrl, { now: () => new Date(Date.now() - 60_000) });
  const accountId = await one.newAccount();
  await one.charge(accountId, 100n);
  await behind.charge(accountId, 200n);
  await behind.close();
  const transactions = await rows("select created_at from transactions where account_id = $1 order by sequence", [accountId]);
  const events = (await rows("select payload from outbox where key = $1 order by id", [accountId])).map(({ payload }) =>
    fromBinary(BillingEventSchema, payload),
  );
  const charged = events
    .filter(({ event }) => event.case === "chargeCreated")
    .map(({ occurredAt }) => occurredAt && timestampDate(occurredAt));
  expect(charged).toEqual(transactions.map((row) => row.created_at));
});
