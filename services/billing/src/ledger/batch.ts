/**
 * The books of the accounts that a batch of requests touches: loaded under the accounts' locks, posted to in memory, and
 * handed over as everything that is to be written.
 */
import { create, type DescMessage, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  CreateChargeResponseSchema,
  RecordPaymentResponseSchema,
  RefundPaymentResponseSchema,
  VoidChargeResponseSchema,
} from "@pm/proto/billing/v1/billing";
import type { AccountsTable, Context, Queries } from "../accounts/store.ts";
import { later } from "../dates.ts";
import type { RequestKey } from "../idempotency.ts";
import { toMoney } from "../money.ts";
import { type Happening, paymentMethods, toAllocations, toCharge, toOutboxEvent, toPayment } from "./messages.ts";
import { type Book, byCharge, type Command, type Posting, post } from "./postings.ts";
import { type ChargeRow, loadCredits, loadOpenCharges, loadTargets, noWrites, type PaymentRow, type Writes } from "./store.ts";

export type Amount = { minorUnits: bigint; currencyCode: string };

/** What callers ask for. */
export type NewCharge = { accountId: string; amount: Amount; description: string; serviceDate: string };
export type NewPayment = { accountId: string; amount: Amount; method: number; reference: string };
export type NewRefund = { paymentId: string; amount: Amount | undefined; reason: string };
export type NewVoid = { chargeId: string; reason: string };

/** A request on its way into a batch. */
export type Job = { key: RequestKey; context: Context } & (
  | { kind: "charge"; request: NewCharge; serviceDate: string }
  | { kind: "payment"; request: NewPayment }
  | { kind: "refund"; request: NewRefund }
  | { kind: "void"; request: NewVoid }
);
export type Books = { books: Map<string, Book>; charges: Map<string, ChargeRow>; payments: Map<string, PaymentRow> };

/** Loads what the jobs may touch: of an account with a long history, only the oldest open items that they can reach. */
export async function loadBooks(
  tx: Queries,
  jobs: Job[],
  accountIds: Map<Job, string>,
  accounts: Map<string, AccountsTable>,
): Promise<Books> {
  const books = new Map<string, Book>();
  for (const account of accounts.values()) {
    const { id, status, currency, receivable, credit, revenue, cash, transaction_count: transactionCount } = account;
    const state = { id, status, currency, receivable, credit, revenue, cash, transactionCount };
    books.set(id, { account: state, charges: new Map(), payments: new Map(), allocations: [] });
  }
  const result: Books = { books, charges: new Map(), payments: new Map() };
  const addCharge = (row: ChargeRow): void => {
    const { id, sequence, amount, settled, voided_at, invoice_id } = row;
    const state = { id, sequence, amount, settled, isVoid: voided_at !== null, invoiceId: invoice_id ?? undefined };
    result.charges.set(id, row);
    books.get(row.account_id)?.charges.set(id, state);
  };
  const addPayment = (row: PaymentRow): void => {
    const { id, sequence, amount, allocated, refunded } = row;
    result.payments.set(id, row);
    books.get(row.account_id)?.payments.set(id, { id, sequence, amount, allocated, refunded });
  };

  const voids = jobs.flatMap((job) => (job.kind === "void" ? [job.request.chargeId] : []));
  const refunds = jobs.flatMap((job) => (job.kind === "refund" ? [job.request.paymentId] : []));
  if (voids.length + refunds.length > 0) {
    const targets = await loadTargets(tx, voids, refunds);
    targets.charges.forEach(addCharge);
    targets.payments.forEach(addPayment);
    for (const { payment_id: paymentId, charge_id: chargeId, amount } of targets.allocations) {
      const accountId = result.charges.get(chargeId)?.account_id ?? "";
      books.get(accountId)?.allocations.push({ paymentId, chargeId, amount });
    }
  }
  // Credit that these jobs may bring, and what of charges they may open: the most that can be moved.
  const credit = new Map<string, bigint>();
  const charged = new Map<string, bigint>();
  const add = (sums: Map<string, bigint>, id: string, amount: bigint) => sums.set(id, (sums.get(id) ?? 0n) + amount);
  for (const job of jobs) {
    const account = accounts.get(accountIds.get(job) ?? "");
    if (!account) continue;
    if (account.receivable > 0n && job.kind === "payment") add(credit, account.id, job.request.amount.minorUnits);
    if (account.receivable > 0n && job.kind === "void") add(credit, account.id, result.charges.get(job.request.chargeId)?.settled ?? 0n);
    if (account.credit > 0n && job.kind === "charge") add(charged, account.id, job.request.amount.minorUnits);
    if (account.credit > 0n && job.kind === "refund") add(charged, account.id, result.payments.get(job.request.paymentId)?.amount ?? 0n);
  }
  if (credit.size > 0) (await loadOpenCharges(tx, credit)).forEach(addCharge);
  if (charged.size > 0) (await loadCredits(tx, charged)).forEach(addPayment);
  return result;
}

