/** The ledger as callers read it: pages of transactions, charges and payments, and statements of a period. */
import { create } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
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
import { accountNotFound, defaultPageSize } from "../accounts/accounts.ts";
import { type AccountsTable, type BillingDatabase, findAccount } from "../accounts/store.ts";
import { addDays, isDate, startOf } from "../dates.ts";
import { toMoney } from "../money.ts";
import {
  balanceBefore,
  pageOfCharges,
  pageOfPayments,
  pageOfTransactions,
  type TransactionKind,
  type TransactionRow,
  transactionsInPeriod,
} from "./history-store.ts";
import { toAccount, toCharge, toPayment, toTransaction } from "./messages.ts";

/** More than anybody reads; it bounds what one statement costs. */
const maxStatementLines = 5_000;
/** What an int64 of a message holds: a thousand charges as large as a balance may be, each voided before the next one. */
const maxSum = 2n ** 63n - 1n;

export type Period = { accountId: string; fromDate: string; toDate: string };

export type History = {
  transactions(request: ListTransactionsRequest): Promise<ListTransactionsResponse>;
  charges(request: ListChargesRequest): Promise<ListChargesResponse>;
  payments(request: ListPaymentsRequest): Promise<ListPaymentsResponse>;
  statement(period: Period): Promise<GetStatementResponse>;
};

export function createHistory(options: { db: BillingDatabase; cursors: Cursors }): History {
  const { db, cursors } = options;

  async function accountOf(accountId: string): Promise<AccountsTable> {
    const account = await findAccount(db, { accountId });
    if (!account) throw accountNotFound();
    return account;
  }

  /** One row more than asked for tells whether there is a next page. */
  async function page<Row extends { sequence: bigint }>(
    query: unknown[],
    { pageSize, pageToken }: { pageSize: number; pageToken: string },
    fetch: (page: { before: bigint | undefined; limit: number }) => Promise<Row[]>,
  ): Promise<{ rows: Row[]; nextPageToken: string }> {
    const limit = pageSize || defaultPageSize;
    const before = pageToken ? BigInt(String(cursors.open(query, pageToken, "page_token")[0])) : undefined;
    const rows = await fetch({ before, limit: limit + 1 });
    const last = rows.length > limit ? rows[limit - 1] : undefined;
    return { rows: rows.slice(0, limit), nextPageToken: last ? cursors.seal(query, [String(last.sequence)]) : "" };
  }

  return {
    async transactions(request) {
      const { id, currency } = await accountOf(request.accountId);
      const filter = {
        types: request.types.filter((type) => type !== TransactionType.UNSPECIFIED).map((type) => TransactionType[type] as TransactionKind),
        from: request.startTime && timestampDate(request.startTime),
        to: request.endTime && timestampDate(request.endTime),
      };
      const { rows, nextPageToken } = await page(["transactions", id, filter], request, (where) =>
        pageOfTransactions(db, id, filter, where),
      );
      return create(ListTransactionsResponseSchema, { transactions: rows.map((row) => toTransaction(row, currency)), nextPageToken });
    },

    async charges(request) {
      const { id, currency } = await accountOf(request.accountId);
      const filter = { openOnly: request.openOnly, uninvoicedOnly: request.uninvoicedOnly };
      const { rows, nextPageToken } = await page(["charges", id, filter], request, (where) => pageOfCharges(db, id, filter, where));
      return create(ListChargesResponseSchema, { charges: rows.map((row) => toCharge(row, currency)), nextPageToken });
    },

    async payments(request) {
      const { id, currency } = await accountOf(request.accountId);
      const { rows, nextPageToken } = await page(["payments", id], request, (where) => pageOfPayments(db, id, where));
      return create(ListPaymentsResponseSchema, { payments: rows.map((row) => toPayment(row, currency)), nextPageToken });
    },

    async statement({ accountId, fromDate, toDate }) {
      requirePeriod(fromDate, toDate);
      const account = await accountOf(accountId);
      const { currency } = account;
      const [from, to] = [startOf(fromDate), startOf(addDays(toDate, 1))];
      const rows = await transactionsInPeriod(db, account.id, from, to, maxStatementLines + 1);
      if (rows.length > maxStatementLines) throw tooLong(`The period has more than ${maxStatementLines} transactions.`);
      const charged = sumOf(rows, "CHARGE");
      const voided = -sumOf(rows, "VOID");
      const paid = -sumOf(rows, "PAYMENT");
      const refunded = sumOf(rows, "REFUND");
      if ([charged, voided, paid, refunded].some((sum) => sum > maxSum))
        throw tooLong(`A sum of the period is above ${maxSum} minor units, the most that an answer holds.`);
      const first = rows[0];
      const opening = first ? first.balance - first.amount : await balanceBefore(db, account.id, from);
      return create(GetStatementResponseSchema, {
        account: toAccount(account),
        fromDate,
        toDate,
        openingBalance: toMoney(opening, currency),
        // Not asked for separately: a transaction that was posted in between would make it disagree with the lines.
        closingBalance: toMoney(rows.at(-1)?.balance ?? opening, currency),
        charged: toMoney(charged, currency),
        voided: toMoney(voided, currency),
        paid: toMoney(paid, currency),
        refunded: toMoney(refunded, currency),
        transactions: rows.map((row) => toTransaction(row, currency)),
      });
    },
  };
}

function tooLong(why: string): AppError {
  return new AppError("failed_precondition", `${why} Choose a shorter one, or list the transactions.`, { reason: "STATEMENT_TOO_LONG" });
}

function sumOf(rows: TransactionRow[], type: TransactionKind): bigint {
  return rows.reduce((sum, row) => (row.type === type ? sum + row.amount : sum), 0n);
}

function requirePeriod(fromDate: string, toDate: string): void {
  const wrong = [
    ...(isDate(fromDate) ? [] : [{ path: "from_date", message: "is not a day of the calendar" }]),
    ...(isDate(toDate) ? [] : [{ path: "to_date", message: "is not a day of the calendar" }]),
    ...(fromDate > toDate ? [{ path: "to_date", message: "must not be before from_date" }] : []),
  ];
  if (wrong.length > 0) throw invalidFields(wrong);
}
