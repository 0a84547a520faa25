/** Posts a request to a batch, and records what follows from it: rows, an event, an audit entry and the answer. */
import { create, type DescMessage, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { AppError } from "@pm/kit/errors";
import {
  CreateChargeResponseSchema,
  ReallocatePaymentResponseSchema,
  RecordPaymentResponseSchema,
  RefundPaymentResponseSchema,
  VoidChargeResponseSchema,
} from "@pm/proto/billing/v1/billing";
import type { Allocation } from "@pm/proto/billing/v1/events";
import { toMoney } from "../accounts/messages.ts";
import { later } from "../dates.ts";
import { type DomainEvent, toOutboxEvent } from "../events.ts";
import type { Row } from "../tables.ts";
import { type Batch, chargeNow, paymentNow } from "./batch.ts";
import { paymentMethods, taxedAmount, toAllocations, toCharge, toPayment, toTaxField } from "./messages.ts";
import { auditActions, type PostingRequest, type RequestOf, toCommand } from "./posting-request.ts";
import { byCharge, type Command, type Posting, post } from "./postings.ts";
import type { Writes } from "./store.ts";

/**
 * Posts a request to the book of its account, and collects what is to be written.
 * @returns the encoded answer
 * @throws AppError if a rule refuses the request; the batch is then as it was, unless it is TooManyAllocations
 */
export function postRequest(
  batch: Batch,
  request: PostingRequest,
  account: Row<"accounts">,
  { now, newId, clinicTimeZone }: { now: Date; newId: () => string; clinicTimeZone: string },
): Uint8Array {
  const id = newId();
  const posted = { id, clinicTimeZone, ...postCommand(batch, toCommand(request, id, account.currency), account, { now, newId }) };
  const { answer, ...particulars } = record(batch, request, posted);
  collect(batch, posted, { ...particulars, action: auditActions[request.kind] }, request);
  batch.writes.requests.push({ ...request.key, response: answer, created_at: posted.at, subject: account.id });
  return answer;
}

/**
 * The charges that one transaction settles or opens again at most, so that its answer and its event can be received.
 */
const maxAllocations = 10_000;

/** A refusal that comes when the book has changed already, so nothing else may be posted to it. */
export class TooManyAllocations extends AppError {
  constructor() {
    const message = `It would settle or open again more than ${maxAllocations} charges at once. Do it in smaller parts.`;
    super("failed_precondition", message, { reason: "TOO_MANY_ALLOCATIONS" });
  }
}

/**
 * Posts a command to the book of an account, and notes what has changed.
 * @throws AppError if a rule refuses it; TooManyAllocations if the book is of no use any longer
 */
export function postCommand(
  { books, changed }: Batch,
  command: Command,
  account: Row<"accounts">,
  { now, newId }: { now: Date; newId: () => string },
): PostedCommand {
  const book = books.get(account.id);
  if (!book) throw new Error("the book was not loaded");
  // The clocks of replicas differ by milliseconds. Within an account, time must not go back.
  const at = later(now, account.updated_at);
  const posting = post(book, command);
  const allocated = byCharge(posting.allocations);
  if (allocated.length > maxAllocations) throw new TooManyAllocations();
  for (const { chargeId, paymentId } of posting.allocations) {
    changed.charges.add(chargeId);
    changed.payments.add(paymentId);
  }
  for (const { chargeId } of posting.reductions) changed.charges.add(chargeId);
  changed.accounts.set(account.id, at);
  return { transactionId: newId(), at, account, posting, allocations: toAllocations(allocated, account.currency) };
}

/** Collects the transaction, its lines, its event and its audit entry. */
export function collect(
  { writes }: Batch,
  { transactionId, at, account, posting }: PostedCommand,
  { transaction, event, action, details }: Omit<Particulars, "answer"> & { action: string },
  { key, context }: Pick<PostingRequest, "key" | "context">,
): void {
  const { sequence, type, amount, balance } = posting;
  writes.transactions.push({
    ...{ id: transactionId, account_id: account.id, sequence, type, amount, balance },
    ...{ charge_id: null, payment_id: null, refund_id: null, ...transaction },
    ...{ request_id: key.id, created_at: at },
  });
  collectLines(writes, posting, transactionId, account.currency);
  const { actorId, requestId, traceparent } = context;
  writes.events.push(toOutboxEvent(account, event, { at, traceparent }));
  writes.audit.push({ actorId, action, subject: account.id, requestId, details });
}

function collectLines(writes: Writes, posting: Posting, transactionId: string, currency: string): void {
  for (const { chargeId, amount, tax } of posting.reductions)
    writes.reductions.push({ transaction_id: transactionId, charge_id: chargeId, amount, tax });
  for (const { ledgerAccount, amount } of posting.entries)
    writes.entries.push({ transaction_id: transactionId, ledger_account: ledgerAccount, currency, amount });
  for (const { paymentId, chargeId, amount } of posting.allocations)
    writes.allocations.push({ transaction_id: transactionId, payment_id: paymentId, charge_id: chargeId, amount });
}

/** A posting with the id and the time of its transaction. */
type PostedCommand = {
  transactionId: string;
  at: Date;
  account: Row<"accounts">;
  posting: Posting;
  allocations: Allocation[];
};
type Posted = PostedCommand & {
  /** Of the charge, payment or refund that is created. */
  id: string;
  clinicTimeZone: string;
};

/** What is particular to a kind of posting. */
type Particulars = {
  transaction: { charge_id?: string; payment_id?: string; refund_id?: string; description: string };
  event: DomainEvent;
  details: Record<string, string>;
  answer: Uint8Array;
};

/** Adds the rows of the posting's own kind to the batch. */
function record(batch: Batch, { kind, request }: PostingRequest, posted: Posted): Particulars {
  switch (kind) {
    case "charge":
      return recordCharge(batch, request, posted);
    case "payment":
      return recordPayment(batch, request, posted);
    case "reallocation":
      return recordReallocation(batch, request, posted);
    case "refund":
      return recordRefund(batch, request, posted);
    case "void":
      return recordVoid(batch, request, posted);
  }
}

/** The columns that new charges and new payments have in common. */
function newRow({ id, transactionId, at, account, posting }: Posted) {
  return { id, account_id: account.id, sequence: posting.sequence, transaction_id: transactionId, created_at: at };
}

function recordCharge(batch: Batch, request: RequestOf<"charge">, posted: Posted): Particulars {
  const { amount, description, serviceDate } = request;
  const { id, allocations } = posted;
  const { currency } = posted.account;
  const { code: tax_code = "", rateBasisPoints: tax_rate = 0 } = request.tax ?? {};
  const taxed = taxedAmount({ tax_code, tax_rate }, amount.minorUnits);
  const row = { ...newRow(posted), amount: amount.minorUnits, settled: 0n, description, service_date: serviceDate, tax_code, tax_rate };
  batch.newCharges.set(id, { ...row, tax_payable: taxed.tax });
  batch.charges.set(id, { ...row, reduced: 0n, written_off: 0n, invoice_id: null, voided_at: null });
  return {
    transaction: { charge_id: id, description },
    event: { case: "chargeCreated", value: { chargeId: id, amount, allocations, ...toTaxField(taxed, currency) } },
    details: { chargeId: id, amount: String(amount.minorUnits), currency },
    answer: encode(CreateChargeResponseSchema, { charge: toCharge(chargeNow(batch, id), posted.account) }),
  };
}

function recordPayment(batch: Batch, request: RequestOf<"payment">, posted: Posted): Particulars {
  const { amount, method, reference, paymentDate } = request;
  const { id, clinicTimeZone, allocations } = posted;
  const { currency } = posted.account;
  const state = { amount: amount.minorUnits, allocated: 0n, refunded: 0n };
  const row = { ...newRow(posted), ...state, method: paymentMethods[method] ?? "", reference, payment_date: paymentDate };
  batch.newPayments.set(id, row);
  batch.payments.set(id, row);
  return {
    transaction: { payment_id: id, description: reference },
    event: { case: "paymentRecorded", value: { paymentId: id, amount, allocations } },
    details: { paymentId: id, amount: String(amount.minorUnits), currency },
    answer: encode(RecordPaymentResponseSchema, { payment: toPayment(paymentNow(batch, id), posted.account, clinicTimeZone), allocations }),
  };
}

function recordReallocation(batch: Batch, { paymentId }: RequestOf<"reallocation">, posted: Posted): Particulars {
  const { account, clinicTimeZone, allocations } = posted;
  const payment = toPayment(paymentNow(batch, paymentId), account, clinicTimeZone);
  return {
    transaction: { payment_id: paymentId, description: "" },
    event: { case: "paymentReallocated", value: { paymentId, allocations } },
    details: { paymentId },
    answer: encode(ReallocatePaymentResponseSchema, { payment, allocations }),
  };
}

function recordRefund(batch: Batch, request: RequestOf<"refund">, posted: Posted): Particulars {
  const { paymentId, reason } = request;
  const { id, transactionId, at, account, posting, allocations, clinicTimeZone } = posted;
  const { currency } = account;
  const amount = toMoney(posting.amount, currency);
  batch.changed.payments.add(paymentId);
  const row = { id, payment_id: paymentId, transaction_id: transactionId, amount: posting.amount, reason, created_at: at };
  batch.writes.refunds.push(row);
  return {
    transaction: { payment_id: paymentId, refund_id: id, description: reason },
    event: { case: "paymentRefunded", value: { paymentId, refundId: id, amount, allocations } },
    details: { paymentId, refundId: id, amount: String(posting.amount), currency },
    answer: encode(RefundPaymentResponseSchema, {
      refund: { refundId: id, paymentId, accountId: account.id, amount, reason, createTime: timestampFromDate(at) },
      payment: toPayment(paymentNow(batch, paymentId), account, clinicTimeZone),
      allocations,
    }),
  };
}

function recordVoid(batch: Batch, request: RequestOf<"void">, posted: Posted): Particulars {
  const { chargeId, reason } = request;
  const { at, account, allocations } = posted;
  const { currency } = account;
  batch.changed.charges.add(chargeId);
  const charge = { ...chargeNow(batch, chargeId), voided_at: at };
  batch.charges.set(chargeId, charge);
  // Discounts have taken off the rest already.
  const amount = toMoney(charge.amount - charge.reduced, currency);
  const tax = toTaxField(taxedAmount(charge, amount.minorUnits), currency);
  return {
    transaction: { charge_id: chargeId, description: reason },
    event: { case: "chargeVoided", value: { chargeId, amount, allocations, ...tax } },
    details: { chargeId, amount: String(amount.minorUnits), currency },
    answer: encode(VoidChargeResponseSchema, { charge: toCharge(charge, account), allocations }),
  };
}

function encode<Schema extends DescMessage>(schema: Schema, init: MessageInitShape<Schema>): Uint8Array {
  return toBinary(schema, create(schema, init));
}
