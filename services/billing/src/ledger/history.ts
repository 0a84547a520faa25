/** What callers read of the ledger: pages of transactions, charges and payments. */
import { create } from "@bufbuild/protobuf";
import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import type { Cursors } from "@pm/kit/cursor";
import { AppError } from "@pm/kit/errors";
import {
  type Charge,
  ChargeSchema,
  type ListChargesRequest,
  type ListChargesResponse,
  ListChargesResponseSchema,
  type ListPaymentsRequest,
  type ListPaymentsResponse,
  ListPaymentsResponseSchema,
  type ListTransactionsRequest,
  type ListTransactionsResponse,
  ListTransactionsResponseSchema,
  type Payment,
  PaymentSchema,
  TransactionSchema,
  TransactionType,
} from "@pm/proto/billing/v1/billing";
import { accountNotFound } from "../accounts/accounts.ts";
import { accountIdsOf } from "../accounts/patients-store.ts";
import { findAccount } from "../accounts/store.ts";
import { daysOf } from "../dates.ts";
import { readPage } from "../paging.ts";
import type { BillingDatabase, Row } from "../tables.ts";
import {
  type ChargeFilter,
  type Period,
  pageOfCharges,
  pageOfPayments,
  pageOfTransactions,
  positionIn,
  type Scope,
  type TransactionKind,
} from "./history-store.ts";
import { toAllocations, toCharge, toPayment, toTransaction } from "./messages.ts";
import { settledByPayments } from "./store.ts";

export type History = {
  transactions(request: ListTransactionsRequest): Promise<ListTransactionsResponse>;
  /** @throws AppError not_found */
  charge(id: string): Promise<Charge>;
  charges(request: ListChargesRequest): Promise<ListChargesResponse>;
  /** @throws AppError not_found */
  payment(id: string): Promise<Payment>;
  payments(request: ListPaymentsRequest): Promise<ListPaymentsResponse>;
};

type HistoryOptions = { db: BillingDatabase; cursors: Cursors; clinicTimeZone: string };

export function createHistory({ db, cursors, clinicTimeZone }: HistoryOptions): History {
  const positionOf = ({ sequence }: { sequence: bigint }) => String(sequence);

  return {
    async transactions(request) {
      const { id, currency } = await findOrThrow(db, request.accountId);
      const filter = {
        types: request.types.filter((type) => type !== TransactionType.UNSPECIFIED).map((type) => TransactionType[type] as TransactionKind),
        from: request.startTime && timestampDate(request.startTime),
        to: request.endTime && timestampDate(request.endTime),
      };
      const { items: transactions, nextPageToken } = await readPage(cursors, request, {
        query: ["transactions", id, filter],
        read: (page) => pageOfTransactions(db, id, filter, page),
        positionOf,
        schema: TransactionSchema,
        toItem: (row) => toTransaction(row, currency),
      });
      return create(ListTransactionsResponseSchema, { transactions, nextPageToken });
    },

    async charge(id) {
      const [row] = await pageOfCharges(db, { accountIds: undefined, ids: [id] }, anyCharge, { before: undefined, limit: 1 });
      if (!row) throw new AppError("not_found", "There is no such charge.", { reason: "CHARGE_NOT_FOUND" });
      return toCharge(row, row);
    },

    async charges(request) {
      const { openOnly, uninvoicedOnly } = request;
      const filter = { openOnly, uninvoicedOnly, ...daysOf(request), ...momentsOf(request) };
      const scope = await scopeOf(db, request, request.chargeIds);
      const { items: charges, nextPageToken } = await readPage(cursors, request, {
        query: ["charges", ...listOf(request, request.chargeIds), filter],
        read: (page) => pageOfCharges(db, scope, filter, page),
        positionOf: (row) => positionIn(scope, row),
        schema: ChargeSchema,
        toItem: (row) => toCharge(row, row),
      });
      return create(ListChargesResponseSchema, { charges, nextPageToken });
    },

    async payment(id) {
      const rows = await pageOfPayments(db, { accountIds: undefined, ids: [id] }, always, { before: undefined, limit: 1 });
      const [row] = await withAllocations(db, rows, true);
      if (!row) throw new AppError("not_found", "There is no such payment.", { reason: "PAYMENT_NOT_FOUND" });
      return toPayment(row, row, clinicTimeZone, row.allocations);
    },

    async payments(request) {
      const filter = momentsOf(request);
      const scope = await scopeOf(db, request, request.paymentIds);
      const { items: payments, nextPageToken } = await readPage(cursors, request, {
        query: ["payments", ...listOf(request, request.paymentIds), ...(filter.from || filter.to ? [filter] : [])],
        read: async (page) => withAllocations(db, await pageOfPayments(db, scope, filter, page), request.includeAllocations),
        positionOf: (row) => positionIn(scope, row),
        schema: PaymentSchema,
        toItem: (row) => toPayment(row, row, clinicTimeZone, row.allocations),
      });
      return create(ListPaymentsResponseSchema, { payments, nextPageToken });
    },
  };
}

const always: Period = { from: undefined, to: undefined };
const anyCharge: ChargeFilter = { openOnly: false, uninvoicedOnly: false, fromDate: undefined, toDate: undefined, ...always };

type ListRequest = { accountId: string; patientId: string };

/** What names a list for its page tokens; for an account as it was before there were patients and ids. */
function listOf({ accountId, patientId }: ListRequest, ids: string[]): unknown[] {
  const others = { ...(patientId && { patientId }), ...(ids.length > 0 && { ids }) };
  return [accountId.toLowerCase(), ...(Object.keys(others).length > 0 ? [others] : [])];
}

/** @throws AppError not_found if there is no such account. A patient without one has no charges and payments. */
async function scopeOf(db: BillingDatabase, { accountId, patientId }: ListRequest, ids: string[]): Promise<Scope> {
  const named = accountId ? [(await findOrThrow(db, accountId)).id] : undefined;
  const ofPatient = patientId ? await accountIdsOf(db, patientId) : undefined;
  const accountIds = named && ofPatient ? named.filter((id) => ofPatient.includes(id)) : (named ?? ofPatient);
  return { accountIds, ids: ids.length > 0 ? ids : undefined };
}

function momentsOf({ startTime, endTime }: { startTime?: Timestamp | undefined; endTime?: Timestamp | undefined }): Period {
  return { from: startTime && timestampDate(startTime), to: endTime && timestampDate(endTime) };
}

/** Payments with the charges that each of them settles, if the caller wants these. */
async function withAllocations<Row extends { id: string; currency: string }>(db: BillingDatabase, rows: Row[], areWanted: boolean) {
  const ids = rows.map(({ id }) => id);
  const settled = Map.groupBy(areWanted ? await settledByPayments(db, ids) : [], (row) => row.payment_id);
  return rows.map((row) => {
    const ofPayment = (settled.get(row.id) ?? []).map(({ charge_id, amount }) => ({ chargeId: charge_id, amount }));
    return { ...row, allocations: toAllocations(ofPayment, row.currency) };
  });
}

async function findOrThrow(db: BillingDatabase, accountId: string): Promise<Row<"accounts">> {
  const account = await findAccount(db, { accountId });
  if (!account) throw accountNotFound();
  return account;
}
