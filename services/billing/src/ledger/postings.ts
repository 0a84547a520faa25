/**
 * What a charge, a payment, a refund or a void does to an account. It is pure arithmetic: no database, no clock, no ids
 * of its own. It follows three rules: a payment settles what its caller names, then the oldest open charges, and the
 * oldest credit settles a charge first. So an account never has both credit and open charges.
 */
import { AppError } from "@pm/kit/errors";
import { requireNotMerged } from "../accounts/merged.ts";
import {
  type AllocationState,
  type Balances,
  type Book,
  bySequence,
  type ChargeState,
  creditOf,
  known,
  leftOf,
  openOf,
  type PaymentState,
  settledBy,
  settling,
  taxOf,
} from "./book.ts";
import { splitAmount, type Target } from "./split.ts";

/** The largest balance, in minor units: 2^53, because every client can hold that exactly. */
export const maxMinorUnits = 2n ** 53n;

export type Command =
  | { kind: "charge"; amount: bigint; taxRate: number; currency: string; chargeId: string }
  | { kind: "payment"; amount: bigint; currency: string; paymentId: string; targets: Target[] }
  | { kind: "reallocation"; paymentId: string; targets: Target[] }
  | { kind: "refund"; paymentId: string; amount: bigint | undefined; currency: string | undefined }
  | { kind: "void"; chargeId: string }
  | { kind: Reduction; targets: Target[] };

/**
 * What takes an amount off charges: for the first two the revenue goes, with its tax. For the last it becomes bad debt,
 * and the tax on it stays payable.
 */
export type Reduction = "discount" | "credit_note" | "write_off";

export type Posting = {
  sequence: bigint;
  type: Uppercase<Command["kind"]>;
  /** By how much it changes the balance. */
  amount: bigint;
  /** Receivable minus credit, after it. */
  balance: bigint;
  /** Debits are positive, credits negative. They sum to zero. */
  entries: { ledgerAccount: "RECEIVABLE" | "CREDIT" | "REVENUE" | "CASH" | "BAD_DEBT" | "TAX_PAYABLE"; amount: bigint }[];
  /** What was taken off each charge, and the tax in it; no amount is zero. */
  reductions: { chargeId: string; amount: bigint; tax: bigint }[];
  /** At most one for each pair of a payment and a charge; none of them is zero. */
  allocations: AllocationState[];
};

/**
 * Posts a command: changes the book and gives what is to be written.
 * @throws AppError failed_precondition or invalid_argument if a rule refuses it; the book is then unchanged
 */
export function post(book: Book, command: Command): Posting {
  const { account } = book;
  if (command.kind === "charge" || command.kind === "payment") requireNotMerged(account.mergedInto);
  if (account.status === "CLOSED") throw refused("ACCOUNT_CLOSED", "The account is closed. Set its status to ACTIVE to use it again.");
  if (command.kind === "charge" && account.status === "SUSPENDED")
    throw refused(
      "ACCOUNT_SUSPENDED",
      "The account is suspended: it takes payments and no charges. Set its status to ACTIVE to charge it.",
    );
  // What is open holds the erasure, so nothing may be added to it.
  if (command.kind === "charge" && account.isRestricted)
    throw refused(
      "ACCOUNT_RESTRICTED",
      "The patient of this account is being erased: it takes no new charges, only what settles it, such as payments and credit notes.",
    );
  if ("currency" in command && command.currency !== undefined && command.currency !== account.currency)
    throw wrongCurrency(account.currency);

  const before: Balances = { ...account };
  const moves: AllocationState[] = [];
  const move: Move = (payment, charge, amount) => {
    payment.allocated += amount;
    charge.settled += amount;
    account.receivable -= amount;
    account.credit -= amount;
    moves.push({ paymentId: payment.id, chargeId: charge.id, amount });
  };
  const reductions = carryOut(book, command, move);
  settle(book, move);

  account.transactionCount += 1n;
  const allocations = merge(moves, ({ paymentId, chargeId }) => `${paymentId}:${chargeId}`);
  book.allocations = merge([...book.allocations, ...moves], ({ paymentId, chargeId }) => `${paymentId}:${chargeId}`);
  const entries = [
    { ledgerAccount: "RECEIVABLE" as const, amount: account.receivable - before.receivable },
    { ledgerAccount: "CREDIT" as const, amount: before.credit - account.credit },
    { ledgerAccount: "REVENUE" as const, amount: before.revenue - account.revenue },
    { ledgerAccount: "CASH" as const, amount: account.cash - before.cash },
    { ledgerAccount: "BAD_DEBT" as const, amount: account.badDebt - before.badDebt },
    { ledgerAccount: "TAX_PAYABLE" as const, amount: before.taxPayable - account.taxPayable },
  ];
  const balance = account.receivable - account.credit;
  return {
    sequence: account.transactionCount,
    type: command.kind.toUpperCase() as Posting["type"],
    amount: balance - (before.receivable - before.credit),
    balance,
    entries: entries.filter((entry) => entry.amount !== 0n),
    allocations,
    reductions,
  };
}

