/** What callers read of the ledger: pages of transactions, charges and payments. */
import { create } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { Cursors } from "@pm/kit/cursor";
import {
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
  PaymentSchema,
  TransactionSchema,
  TransactionType,
} from "@pm/proto/billing/v1/billing";
import { accountNotFound } from "../accounts/accounts.ts";
import { findAccount } from "../accounts/store.ts";
import { readPage } from "../paging.ts";
import type { BillingDatabase, Row } from "../tables.ts";
import { pageOfCharges, pageOfPayments, pageOfTransactions, type TransactionKind } from "./history-store.ts";
import { toCharge, toPayment, toTransaction } from "./messages.ts";

export type History = {
  transactions(request: ListTransactionsRequest): Promise<ListTransactionsResponse>;
  charges(request: ListChargesRequest): Promise<ListChargesResponse>;
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

    async charges(request) {
      const { id, currency } = await findOrThrow(db, request.accountId);
      const filter = { openOnly: request.openOnly, uninvoicedOnly: request.uninvoicedOnly };
      const { items: charges, nextPageToken } = await readPage(cursors, request, {
        query: ["charges", id, filter],
        read: (page) => pageOfCharges(db, id, filter, page),
        positionOf,
        schema: ChargeSchema,
        toItem: (row) => toCharge(row, currency),
      });
      return create(ListChargesResponseSchema, { charges, nextPageToken });
    },

    async payments(request) {
      const { id, currency } = await findOrThrow(db, request.accountId);
      const { items: payments, nextPageToken } = await readPage(cursors, request, {
        query: ["payments", id],
        read: (page) => pageOfPayments(db, id, page),
        positionOf,
        schema: PaymentSchema,
        toItem: (row) => toPayment(row, currency, clinicTimeZone),
      });
      return create(ListPaymentsResponseSchema, { payments, nextPageToken });
    },
  };
}

async function findOrThrow(db: BillingDatabase, accountId: string): Promise<Row<"accounts">> {
  const account = await findAccount(db, { accountId });
  if (!account) throw accountNotFound();
  return account;
}
