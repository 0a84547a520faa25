/**
 * What a charge, a payment, a refund or a void does to an account, as pure arithmetic: no database, no clock, no ids of its
 * own. Two rules decide everything: a payment settles the oldest open charges first, and a charge is settled by the oldest
 * credit first. So an account never has credit and open charges at once.
 */
import { AppError } from "@pm/kit/errors";

/** The most that any balance may be, in minor units: 2^53, which every client holds exactly. */
export const maxMinorUnits = 2n ** 53n;

/** The four ledger accounts of a patient, each on its normal side; `receivable + cash = revenue + credit`. */
export type Balances = { receivable: bigint; credit: bigint; revenue: bigint; cash: bigint };

export type AccountState = Balances & { id: string; status: "ACTIVE" | "SUSPENDED" | "CLOSED"; currency: string; transactionCount: bigint };
export type ChargeState = {
  id: string;
  sequence: bigint;
  amount: bigint;
  settled: bigint;
  isVoid: boolean;
  invoiceId: string | undefined;
};
export type PaymentState = { id: string; sequence: bigint; amount: bigint; allocated: bigint; refunded: bigint };
/** How much of a payment settles a charge. */
export type AllocationState = { paymentId: string; chargeId: string; amount: bigint };

/** What has to be known of an account to post to it. Changed in place, so that the next posting sees this one. */
export type Book = {
  account: AccountState;
  /** Charges by id: those that are open, and those that a command names or that settle by what it names. */
  charges: Map<string, ChargeState>;
  payments: Map<string, PaymentState>;
  /** Complete for charges that are to be voided and payments that are to be refunded. */
  allocations: AllocationState[];
};

export type Command =
  | { kind: "charge"; amount: bigint; currency: string; chargeId: string }
  | { kind: "payment"; amount: bigint; currency: string; paymentId: string }
  | { kind: "refund"; paymentId: string; amount: bigint | undefined; currency: string | undefined }
  | { kind: "void"; chargeId: string };

export type Posting = {
  sequence: bigint;
  type: "CHARGE" | "VOID" | "PAYMENT" | "REFUND";
  /** What it does to the balance. */
  amount: bigint;
  /** Receivable minus credit after it. */
  balance: bigint;
  /** Debits positive, credits negative; they sum to zero. */
  entries: { ledgerAccount: "RECEIVABLE" | "CREDIT" | "REVENUE" | "CASH"; amount: bigint }[];
  /** At most one for each pair of payment and charge; none is zero. */
  allocations: AllocationState[];
};

/**
 * Posts a command: changes the book and says what is to be written.
 * @throws AppError failed_precondition or invalid_argument where a rule refuses it; the book is then as it was.
 */