/** Posts jobs one after the other in memory and collects what is to be written. */
export function startBatch({ books, charges, payments }: Books, now: Date, newId: () => string) {
  const writes = noWrites();
  const newCharges = new Map<string, Writes["newCharges"][number]>();
  const newPayments = new Map<string, Writes["newPayments"][number]>();
  const touched = { accounts: new Map<string, Date>(), charges: new Set<string>(), payments: new Set<string>() };

  /** A row as it is after the postings so far. */
  function chargeNow(id: string, book: Book): ChargeRow {
    const row = charges.get(id);
    const state = book.charges.get(id);
    if (!row || !state) throw new Error("the charge was not loaded");
    return { ...row, settled: state.settled };
  }
  function paymentNow(id: string, book: Book): PaymentRow {
    const row = payments.get(id);
    const state = book.payments.get(id);
    if (!row || !state) throw new Error("the payment was not loaded");
    return { ...row, allocated: state.allocated, refunded: state.refunded };
  }

  return {
    /** @throws AppError where a rule refuses the job. */
    post(job: Job, account: AccountsTable): Uint8Array {
      const book = books.get(account.id);
      if (!book) throw new Error("the book was not loaded");
      // Replicas' clocks differ by milliseconds; within an account, time does not run backwards.
      const at = later(now, account.updated_at);
      const id = newId();
      const posting = post(book, toCommand(job, id));
      const transactionId = newId();
      const { currency } = account;
      const allocations = byCharge(posting.allocations);
      const common = { id, account_id: account.id, sequence: posting.sequence, transaction_id: transactionId, created_at: at };
      for (const allocation of posting.allocations) {
        touched.charges.add(allocation.chargeId);
        touched.payments.add(allocation.paymentId);
      }
      let happening: Happening;
      let response: Uint8Array;
      let details: Record<string, unknown>;
      let row: Pick<Writes["transactions"][number], "charge_id" | "payment_id" | "refund_id" | "description">;
      switch (job.kind) {
        case "charge": {
          const { amount, description } = job.request;
          const charge = { ...common, amount: amount.minorUnits, settled: 0n, description, service_date: job.serviceDate };
          newCharges.set(id, charge);
          charges.set(id, { ...charge, invoice_id: null, voided_at: null });
          happening = { case: "chargeCreated", value: { chargeId: id, amount, allocations: toAllocations(allocations, currency) } };
          row = { charge_id: id, payment_id: null, refund_id: null, description };
          details = { chargeId: id, amount: String(amount.minorUnits), currency };
          response = encode(CreateChargeResponseSchema, { charge: toCharge(chargeNow(id, book), currency) });
          break;
        }
        case "payment": {
          const { amount, method, reference } = job.request;
          const payment = {
            ...common,
            amount: amount.minorUnits,
            allocated: 0n,
            refunded: 0n,
            method: paymentMethods[method] ?? "",
            reference,
          };
          newPayments.set(id, payment);
          payments.set(id, payment);
          happening = { case: "paymentRecorded", value: { paymentId: id, amount, allocations: toAllocations(allocations, currency) } };
          row = { charge_id: null, payment_id: id, refund_id: null, description: reference };
          details = { paymentId: id, amount: String(amount.minorUnits), currency };
          response = encode(RecordPaymentResponseSchema, {
            payment: toPayment(paymentNow(id, book), currency),
            allocations: toAllocations(allocations, currency),
          });
          break;
        }
        case "refund": {
          const { paymentId, reason } = job.request;
          const amount = toMoney(posting.amount, currency);
          touched.payments.add(paymentId);
          writes.refunds.push({ id, payment_id: paymentId, transaction_id: transactionId, amount: posting.amount, reason, created_at: at });
          const value = { paymentId, refundId: id, amount, allocations: toAllocations(allocations, currency) };
          happening = { case: "paymentRefunded", value };
          row = { charge_id: null, payment_id: paymentId, refund_id: id, description: reason };
          details = { paymentId, refundId: id, amount: String(posting.amount), currency };
          response = encode(RefundPaymentResponseSchema, {
            refund: { refundId: id, paymentId, accountId: account.id, amount, reason, createTime: timestampFromDate(at) },
            payment: toPayment(paymentNow(paymentId, book), currency),
            allocations: toAllocations(allocations, currency),
          });
          break;
        }
        case "void": {
          const { chargeId, reason } = job.request;
          touched.charges.add(chargeId);
          const charge = { ...chargeNow(chargeId, book), voided_at: at };
          charges.set(chargeId, charge);
          const amount = toMoney(charge.amount, currency);
          happening = { case: "chargeVoided", value: { chargeId, amount, allocations: toAllocations(allocations, currency) } };
          row = { charge_id: chargeId, payment_id: null, refund_id: null, description: reason };
          details = { chargeId, amount: String(charge.amount), currency };
          response = encode(VoidChargeResponseSchema, {
            charge: toCharge(charge, currency),
            allocations: toAllocations(allocations, currency),
          });
          break;
        }
      }
      const { sequence, type, amount, balance } = posting;
      const { id: requestId } = job.key;
      writes.transactions.push({
        ...{ id: transactionId, account_id: account.id, sequence, type, amount, balance },
        ...row,
        ...{ request_id: requestId, created_at: at },
      });
      collectLines(writes, posting, transactionId, currency);
      const { traceparent, actor } = job.context;
      writes.events.push(toOutboxEvent({ id: account.id, patientId: account.patient_id }, happening, { now: at, traceparent }));
      writes.audit.push({ action: auditActions[job.kind], subject: account.id, details, actor });
      writes.requests.push({ ...job.key, response, created_at: at });
      touched.accounts.set(account.id, at);
      return response;
    },

    /** Everything that the jobs wrote, with rows that were touched several times as they are in the end. */
    finish(): Writes {
      for (const [id, at] of touched.accounts) {
        const state = books.get(id)?.account;
        if (!state) continue;
        const { receivable, credit, revenue, cash, transactionCount: transaction_count } = state;
        writes.accounts.push({ id, receivable, credit, revenue, cash, transaction_count, updated_at: at });
      }
      for (const book of books.values()) {
        for (const [id, row] of newCharges)
          if (book.charges.has(id)) writes.newCharges.push({ ...row, settled: chargeNow(id, book).settled });
        for (const [id, row] of newPayments)
          if (book.payments.has(id)) writes.newPayments.push({ ...row, ...stateOf(paymentNow(id, book)) });
        for (const id of touched.charges) {
          if (newCharges.has(id) || !book.charges.has(id)) continue;
          const { settled, voided_at } = chargeNow(id, book);
          writes.charges.push({ id, settled, voided_at });
        }
        for (const id of touched.payments)
          if (!newPayments.has(id) && book.payments.has(id)) writes.payments.push({ id, ...stateOf(paymentNow(id, book)) });
      }
      return writes;
    },
  };
}

