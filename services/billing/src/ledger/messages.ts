/** The ledger as the messages that callers get. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { localDateAt } from "@pm/kit/calendar";
import {
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
import { type Allocation, AllocationSchema, type Tax, TaxSchema } from "@pm/proto/billing/v1/events";
import { toMoney } from "../accounts/messages.ts";
import type { Row } from "../tables.ts";
import type { TransactionRow } from "./history-store.ts";
import { byCharge } from "./postings.ts";
import { type ChargeRow, leftOn, type PaymentRow } from "./store.ts";
import { type Taxed, taxIn } from "./tax.ts";

/** The payment methods as rows have them, by the numbers of the enum. */
export const paymentMethods: Readonly<Record<number, string>> = {
  [PaymentMethod.UNSPECIFIED]: "UNSPECIFIED",
  [PaymentMethod.CASH]: "CASH",
  [PaymentMethod.CARD]: "CARD",
  [PaymentMethod.TRANSFER]: "TRANSFER",
  [PaymentMethod.INSURANCE]: "INSURANCE",
};

export function toAllocations(allocations: { chargeId: string; amount: bigint }[], currency: string): Allocation[] {
  return allocations.map(({ chargeId, amount }) => create(AllocationSchema, { chargeId, amount: toMoney(amount, currency) }));
}

/** An amount of a charge with the tax in it. */
export function taxedAmount({ tax_code, tax_rate }: Pick<ChargeRow, "tax_code" | "tax_rate">, gross: bigint): Taxed {
  return { code: tax_code, rate: tax_rate, gross, tax: taxIn(gross, tax_rate) };
}

export function toTax({ code, rate, gross, tax }: Taxed, currency: string): Tax {
  const [net, amount] = [toMoney(gross - tax, currency), toMoney(tax, currency)];
  return create(TaxSchema, { code, rateBasisPoints: rate, net, tax: amount, gross: toMoney(gross, currency) });
}

/** The field of a message that has the tax, which is not set without one. */
export function toTaxField(taxed: Taxed, currency: string): { tax?: Tax } {
  return taxed.code === "" ? {} : { tax: toTax(taxed, currency) };
}

/** Whose charge or payment it is. */
type Owner = Pick<Row<"accounts">, "currency" | "patient_id">;

export function toCharge(charge: ChargeRow, { currency, patient_id }: Owner): Charge {
  return create(ChargeSchema, {
    chargeId: charge.id,
    accountId: charge.account_id,
    patientId: patient_id,
    amount: toMoney(charge.amount, currency),
    outstanding: toMoney(charge.voided_at ? 0n : leftOn(charge) - charge.settled, currency),
    reduced: toMoney(charge.reduced, currency),
    writtenOff: toMoney(charge.written_off, currency),
    description: charge.description,
    serviceDate: charge.service_date,
    createTime: timestampFromDate(charge.created_at),
    ...(charge.voided_at && { voidTime: timestampFromDate(charge.voided_at) }),
    invoiceId: charge.invoice_id ?? "",
    ...toTaxField(taxedAmount(charge, charge.amount), currency),
  });
}

export function toPayment(
  payment: PaymentRow,
  { currency, patient_id }: Owner,
  clinicTimeZone: string,
  allocations: Allocation[] = [],
): Payment {
  const { amount, allocated, refunded } = payment;
  const method = Number(Object.keys(paymentMethods).find((number) => paymentMethods[Number(number)] === payment.method) ?? 0);
  return create(PaymentSchema, {
    paymentId: payment.id,
    accountId: payment.account_id,
    patientId: patient_id,
    amount: toMoney(amount, currency),
    allocated: toMoney(allocated, currency),
    refunded: toMoney(refunded, currency),
    credit: toMoney(amount - allocated - refunded, currency),
    method,
    reference: payment.reference,
    createTime: timestampFromDate(payment.created_at),
    // Payments of earlier releases have no day of their own.
    paymentDate: payment.payment_date ?? localDateAt(payment.created_at.getTime(), clinicTimeZone),
    allocations,
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
    paymentDate: row.payment_date ?? "",
  });
}

/** The amounts in a text such as `RECEIVABLE 1250,REVENUE -1250`. */
function amountsIn(text: string | null): { of: string; amount: bigint }[] {
  if (text === null) return [];
  return text.split(",").map((part) => {
    const space = part.indexOf(" ");
    return { of: part.slice(0, space), amount: BigInt(part.slice(space + 1)) };
  });
}