export function post(book: Book, command: Command): Posting {
  const { account } = book;
  if (account.status === "CLOSED") throw refused("ACCOUNT_CLOSED", "The account is closed. Set its status to ACTIVE to use it again.");
  if (command.kind === "charge" && account.status === "SUSPENDED")
    throw refused(
      "ACCOUNT_SUSPENDED",
      "The account is suspended: it takes payments and no charges. Set its status to ACTIVE to charge it.",
    );
  if ("currency" in command && command.currency !== undefined && command.currency !== account.currency)
    throw wrongCurrency(account.currency);

  const before: Balances = { ...account };
  const moves: AllocationState[] = [];
  const move = (payment: PaymentState, charge: ChargeState, amount: bigint): void => {
    payment.allocated += amount;
    charge.settled += amount;
    account.receivable -= amount;
    account.credit -= amount;
    moves.push({ paymentId: payment.id, chargeId: charge.id, amount });
  };
  const sequence = account.transactionCount + 1n;

  switch (command.kind) {
    case "charge": {
      requireRoom(before.receivable + command.amount, before.revenue + command.amount);
      account.receivable += command.amount;
      account.revenue += command.amount;
      const charge = { id: command.chargeId, sequence, amount: command.amount, settled: 0n, isVoid: false, invoiceId: undefined };
      book.charges.set(charge.id, charge);
      break;
    }
    case "payment": {
      requireRoom(before.credit + command.amount, before.cash + command.amount);
      account.cash += command.amount;
      account.credit += command.amount;
      const payment = { id: command.paymentId, sequence, amount: command.amount, allocated: 0n, refunded: 0n };
      book.payments.set(payment.id, payment);
      break;
    }
    case "refund": {
      const payment = book.payments.get(command.paymentId);
      if (!payment) throw new Error("the payment was not loaded");
      const left = payment.amount - payment.refunded;
      const amount = command.amount ?? left;
      if (amount > left || left === 0n) throw refundExceeds(left, account.currency);
      requireRoom(before.receivable + amount);
      // What settles no charge goes back first, then what settles the newest charges.
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
      break;
    }
    case "void": {
      const charge = book.charges.get(command.chargeId);
      if (!charge) throw new Error("the charge was not loaded");
      if (charge.isVoid) throw refused("CHARGE_VOIDED", "The charge has been voided already.");
      if (charge.invoiceId)
        throw refused("CHARGE_INVOICED", "The charge is on an invoice. Void the invoice first.", { invoiceId: charge.invoiceId });
      requireRoom(before.credit + charge.settled);
      for (const { payment, settled } of settling(book, charge)) move(payment, charge, -settled);
      charge.isVoid = true;
      account.receivable -= charge.amount;
      account.revenue -= charge.amount;
      break;
    }
  }
  settle(book, move);

  account.transactionCount = sequence;
  const allocations = merge(moves, ({ paymentId, chargeId }) => `${paymentId}:${chargeId}`);
  book.allocations = merge([...book.allocations, ...moves], ({ paymentId, chargeId }) => `${paymentId}:${chargeId}`);
  const entries = [
    { ledgerAccount: "RECEIVABLE" as const, amount: account.receivable - before.receivable },
    { ledgerAccount: "CREDIT" as const, amount: before.credit - account.credit },
    { ledgerAccount: "REVENUE" as const, amount: before.revenue - account.revenue },
    { ledgerAccount: "CASH" as const, amount: account.cash - before.cash },
  ];
  const balance = account.receivable - account.credit;
  return {
    sequence,
    type: command.kind.toUpperCase() as Posting["type"],
    amount: balance - (before.receivable - before.credit),
    balance,
    entries: entries.filter((entry) => entry.amount !== 0n),
    allocations,
  };
}

/** What is open on a charge. */
export function openOf(charge: ChargeState): bigint {
  return charge.isVoid ? 0n : charge.amount - charge.settled;
}

/** What of a payment is credit. */
export function creditOf(payment: PaymentState): bigint {
  return payment.amount - payment.allocated - payment.refunded;
}

/** What allocations mean for each charge: settled more (positive) or open again (negative). */
export function byCharge(allocations: { chargeId: string; amount: bigint }[]): { chargeId: string; amount: bigint }[] {
  return merge(allocations, ({ chargeId }) => chargeId).map(({ chargeId, amount }) => ({ chargeId, amount }));
}

/** Credit settles open charges: oldest with oldest. */
function settle(book: Book, move: (payment: PaymentState, charge: ChargeState, amount: bigint) => void): void {
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

function settledBy(book: Book, payment: PaymentState): { charge: ChargeState; settled: bigint }[] {
  return book.allocations
    .filter((allocation) => allocation.paymentId === payment.id)
    .map((allocation) => ({ charge: known(book.charges, allocation.chargeId), settled: allocation.amount }))
    .sort((a, b) => bySequence(b.charge, a.charge));
}

function settling(book: Book, charge: ChargeState): { payment: PaymentState; settled: bigint }[] {
  return book.allocations
    .filter((allocation) => allocation.chargeId === charge.id)
    .map((allocation) => ({ payment: known(book.payments, allocation.paymentId), settled: allocation.amount }));
}

function known<T>(map: Map<string, T>, id: string): T {
  const value = map.get(id);
  if (value === undefined) throw new Error("an allocation names what was not loaded");
  return value;
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

function bySequence(a: { sequence: bigint }, b: { sequence: bigint }): number {
  return a.sequence < b.sequence ? -1 : a.sequence > b.sequence ? 1 : 0;
}

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
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
