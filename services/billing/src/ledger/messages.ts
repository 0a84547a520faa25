/** Rows as messages: what callers are answered, and what the other services are told on the topic `billing.v1`. */
import { randomUUIDv7 } from "node:crypto";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { OutboxEvent } from "@pm/kit/kafka/outbox";
import {
  type BillingAccount,
  BillingAccountSchema,
  BillingAccountStatus,
  type Charge,
  ChargeSchema,
  EntrySchema,
  LedgerAccount,
  type Payment,
  PaymentMethod,
  PaymentSchema,
  type Transaction,
  TransactionSchema,
  TransactionType,
} from "@pm/proto/billing/v1/billing";
import { type Allocation, AllocationSchema, BillingEventSchema } from "@pm/proto/billing/v1/events";
import type { AccountStatus, AccountsTable } from "../accounts/store.ts";
import { toMoney } from "../money.ts";
import type { TransactionRow } from "./history-store.ts";
import { byCharge } from "./postings.ts";
import type { ChargeRow, PaymentRow } from "./store.ts";

export const topic = "billing.v1";

export type Happening = Exclude<NonNullable<MessageInitShape<typeof BillingEventSchema>["event"]>, { case: undefined }>;

/** The outbox row for something that happened to an account. `type` is the name of the event's message, as in `billing.v1.ChargeCreated`. */
export function toOutboxEvent(
  account: { id: string; patientId: string },
  event: Happening,
  context: { now: Date; traceparent: string },
): OutboxEvent {
  const message = create(BillingEventSchema, {
    accountId: account.id,
    patientId: account.patientId,
    occurredAt: timestampFromDate(context.now),
    event,
  });
  const name = event.case.charAt(0).toUpperCase() + event.case.slice(1);
  return {
    eventId: randomUUIDv7(),
    topic,
    key: account.id,
    type: `billing.v1.${name}`,
    payload: toBinary(BillingEventSchema, message),
    traceparent: context.traceparent,
  };
}

const statuses: Record<AccountStatus, BillingAccountStatus> = {
  ACTIVE: BillingAccountStatus.ACTIVE,
  SUSPENDED: BillingAccountStatus.SUSPENDED,
  CLOSED: BillingAccountStatus.CLOSED,
};

/** The status as rows have it; undefined for "not said". */
export function fromStatus(status: BillingAccountStatus): AccountStatus | undefined {
  return (Object.keys(statuses) as AccountStatus[]).find((name) => statuses[name] === status);
}

/** How payments are made, by the numbers of the enum. */
export const paymentMethods: Readonly<Record<number, string>> = {
  [PaymentMethod.UNSPECIFIED]: "UNSPECIFIED",
  [PaymentMethod.CASH]: "CASH",
  [PaymentMethod.CARD]: "CARD",
  [PaymentMethod.TRANSFER]: "TRANSFER",
  [PaymentMethod.INSURANCE]: "INSURANCE",
};

export function accountEtag(account: Pick<AccountsTable, "version">): string {
  return `v${account.version}`;
}

export function toAccount(account: AccountsTable): BillingAccount {
  const { currency } = account;
  return create(BillingAccountSchema, {
    accountId: account.id,
    patientId: account.patient_id,
    status: statuses[account.status],
    balance: toMoney(account.receivable - account.credit, currency),
    outstanding: toMoney(account.receivable, currency),
    credit: toMoney(account.credit, currency),
    transactionCount: account.transaction_count,
    name: account.name,
    email: account.email,
    etag: accountEtag(account),
    createTime: timestampFromDate(account.created_at),
    updateTime: timestampFromDate(account.updated_at),
  });
}

export function toAllocations(allocations: { chargeId: string; amount: bigint }[], currency: string): Allocation[] {
  return allocations.map(({ chargeId, amount }) => create(AllocationSchema, { chargeId, amount: toMoney(amount, currency) }));
}

export function toCharge(charge: ChargeRow, currency: string): Charge {
  return create(ChargeSchema, {
    chargeId: charge.id,
    accountId: charge.account_id,
    amount: toMoney(charge.amount, currency),
    outstanding: toMoney(charge.voided_at ? 0n : charge.amount - charge.settled, currency),
    description: charge.description,
    serviceDate: charge.service_date,
    createTime: timestampFromDate(charge.created_at),
    ...(charge.voided_at && { voidTime: timestampFromDate(charge.voided_at) }),
    invoiceId: charge.invoice_id ?? "",
  });
}

export function toPayment(payment: PaymentRow, currency: string): Payment {
  const { amount, allocated, refunded } = payment;
  const method = Number(Object.keys(paymentMethods).find((number) => paymentMethods[Number(number)] === payment.method) ?? 0);
  return create(PaymentSchema, {
    paymentId: payment.id,
    accountId: payment.account_id,
    amount: toMoney(amount, currency),
    allocated: toMoney(allocated, currency),
    refunded: toMoney(refunded, currency),
    credit: toMoney(amount - allocated - refunded, currency),
    method,
    reference: payment.reference,
    createTime: timestampFromDate(payment.created_at),
  });
}

export function toTransaction(row: TransactionRow, currency: string): Transaction {
  return create(TransactionSchema, {
    transactionId: row.id,
    accountId: row.account_id,
    sequence: row.sequence,
    type: TransactionType[row.type],
    amount: toMoney(row.amount, currency),
    balance: toMoney(row.balance, currency),
    chargeId: row.charge_id ?? "",
    paymentId: row.payment_id ?? "",
    refundId: row.refund_id ?? "",
    description: row.description,
    createTime: timestampFromDate(row.created_at),
    // Debits come before credits.
    entries: amountsIn(row.entries)
      .sort((a, b) => (a.amount > b.amount ? -1 : 1))
      .map(({ of, amount }) =>
        create(EntrySchema, { ledgerAccount: LedgerAccount[of as keyof typeof LedgerAccount], amount: toMoney(amount, currency) }),
      ),
    allocations: toAllocations(byCharge(amountsIn(row.allocations).map(({ of, amount }) => ({ chargeId: of, amount }))), currency),
    requestId: row.request_id,
  });
}

function amountsIn(text: string | null): { of: string; amount: bigint }[] {
  if (text === null) return [];
  return text.split(",").map((part) => {
    const space = part.indexOf(" ");
    return { of: part.slice(0, space), amount: BigInt(part.slice(space + 1)) };
  });
}