/** Lets a payment settle more of a charge, or less if the amount is negative. */
type Move = (payment: PaymentState, charge: ChargeState, amount: bigint) => void;
type CommandOf<Kind extends Command["kind"]> = Extract<Command, { kind: Kind }>;

function carryOut(book: Book, command: Command, move: Move): Posting["reductions"] {
  if (command.kind === "charge") addCharge(book, command);
  else if (command.kind === "payment") addPayment(book, command, move);
  else if (command.kind === "reallocation") reallocate(book, command, move);
  else if (command.kind === "refund") refund(book, command, move);
  else if (command.kind === "void") voidCharge(book, command, move);
  else return reduce(book, command, move);
  return [];
}

function addCharge({ account, charges }: Book, { amount, taxRate, chargeId: id }: CommandOf<"charge">): void {
  const charge = { id, sequence: account.transactionCount + 1n, amount, taxRate, ...untouched };
  const tax = taxOf(charge);
  requireRoom(account.receivable + amount, account.revenue + amount - tax, account.taxPayable + tax);
  account.receivable += amount;
  account.revenue += amount - tax;
  account.taxPayable += tax;
  charges.set(id, charge);
}

const untouched = { settled: 0n, reduced: 0n, writtenOff: 0n, isVoid: false, invoiceId: undefined };

function addPayment({ account, charges, payments }: Book, command: CommandOf<"payment">, move: Move): void {
  const { amount, paymentId: id, targets } = command;
  requireRoom(account.credit + amount, account.cash + amount);
  const parts = splitAmount(charges.values(), targets, { available: amount, left: openOf, path: "allocations" });
  account.cash += amount;
  account.credit += amount;
  const payment = { id, sequence: account.transactionCount + 1n, amount, allocated: 0n, refunded: 0n };
  payments.set(id, payment);
  for (const { charge, amount: part } of parts) move(payment, charge, part);
}

function reallocate(book: Book, { paymentId, targets }: CommandOf<"reallocation">, move: Move): void {
  const payment = known(book.payments, paymentId);
  const settledBefore = settledBy(book, payment);
  const freed = new Map(settledBefore.map(({ charge, settled }) => [charge.id, settled]));
  const left = (charge: ChargeState) => openOf(charge) + (freed.get(charge.id) ?? 0n);
  const available = payment.amount - payment.refunded;
  const parts = splitAmount(book.charges.values(), targets, { available, left, path: "allocations" });
  for (const { charge, settled } of settledBefore) move(payment, charge, -settled);
  for (const { charge, amount } of parts) move(payment, charge, amount);
}

function refund(book: Book, command: CommandOf<"refund">, move: Move): void {
  const { account } = book;
  const payment = book.payments.get(command.paymentId);
  if (!payment) throw new Error("the payment was not loaded");
  const left = payment.amount - payment.refunded;
  const amount = command.amount ?? left;
  if (amount > left || left === 0n) throw refundExceeds(left, account.currency);
  requireRoom(account.receivable + amount);
  // Credit is refunded first, then the part that settles charges, the newest charges first.
  let missing = amount - creditOf(payment);
  for (const { charge, settled } of settledBy(book, payment)) {
    if (missing <= 0n) break;
    const part = min(settled, missing);
    move(payment, charge, -part);
    missing -= part;
  }
  payment.refunded += amount;
  account.cash -= amount;
  account.credit -= amount;
}

