/**
 * A batch of postings: the books of its accounts are loaded under their locks, requests are posted to them in memory,
 * one after the other (recording.ts), and what is to be written is collected for one statement.
 */
import type { Queries } from "@pm/kit/postgres/transaction";
import type { Row } from "../tables.ts";
import type { Book } from "./book.ts";
import { namedIn, type PostingRequest, targetsOf } from "./posting-request.ts";
import {
  type ChargeRow,
  leftOn,
  loadCredits,
  loadNamedCharges,
  loadOpenCharges,
  loadTargets,
  noWrites,
  type PaymentRow,
  type Writes,
} from "./store.ts";
import { taxIn } from "./tax.ts";

export type Batch = {
  /** By the ids of the accounts. */
  books: Map<string, Book>;
  /** Rows by id, as loaded or created. The books know what is settled, allocated and refunded of them now. */
  charges: Map<string, ChargeRow>;
  payments: Map<string, PaymentRow>;
  newCharges: Map<string, Writes["newCharges"][number]>;
  newPayments: Map<string, Writes["newPayments"][number]>;
  /** The accounts with the time of their last posting, and the ids of what postings have changed. */
  changed: { accounts: Map<string, Date>; charges: Set<string>; payments: Set<string> };
  writes: Writes;
};

/**
 * Loads what the requests may change. Of an account with a long history, only the oldest open items that they reach.
 * @param accountIds the account of each request
 * @param accounts the locked accounts, by their ids
 */
export async function loadBatch(
  tx: Queries,
  requests: PostingRequest[],
  accountIds: Map<PostingRequest, string>,
  accounts: Map<string, Row<"accounts">>,
): Promise<Batch> {
  const batch = emptyBatch(accounts);
  const { chargeIds, paymentIds } = targetsOf(requests);
  if (chargeIds.length + paymentIds.length > 0) await addTargets(tx, batch, chargeIds, paymentIds);
  const named = namedIn(requests);
  if (named.chargeIds.length + named.invoiceIds.length > 0)
    for (const row of await loadNamedCharges(tx, named.chargeIds, named.invoiceIds)) addCharge(batch, row);
  const { credit, charged } = reachOf(batch, requests, (posting) => accounts.get(accountIds.get(posting) ?? ""));
  if (credit.size > 0) for (const row of await loadOpenCharges(tx, credit)) addCharge(batch, row);
  if (charged.size > 0) for (const row of await loadCredits(tx, charged)) addPayment(batch, row);
  return batch;
}

/** Loads charges of one account from which amounts are to be taken off, and what the freed amounts may settle. */
export async function loadForReduction(tx: Queries, account: Row<"accounts">, chargeIds: string[]): Promise<Batch> {
  const batch = emptyBatch(new Map([[account.id, account]]));
  await addTargets(tx, batch, chargeIds, []);
  const need = chargeIds.reduce((sum, id) => sum + needOf(batch.charges.get(id)), 0n);
  if (account.receivable > 0n && need > 0n)
    for (const row of await loadOpenCharges(tx, new Map([[account.id, need]]))) addCharge(batch, row);
  return batch;
}

/**
 * The most that may settle other charges when this one goes: what was paid of it. Its own open part counts too, because
 * it is among the open charges that are loaded, and goes.
 */
function needOf(charge: ChargeRow | undefined): bigint {
  return charge ? leftOn(charge) : 0n;
}

async function addTargets(tx: Queries, batch: Batch, chargeIds: string[], paymentIds: string[]): Promise<void> {
  const { charges, payments, settled } = await loadTargets(tx, chargeIds, paymentIds);
  for (const row of charges) addCharge(batch, row);
  for (const row of payments) addPayment(batch, row);
  for (const { payment_id: paymentId, charge_id: chargeId, amount } of settled) {
    const accountId = batch.charges.get(chargeId)?.account_id ?? "";
    batch.books.get(accountId)?.allocations.push({ paymentId, chargeId, amount });
  }
}

function emptyBatch(accounts: Map<string, Row<"accounts">>): Batch {
  const books = new Map<string, Book>();
  for (const account of accounts.values()) {
    const { id, status, currency, receivable, credit, revenue, cash, merged_into: mergedInto } = account;
    const { bad_debt: badDebt, tax_payable: taxPayable, transaction_count: transactionCount } = account;
    const balances = { receivable, credit, revenue, cash, badDebt, taxPayable };
    const isRestricted = account.restricted_at !== null;
    const state = { id, status, currency, ...balances, transactionCount, mergedInto, isRestricted };
    books.set(id, { account: state, charges: new Map(), payments: new Map(), allocations: [] });
  }
  return {
    books,
    charges: new Map(),
    payments: new Map(),
    newCharges: new Map(),
    newPayments: new Map(),
    changed: { accounts: new Map(), charges: new Set(), payments: new Set() },
    writes: noWrites(),
  };
}

