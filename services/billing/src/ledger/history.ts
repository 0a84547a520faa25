/** What callers read of the ledger: pages of transactions, charges and payments, and statements of a period. */
import { create } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { addDays, isDate, startOfDay } from "@pm/kit/calendar";
import type { Cursors } from "@pm/kit/cursor";
import { AppError, invalidFields } from "@pm/kit/errors";
import {
  type GetStatementResponse,
  GetStatementResponseSchema,
  type ListChargesRequest,
  type ListChargesResponse,
  ListChargesResponseSchema,
  type ListPaymentsRequest,
  type ListPaymentsResponse,
  ListPaymentsResponseSchema,
  type ListTransactionsRequest,
  type ListTransactionsResponse,
  ListTransactionsResponseSchema,
  TransactionType,
} from "@pm/proto/billing/v1/billing";
import { accountNotFound } from "../accounts/accounts.ts";
import { toAccount, toMoney } from "../accounts/messages.ts";
import { findAccount } from "../accounts/store.ts";
import { readPage } from "../paging.ts";
import type { BillingDatabase, Row } from "../tables.ts";
import {
  balanceBefore,
  pageOfCharges,
  pageOfPayments,
  pageOfTransactions,
  type TransactionKind,
  type TransactionRow,
  transactionsInPeriod,
} from "./history-store.ts";
import { toCharge, toPayment, toTransaction } from "./messages.ts";

/** Bounds the cost of one statement; nobody reads a longer one. */
const maxStatementLines = 5_000;
/** The largest int64. A thousand of the largest charges, each voided before the next one, exceed it. */
const maxSum = 2n ** 63n - 1n;

type Period = { accountId: string; fromDate: string; toDate: string };

export type History = {
  transactions(request: ListTransactionsRequest): Promise<ListTransactionsResponse>;
  charges(request: ListChargesRequest): Promise<ListChargesResponse>;
  payments(request: ListPaymentsRequest): Promise<ListPaymentsResponse>;
  /** @throws AppError failed_precondition if the period has too many transactions, or a sum that is too large */
  statement(period: Period): Promise<GetStatementResponse>;
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
      const { rows, nextPageToken } = await readPage(cursors, request, {
        query: ["transactions", id, filter],
        read: (page) => pageOfTransactions(db, id, filter, page),
        positionOf,
      });
      return create(ListTransactionsResponseSchema, { transactions: rows.map((row) => toTransaction(row, currency)), nextPageToken });
    },

    async charges(request) {
      const { id, currency } = await findOrThrow(db, request.accountId);
      const filter = { openOnly: request.openOnly, uninvoicedOnly: request.uninvoicedOnly };
      const { rows, nextPageToken } = await readPage(cursors, request, {
        query: ["charges", id, filter],
        read: (page) => pageOfCharges(db, id, filter, page),
        positionOf,
      });
      return create(ListChargesResponseSchema, { charges: rows.map((row) => toCharge(row, currency)), nextPageToken });
    },

    async payments(request) {
      const { id, currency } = await findOrThrow(db, request.accountId);
      const { rows, nextPageToken } = await readPage(cursors, request, {
        query: ["payments", id],
        read: (page) => pageOfPayments(db, id, page),
        positionOf,
      });
      return create(ListPaymentsResponseSchema, { payments: rows.map((row) => toPayment(row, currency)), nextPageToken });
    },

    statement: (period) => readStatement(db, period, clinicTimeZone),
  };
}

async function readStatement(db: BillingDatabase, period: Period, clinicTimeZone: string): Promise<GetStatementResponse> {
  const { accountId, fromDate, toDate } = period;
  requirePeriod({ from_date: fromDate, to_date: toDate });
  const account = await findOrThrow(db, accountId);
  const { currency } = account;
  const from = new Date(startOfDay(fromDate, clinicTimeZone));
  const to = new Date(startOfDay(addDays(toDate, 1), clinicTimeZone));
  const rows = await transactionsInPeriod(db, account.id, from, to, maxStatementLines + 1);
  if (rows.length > maxStatementLines) throw tooLong(`The period has more than ${maxStatementLines} transactions.`);
  const charged = sumOf(rows, "CHARGE");
  const voided = -sumOf(rows, "VOID");
  const paid = -sumOf(rows, "PAYMENT");
  const refunded = sumOf(rows, "REFUND");
  const discounted = -sumOf(rows, "DISCOUNT");
  const credited = -sumOf(rows, "CREDIT_NOTE");
  const writtenOff = -sumOf(rows, "WRITE_OFF");
  if ([charged, voided, paid, refunded, discounted, credited, writtenOff].some((sum) => sum > maxSum))
    throw tooLong(`A sum of the period is above ${maxSum} minor units, the most that an answer holds.`);
  const first = rows[0];
  const opening = first ? first.balance - first.amount : await balanceBefore(db, account.id, from);
  return create(GetStatementResponseSchema, {
    account: toAccount(account),
    fromDate,
    toDate,
    openingBalance: toMoney(opening, currency),
    // From the rows: a balance from a second query could include a transaction that the rows lack.
    closingBalance: toMoney(rows.at(-1)?.balance ?? opening, currency),
    charged: toMoney(charged, currency),
    voided: toMoney(voided, currency),
    paid: toMoney(paid, currency),
    refunded: toMoney(refunded, currency),
    discounted: toMoney(discounted, currency),
    credited: toMoney(credited, currency),
    writtenOff: toMoney(writtenOff, currency),
    transactions: rows.map((row) => toTransaction(row, currency)),
  });
}

async function findOrThrow(db: BillingDatabase, accountId: string): Promise<Row<"accounts">> {
  const account = await findAccount(db, { accountId });
  if (!account) throw accountNotFound();
  return account;
}

function tooLong(why: string): AppError {
  return new AppError("failed_precondition", `${why} Choose a shorter one, or list the transactions.`, { reason: "STATEMENT_TOO_LONG" });
}

function sumOf(rows: TransactionRow[], type: TransactionKind): bigint {
  return rows.reduce((sum, row) => (row.type === type ? sum + row.amount : sum), 0n);
}

/** @throws AppError invalid_argument, which names the field as the request does */
export function requirePeriod(period: Record<string, string>): void {
  const [[first, from], [last, to]] = Object.entries(period) as [[string, string], [string, string]];
  const wrong = [
    ...(isDate(from) ? [] : [{ path: first, message: "is not a day of the calendar" }]),
    ...(isDate(to) ? [] : [{ path: last, message: "is not a day of the calendar" }]),
    ...(from > to ? [{ path: last, message: `must not be before ${first}` }] : []),
  ];
  if (wrong.length > 0) throw invalidFields(wrong);
}
