/**
 * Statements of a period: of an account, or of all accounts of a payer in one currency. What is shown of a statement
 * belongs to one snapshot, however long it is read: its first query tells which transactions it has, and these never
 * change. So a slow reader holds no connection and no transaction of the database.
 */
import { create } from "@bufbuild/protobuf";
import { addDays, isDate, startOfDay } from "@pm/kit/calendar";
import type { Cursors } from "@pm/kit/cursor";
import { AppError, invalidFields } from "@pm/kit/errors";
import { partsOfSize } from "@pm/kit/parts";
import {
  type GetStatementRequest,
  type GetStatementResponse,
  GetStatementResponseSchema,
  type StreamStatementResponse,
  StreamStatementResponseSchema,
  type Transaction,
  TransactionSchema,
} from "@pm/proto/billing/v1/billing";
import type { Money } from "@pm/proto/common/v1/money";
import { accountNotFound } from "../accounts/accounts.ts";
import { toAccount, toMoney } from "../accounts/messages.ts";
import { totalsOfPayer } from "../accounts/store.ts";
import { bytesOf, maxAnswerBytes, maxRows } from "../paging.ts";
import type { BillingDatabase } from "../tables.ts";
import type { TransactionKind } from "./history-store.ts";
import { toTransaction } from "./messages.ts";
import { findStatement, type Range, type StatementRow, statementsOfPayer, transactionsIn } from "./statement-store.ts";

/** Days of the clinic, both included. */
export type Days = { fromDate: string; toDate: string };

/** Some transactions of an account, and its statement without them. */
export type StatementPart = { statement: GetStatementResponse; transactions: Transaction[] };

export type OpenStatement = { statement: GetStatementResponse; parts: AsyncGenerator<StatementPart> };

/** What transactions sum up to. */
export type StatementSums = Pick<
  GetStatementResponse,
  "openingBalance" | "closingBalance" | "charged" | "voided" | "paid" | "refunded" | "discounted" | "credited" | "writtenOff"
>;

export type PayerStatement = {
  sums: StatementSums;
  /** What is open after the period on the accounts that owe, and the credit of the others. */
  outstanding: Money;
  credit: Money;
  /** What is open now on the invoices that are addressed to the payer. */
  invoiced: Money;
  accountIds: string[];
  transactionCount: bigint;
  parts: AsyncGenerator<StatementPart>;
};

export type Statements = {
  /**
   * All of a statement, or a page of it.
   * @throws AppError failed_precondition if all of it is more than clients receive, or a sum is too large
   */
  get(request: GetStatementRequest): Promise<GetStatementResponse>;
  /** A statement without its transactions, which follow in parts as fast as they are taken. */
  open(request: Days & { accountId: string }): Promise<OpenStatement>;
  /** @throws AppError failed_precondition if too many accounts have a part in it */
  ofPayer(request: Days & { payerId: string; currency: string }): Promise<PayerStatement>;
};

/** The largest int64. A thousand of the largest charges, each voided before the next one, exceed it. */
const maxSum = 2n ** 63n - 1n;
/** Accounts in the statement of a payer. Their sums are kept in memory while it is read. */
const maxAccounts = 10_000;
const defaultPageSize = 50;

export function createStatements(options: { db: BillingDatabase; cursors: Cursors; clinicTimeZone: string }): Statements {
  const { db, cursors, clinicTimeZone } = options;

  /** From the first moment of the first day to the first moment after the last. */
  function momentsOf({ fromDate, toDate }: Days): { from: Date; to: Date } {
    requirePeriod({ from_date: fromDate, to_date: toDate });
    return { from: new Date(startOfDay(fromDate, clinicTimeZone)), to: new Date(startOfDay(addDays(toDate, 1), clinicTimeZone)) };
  }

  async function read({ accountId, ...days }: Days & { accountId: string }, upTo?: bigint) {
    const row = await findStatement(db, accountId, momentsOf(days), upTo);
    if (!row) throw accountNotFound();
    return { row, statement: toStatement(row, days) };
  }

  return {
    async open({ accountId, fromDate, toDate }) {
      const opened = await read({ accountId, fromDate, toDate });
      return { statement: opened.statement, parts: partsOf(db, [opened]) };
    },

    async get(request) {
      const { accountId, fromDate, toDate, pageSize, pageToken } = request;
      const query = ["statement", accountId.toLowerCase(), fromDate, toDate];
      const [position, last] = pageToken ? cursors.open(query, pageToken, "page_token").map((each) => BigInt(String(each))) : [];
      const { row, statement } = await read({ accountId, fromDate, toDate }, last);
      const isPaged = pageSize > 0 || pageToken !== "";
      const after = position ?? row.after;
      const size = isPaged ? BigInt(pageSize || defaultPageSize) : row.up_to - after;
      const transactions = await asManyAsFit(db, { row: { ...row, after, up_to: min(after + size, row.up_to) }, statement });
      const end = after + BigInt(transactions.length);
      if (!isPaged && end < row.up_to) throw statementTooLong(statement.transactionCount);
      return { ...statement, transactions, nextPageToken: end < row.up_to ? cursors.seal(query, [String(end), String(row.up_to)]) : "" };
    },

    async ofPayer({ payerId, currency, ...days }) {
      const rows = await statementsOfPayer(db, { payerId, currency }, momentsOf(days), maxAccounts + 1);
      if (rows.length > maxAccounts) throw tooMany(`More than ${maxAccounts} accounts have a part in it. Choose a shorter period.`);
      const statements = rows.map((row) => ({ row, statement: toStatement(row, days) }));
      const total = (await totalsOfPayer(db, payerId)).find((each) => each.currency === currency);
      return {
        sums: sumsOf(rows, currency),
        outstanding: totalOf(rows, currency, ({ closing }) => (closing > 0n ? closing : 0n)),
        credit: totalOf(rows, currency, ({ closing }) => (closing < 0n ? -closing : 0n)),
        invoiced: toMoney(within(total?.invoiced ?? 0n), currency),
        accountIds: rows.map(({ id }) => id),
        transactionCount: rows.reduce((count, row) => count + row.up_to - row.after, 0n),
        parts: partsOf(db, statements),
      };
    },
  };
}