const auditActions = { charge: "charge.created", payment: "payment.recorded", refund: "payment.refunded", void: "charge.voided" } as const;

function toCommand(job: Job, id: string): Command {
  switch (job.kind) {
    case "charge": {
      const { minorUnits: amount, currencyCode: currency } = job.request.amount;
      return { kind: "charge", amount, currency, chargeId: id };
    }
    case "payment": {
      const { minorUnits: amount, currencyCode: currency } = job.request.amount;
      return { kind: "payment", amount, currency, paymentId: id };
    }
    case "refund":
      return {
        kind: "refund",
        paymentId: job.request.paymentId,
        amount: job.request.amount?.minorUnits,
        currency: job.request.amount?.currencyCode,
      };
    case "void":
      return { kind: "void", chargeId: job.request.chargeId };
  }
}

function collectLines(writes: Writes, posting: Posting, transactionId: string, currency: string): void {
  for (const { ledgerAccount, amount } of posting.entries)
    writes.entries.push({ transaction_id: transactionId, ledger_account: ledgerAccount, currency, amount });
  for (const { paymentId, chargeId, amount } of posting.allocations)
    writes.allocations.push({ transaction_id: transactionId, payment_id: paymentId, charge_id: chargeId, amount });
}

function stateOf({ allocated, refunded }: PaymentRow): { allocated: bigint; refunded: bigint } {
  return { allocated, refunded };
}

function encode<Schema extends DescMessage>(schema: Schema, init: MessageInitShape<Schema>): Uint8Array {
  return toBinary(schema, create(schema, init));
}