function addCharge(batch: Batch, row: ChargeRow): void {
  const { id, sequence, amount, tax_rate: taxRate, settled, reduced, written_off: writtenOff, voided_at, invoice_id } = row;
  batch.charges.set(id, row);
  const state = { id, sequence, amount, taxRate, settled, reduced, writtenOff };
  batch.books.get(row.account_id)?.charges.set(id, { ...state, isVoid: voided_at !== null, invoiceId: invoice_id ?? undefined });
}

function addPayment(batch: Batch, row: PaymentRow): void {
  const { id, sequence, amount, allocated, refunded } = row;
  batch.payments.set(id, row);
  batch.books.get(row.account_id)?.payments.set(id, { id, sequence, amount, allocated, refunded });
}

/**
 * The most that the requests can move in each account: credit that they may bring to an account with open charges, and
 * open charges that they may bring to an account with credit.
 */
function reachOf(
  batch: Batch,
  requests: PostingRequest[],
  accountOf: (posting: PostingRequest) => Row<"accounts"> | undefined,
): { credit: Map<string, bigint>; charged: Map<string, bigint> } {
  const credit = new Map<string, bigint>();
  const charged = new Map<string, bigint>();
  const add = (sums: Map<string, bigint>, id: string, amount: bigint) => sums.set(id, (sums.get(id) ?? 0n) + amount);
  for (const posting of requests) {
    const account = accountOf(posting);
    if (!account) continue;
    const { kind, request } = posting;
    if (account.receivable > 0n && kind === "payment") add(credit, account.id, request.amount.minorUnits);
    if (kind === "reallocation") {
      const amount = batch.payments.get(request.paymentId)?.amount ?? 0n;
      if (account.receivable > 0n) add(credit, account.id, amount);
      if (account.credit > 0n) add(charged, account.id, amount);
    }
    if (account.receivable > 0n && kind === "void") add(credit, account.id, needOf(batch.charges.get(request.chargeId)));
    if (account.credit > 0n && kind === "charge") add(charged, account.id, request.amount.minorUnits);
    if (account.credit > 0n && kind === "refund") add(charged, account.id, batch.payments.get(request.paymentId)?.amount ?? 0n);
  }
  return { credit, charged };
}

/** A charge as it is after the postings so far. */
export function chargeNow({ books, charges }: Batch, id: string): ChargeRow {
  const row = charges.get(id);
  const state = row && books.get(row.account_id)?.charges.get(id);
  if (!state) throw new Error("the charge was not loaded");
  return { ...row, settled: state.settled, reduced: state.reduced, written_off: state.writtenOff };
}

/** A payment as it is after the postings so far. */
export function paymentNow({ books, payments }: Batch, id: string): PaymentRow {
  const row = payments.get(id);
  const state = row && books.get(row.account_id)?.payments.get(id);
  if (!state) throw new Error("the payment was not loaded");
  return { ...row, allocated: state.allocated, refunded: state.refunded };
}

/** What the batch writes: rows that several postings have changed, once, as they are in the end. */
export function finishBatch(batch: Batch): Writes {
  const { books, newCharges, newPayments, changed, writes } = batch;
  for (const [id, at] of changed.accounts) {
    const state = books.get(id)?.account;
    if (!state) continue;
    const { receivable, credit, revenue, cash, badDebt: bad_debt, taxPayable: tax_payable, transactionCount: transaction_count } = state;
    writes.accounts.push({ id, receivable, credit, revenue, cash, bad_debt, tax_payable, transaction_count, updated_at: at });
  }
  for (const [id, row] of newCharges) writes.newCharges.push({ ...row, settled: chargeNow(batch, id).settled });
  for (const [id, row] of newPayments) {
    const { allocated, refunded } = paymentNow(batch, id);
    writes.newPayments.push({ ...row, allocated, refunded });
  }
  for (const id of changed.charges) {
    if (newCharges.has(id)) continue;
    const { amount, settled, reduced, written_off, tax_rate, voided_at } = chargeNow(batch, id);
    const tax_payable = voided_at ? 0n : taxIn(amount - reduced, tax_rate);
    writes.charges.push({ id, settled, reduced, written_off, tax_payable, voided_at });
  }
  for (const id of changed.payments) {
    if (newPayments.has(id)) continue;
    const { allocated, refunded } = paymentNow(batch, id);
    writes.payments.push({ id, allocated, refunded });
  }
  return writes;
}
