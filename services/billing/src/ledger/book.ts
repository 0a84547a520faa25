/** The book of an account: the state that postings read and change, without a database. */
import { taxIn } from "./tax.ts";

/** Ledger accounts, each positive on its normal side: `receivable + cash + badDebt = revenue + credit + taxPayable`. */
export type Balances = { receivable: bigint; credit: bigint; revenue: bigint; cash: bigint; badDebt: bigint; taxPayable: bigint };

type AccountState = Balances & {
  id: string;
  status: "ACTIVE" | "SUSPENDED" | "CLOSED";
  currency: string;
  transactionCount: bigint;
  /** The account of the survivor, if the patient's record was merged. */
  mergedInto?: string | null;
  /** Whether the erasure of its patient has begun. */
  isRestricted?: boolean;
};
export type ChargeState = {
  id: string;
  sequence: bigint;
  /** With its tax. */
  amount: bigint;
  /** In basis points; 0 without tax. */
  taxRate: number;
  settled: bigint;
  /** By discounts and credit notes. */
  reduced: bigint;
  writtenOff: bigint;
  isVoid: boolean;
  invoiceId: string | undefined;
};
export type PaymentState = { id: string; sequence: bigint; amount: bigint; allocated: bigint; refunded: bigint };
/** How much of a payment settles a charge. */
export type AllocationState = { paymentId: string; chargeId: string; amount: bigint };

/**
 * What a posting has to know about an account. A posting changes it in place, so that the next posting sees the result.
 */
export type Book = {
  account: AccountState;
  /** By id: open charges, the charges that commands name, and the charges that the named payments settle. */
  charges: Map<string, ChargeState>;
  payments: Map<string, PaymentState>;
  /** All allocations of charges to void or reduce and payments to refund or reallocate; perhaps not of others. */
  allocations: AllocationState[];
};

/** The amount that is open on a charge. */
export function openOf(charge: ChargeState): bigint {
  return charge.isVoid ? 0n : leftOf(charge) - charge.settled;
}

/** What discounts, credit notes and write-offs have left of a charge. */
export function leftOf({ amount, reduced, writtenOff }: ChargeState): bigint {
  return amount - reduced - writtenOff;
}

/** The tax that is payable on a charge: on what discounts and credit notes have left of it. A write-off leaves it. */
export function taxOf({ amount, reduced, taxRate, isVoid }: ChargeState): bigint {
  return isVoid ? 0n : taxIn(amount - reduced, taxRate);
}

/** The part of a payment that is credit. */
export function creditOf(payment: PaymentState): bigint {
  return payment.amount - payment.allocated - payment.refunded;
}

/** What a payment settles, the newest charge first. */
export function settledBy(book: Book, payment: PaymentState): { charge: ChargeState; settled: bigint }[] {
  return book.allocations
    .filter((allocation) => allocation.paymentId === payment.id)
    .map((allocation) => ({ charge: known(book.charges, allocation.chargeId), settled: allocation.amount }))
    .sort((a, b) => bySequence(b.charge, a.charge));
}

/** What settles a charge, the newest payment first. */
export function settling(book: Book, charge: ChargeState): { payment: PaymentState; settled: bigint }[] {
  return book.allocations
    .filter((allocation) => allocation.chargeId === charge.id)
    .map((allocation) => ({ payment: known(book.payments, allocation.paymentId), settled: allocation.amount }))
    .sort((a, b) => bySequence(b.payment, a.payment));
}

export function known<T>(map: Map<string, T>, id: string): T {
  const value = map.get(id);
  if (value === undefined) throw new Error("an allocation names what was not loaded");
  return value;
}

export function bySequence(a: { sequence: bigint }, b: { sequence: bigint }): number {
  return a.sequence < b.sequence ? -1 : a.sequence > b.sequence ? 1 : 0;
}