/** A statement as messages: the statement first, then its transactions. It ends when the signal aborts. */
export async function* toMessages({ statement, parts }: OpenStatement, signal: AbortSignal): AsyncGenerator<StreamStatementResponse> {
  yield create(StreamStatementResponseSchema, { statement });
  for await (const part of parts)
    for (const transactions of partsOfSize(part.transactions, maxAnswerBytes, (each) => bytesOf(TransactionSchema, each))) {
      signal.throwIfAborted();
      yield create(StreamStatementResponseSchema, { transactions });
    }
}

type Opened = { row: StatementRow; statement: GetStatementResponse };

/**
 * The transactions of statements, one statement after the other. One without transactions has one part, which is empty.
 */
async function* partsOf(db: BillingDatabase, statements: Opened[]): AsyncGenerator<StatementPart> {
  for (const portion of portionsOf(statements)) {
    const rows = Map.groupBy(await transactionsIn(db, portion), (row) => row.account_id);
    for (const { opened, accountId } of portion) {
      const { statement, row } = opened;
      const transactions = (rows.get(accountId) ?? []).map((each) => toTransaction(each, row.currency));
      yield { statement, transactions };
    }
  }
}

/** Ranges that are read together: of few accounts, and with few transactions. */
function* portionsOf(statements: Opened[]): Generator<(Range & { opened: Opened })[]> {
  let portion: (Range & { opened: Opened })[] = [];
  let room = BigInt(maxRows);
  for (const opened of statements) {
    const { id: accountId, up_to } = opened.row;
    let { after } = opened.row;
    do {
      if (room === 0n || portion.length === maxRows) {
        yield portion;
        [portion, room] = [[], BigInt(maxRows)];
      }
      const upTo = min(after + room, up_to);
      portion.push({ opened, accountId, after, upTo });
      room -= upTo - after;
      after = upTo;
    } while (after < up_to);
  }
  if (portion.length > 0) yield portion;
}

/** The first transactions of a range: all, or those that fit into an answer, but at least one. */
async function asManyAsFit(db: BillingDatabase, range: Opened): Promise<Transaction[]> {
  const fitting: Transaction[] = [];
  let bytes = 0;
  for await (const { transactions } of partsOf(db, [range]))
    for (const transaction of transactions) {
      bytes += bytesOf(TransactionSchema, transaction);
      if (bytes > maxAnswerBytes && fitting.length > 0) return fitting;
      fitting.push(transaction);
    }
  return fitting;
}

function toStatement(row: StatementRow, days: Days): GetStatementResponse {
  const transactionCount = row.up_to - row.after;
  return create(GetStatementResponseSchema, { account: toAccount(row), ...days, ...sumsOf([row], row.currency), transactionCount });
}

/** @throws AppError failed_precondition if the sum is more than an answer holds */
function totalOf(rows: StatementRow[], currency: string, amountOf: (row: StatementRow) => bigint): Money {
  return toMoney(within(rows.reduce((total, row) => total + amountOf(row), 0n)), currency);
}

function within(sum: bigint): bigint {
  if (sum <= maxSum && sum >= -maxSum) return sum;
  throw tooMany(
    `A sum of the period is above ${maxSum} minor units, the most that an answer holds. Choose a shorter period, or list the transactions.`,
  );
}

function sumsOf(rows: StatementRow[], currency: string): StatementSums {
  const total = (amountOf: (row: StatementRow) => bigint) => totalOf(rows, currency, amountOf);
  const of = (kind: TransactionKind, sign: 1n | -1n = 1n) => total(({ sums }) => sign * BigInt(sums[kind] ?? 0));
  return {
    openingBalance: total(({ opening }) => opening),
    closingBalance: total(({ closing }) => closing),
    charged: of("CHARGE"),
    voided: of("VOID", -1n),
    paid: of("PAYMENT", -1n),
    refunded: of("REFUND"),
    discounted: of("DISCOUNT", -1n),
    credited: of("CREDIT_NOTE", -1n),
    writtenOff: of("WRITE_OFF", -1n),
  };
}

export function statementTooLong(transactions: bigint): AppError {
  const limit = `${maxAnswerBytes / 1024 / 1024} MiB`;
  return tooMany(
    `With its ${transactions} transactions, the statement is larger than ${limit}. Call StreamStatement, or get it page by page with page_size.`,
  );
}

function tooMany(message: string): AppError {
  return new AppError("failed_precondition", message, { reason: "STATEMENT_TOO_LONG" });
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

function min(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}
