/**
 * Accounts of one person who had several records. Patient-service links the account of a merged record to that of its
 * survivor. Both keep their ledgers and currencies, and no money moves; whoever asks for one person sees both.
 */
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { AppError } from "@pm/kit/errors";
import { inTransaction } from "@pm/kit/postgres/transaction";
import type { RequestContext } from "@pm/kit/request-context";
import {
  type AccountTotalSchema,
  type GetBillingAccountResponse,
  GetBillingAccountResponseSchema,
  type GetStatementRequest,
  type GetStatementResponse,
  GetStatementResponseSchema,
} from "@pm/proto/billing/v1/billing";
import { toAccount, toMoney } from "../accounts/messages.ts";
import { findAccount, lockAccounts } from "../accounts/store.ts";
import { later } from "../dates.ts";
import { retries } from "../idempotency/idempotency.ts";
import { type Days, type OpenStatement, type Statements, statementTooLong } from "../ledger/statements.ts";
import { maxAnswerBytes } from "../paging.ts";
import type { BillingDatabase, Row } from "../tables.ts";
import { accountsOf, linkedAccounts, setLink } from "./store.ts";

/** Without a survivor, the account is on its own again. */
type LinkRequest = { patientId: string; survivorPatientId?: string; revision: bigint };
type Link = { accountId: string; mergedIntoAccountId: string };

export type Links = {
  /** @throws AppError failed_precondition if a patient has no account yet: then it is to be asked again */
  set(request: LinkRequest, context: RequestContext): Promise<Link>;
  /** An account with those that are linked to it. */
  withLinked(account: Row<"accounts">): Promise<GetBillingAccountResponse>;
  /**
   * The statement of an account with those of the accounts that are linked to it. The first page has the latter,
   * without transactions; the others would have them of a later moment.
   * @throws AppError failed_precondition if all of them are more than clients receive
   */
  statement(request: GetStatementRequest): Promise<GetStatementResponse>;
  /** The same without transactions, which follow in parts, account by account. */
  open(request: Days & { accountId: string }): Promise<LinkedStatements>;
};

export type LinkedStatements = OpenStatement & { linked: OpenStatement[] };

type LinksOptions = { db: BillingDatabase; statements: Statements; now: () => Date; committed: (accountIds: string[]) => void };

export function createLinks({ db, statements, now, committed }: LinksOptions): Links {
  const linkedTo = async (account: Row<"accounts">) => (account.had_links ? await linkedAccounts(db, account.id) : []);

  async function linkedIds(accountId: string): Promise<string[]> {
    const account = await findAccount(db, { accountId });
    return account ? (await linkedTo(account)).map(({ id }) => id) : [];
  }

  return {
    async set({ patientId, survivorPatientId, revision }, context) {
      const link = await inTransaction(
        db,
        async (tx): Promise<Link> => {
          const patientIds = [patientId, survivorPatientId].filter((id) => id !== undefined).map((id) => id.toLowerCase());
          const ids = await accountsOf(tx, patientIds);
          if (ids.size < new Set(patientIds).size)
            throw notPossible("ACCOUNT_NOT_FOUND", "A patient has no billing account yet. Ask again when it is open.");
          const [accountId = "", survivorId = null] = patientIds.map((id) => ids.get(id));
          if (accountId === survivorId) throw notPossible("SAME_PATIENT", "survivor_patient_id: must be another patient than patient_id.");
          const account = (await lockAccounts(tx, [...ids.values()])).find(({ id }) => id === accountId);
          if (!account) throw new Error("an account that was found is gone");
          if (revision <= account.link_revision) return { accountId, mergedIntoAccountId: account.merged_into ?? "" };
          await setLink(tx, { accountId, survivorId, revision }, { now: later(now(), account.updated_at), context });
          return { accountId, mergedIntoAccountId: survivorId ?? "" };
        },
        retries,
      );
      committed([link.accountId]);
      return link;
    },

    async withLinked(account) {
      const linked = await linkedTo(account);
      return create(GetBillingAccountResponseSchema, {
        account: toAccount(account),
        linkedAccounts: linked.map(toAccount),
        totals: linked.length === 0 ? [] : totalsOf([account, ...linked]),
      });
    },

    async statement(request) {
      const statement = await statements.get(request);
      if (request.pageToken !== "") return statement;
      const isPaged = request.pageSize > 0;
      for (const id of await linkedIds(request.accountId)) {
        const linked = { ...request, accountId: id };
        statement.linkedStatements.push(isPaged ? (await statements.open(linked)).statement : await statements.get(linked));
      }
      statement.closingBalances = closingBalances(statement);
      const isTooLong =
        statement.linkedStatements.length > 0 && toBinary(GetStatementResponseSchema, statement).byteLength > maxAnswerBytes;
      if (!isPaged && isTooLong) throw statementTooLong(statement.transactionCount);
      return statement;
    },

    async open(request) {
      const opened = await statements.open(request);
      const linked: OpenStatement[] = [];
      for (const id of await linkedIds(request.accountId)) linked.push(await statements.open({ ...request, accountId: id }));
      const { statement } = opened;
      statement.linkedStatements = linked.map((each) => each.statement);
      statement.closingBalances = closingBalances(statement);
      return { ...opened, linked };
    },
  };
}

/** The patients whose linked accounts a statement shows. */
export function linkedPatients({ linkedStatements }: GetStatementResponse): string[] {
  return linkedStatements.flatMap(({ account }) => account?.patientId ?? []);
}

function totalsOf(accounts: Row<"accounts">[]): MessageInitShape<typeof AccountTotalSchema>[] {
  const sum = (rows: Row<"accounts">[], of: (row: Row<"accounts">) => bigint) => rows.reduce((total, row) => total + of(row), 0n);
  return byCurrency(accounts, ({ currency }) => currency).map(([currency, rows]) => ({
    balance: toMoney(
      sum(rows, ({ receivable, credit }) => receivable - credit),
      currency,
    ),
    outstanding: toMoney(
      sum(rows, ({ receivable }) => receivable),
      currency,
    ),
    credit: toMoney(
      sum(rows, ({ credit }) => credit),
      currency,
    ),
  }));
}

function closingBalances(statement: GetStatementResponse): ReturnType<typeof toMoney>[] {
  if (statement.linkedStatements.length === 0) return [];
  const balances = [statement, ...statement.linkedStatements].flatMap(({ closingBalance }) => closingBalance ?? []);
  return byCurrency(balances, ({ currencyCode }) => currencyCode).map(([currency, all]) =>
    toMoney(
      all.reduce((total, { minorUnits }) => total + minorUnits, 0n),
      currency,
    ),
  );
}

function byCurrency<Item>(items: Item[], currencyOf: (item: Item) => string): [string, Item[]][] {
  return [...Map.groupBy(items, currencyOf)].sort(([a], [b]) => (a < b ? -1 : 1));
}

function notPossible(reason: string, message: string): AppError {
  return new AppError("failed_precondition", message, { reason });
}