function voidCharge(book: Book, { chargeId }: CommandOf<"void">, move: Move): void {
  const { account } = book;
  const charge = book.charges.get(chargeId);
  if (!charge) throw new Error("the charge was not loaded");
  if (charge.isVoid) throw refused("CHARGE_VOIDED", "The charge has been voided already.");
  if (charge.invoiceId)
    throw refused("CHARGE_INVOICED", "The charge is on an invoice. Void the invoice first.", { invoiceId: charge.invoiceId });
  if (charge.writtenOff > 0n) throw refused("CHARGE_WRITTEN_OFF", "A part of the charge was written off, so it cannot be voided.");
  if (leftOf(charge) === 0n) throw refused("CHARGE_REDUCED", "Nothing is left of the charge: all of it was taken off.");
  requireRoom(account.credit + charge.settled);
  for (const { payment, settled } of settling(book, charge)) move(payment, charge, -settled);
  const tax = taxOf(charge);
  charge.isVoid = true;
  account.receivable -= leftOf(charge);
  account.revenue -= leftOf(charge) - tax;
  account.taxPayable -= tax;
}

function reduce(book: Book, { kind, targets }: CommandOf<Reduction>, move: Move): Posting["reductions"] {
  const { account } = book;
  // A write-off takes what is open. The others take what was paid too, which becomes credit.
  const left = (charge: ChargeState) => (kind === "write_off" ? openOf(charge) : charge.isVoid ? 0n : leftOf(charge));
  const parts = splitAmount(book.charges.values(), targets, { left, path: kind === "write_off" ? "amount" : "reductions" });
  const freed = parts.map(({ charge, amount }) => max(amount - openOf(charge), 0n));
  requireRoom(account.credit + freed.reduce((sum, amount) => sum + amount, 0n), account.badDebt + account.receivable);
  return parts.map(({ charge, amount }, index) => {
    let paid = freed[index] ?? 0n;
    for (const { payment, settled } of settling(book, charge)) {
      const part = min(settled, paid);
      if (part > 0n) move(payment, charge, -part);
      paid -= part;
    }
    const taxBefore = taxOf(charge);
    if (kind === "write_off") charge.writtenOff += amount;
    else charge.reduced += amount;
    const tax = taxBefore - taxOf(charge);
    account.receivable -= amount;
    account.taxPayable -= tax;
    if (kind === "write_off") account.badDebt += amount;
    else account.revenue -= amount - tax;
    return { chargeId: charge.id, amount, tax };
  });
}

/** By how much each charge is settled (positive) or open again (negative). */
export function byCharge(allocations: { chargeId: string; amount: bigint }[]): { chargeId: string; amount: bigint }[] {
  return merge(allocations, ({ chargeId }) => chargeId).map(({ chargeId, amount }) => ({ chargeId, amount }));
}

/** Lets credit settle open charges: the oldest credit settles the oldest charge. */
function settle(book: Book, move: Move): void {
  if (book.account.credit === 0n || book.account.receivable === 0n) return;
  const charges = [...book.charges.values()].filter((charge) => openOf(charge) > 0n).sort(bySequence);
  const payments = [...book.payments.values()].filter((payment) => creditOf(payment) > 0n).sort(bySequence);
  let next = 0;
  for (const payment of payments) {
    for (; next < charges.length; next += 1) {
      const charge = charges[next] as ChargeState;
      move(payment, charge, min(openOf(charge), creditOf(payment)));
      if (openOf(charge) > 0n) break;
    }
  }
}

function merge<Part extends { amount: bigint }>(allocations: Part[], keyOf: (allocation: Part) => string): Part[] {
  const sums = new Map<string, Part>();
  for (const allocation of allocations) {
    const key = keyOf(allocation);
    const sum = sums.get(key);
    sums.set(key, sum ? { ...sum, amount: sum.amount + allocation.amount } : allocation);
  }
  return [...sums.values()].filter((allocation) => allocation.amount !== 0n);
}

function requireRoom(...amounts: bigint[]): void {
  if (amounts.every((amount) => amount <= maxMinorUnits)) return;
  throw refused("BALANCE_LIMIT", `A balance of the account would exceed ${maxMinorUnits} minor units, which is the most that is kept.`);
}

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

function refused(reason: string, message: string, metadata: Record<string, string> = {}): AppError {
  return new AppError("failed_precondition", message, { reason, metadata });
}

function refundExceeds(left: bigint, currency: string): AppError {
  const message = `amount: ${left} minor units of ${currency} are left of this payment. Refund at most that.`;
  return refused("REFUND_EXCEEDS_PAYMENT", message, { refundableMinorUnits: String(left), currencyCode: currency });
}

function wrongCurrency(currency: string): AppError {
  const message = `must be ${currency}, the account's currency`;
  const path = "amount.currency_code";
  return new AppError("invalid_argument", `${path}: ${message}.`, { reason: "CURRENCY_MISMATCH", errors: [{ path, message }] });
}
