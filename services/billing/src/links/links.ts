/**
 * Accounts of one person who had several records. Patient-service links the account of a merged record to that of its survivor.
 * Both keep their ledgers and currencies, and no money moves; whoever asks for one person sees both.
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { AppError } from "@pm/kit/errors";
import { inTransaction } from "@pm/kit/postgres/transaction";
import type { RequestContext } from "@pm/kit/request-context";
import {
  type AccountTotalSchema,
  type GetBillingAccountResponse,
  GetBillingAccountResponseSchema,
  type GetStatementRequest,
  type GetStatementResponse,
} from "@pm/proto/billing/v1/billing";
import { toAccount, toMoney } from "../accounts/messages.ts";
import { findAccount, lockAccounts } from "../accounts/store.ts";
import { later } from "../dates.ts";
import { retries } from "../idempotency/idempotency.ts";
import type { History } from "../ledger/history.ts";
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
  /** The statement of an account with those of the accounts that are linked to it. */
  statement(request: GetStatementRequest): Promise<GetStatementResponse>;
};

type LinksOptions = { db: BillingDatabase; history: History; now: () => Date; committed: (accountIds: string[]) => void };

export function createLinks({ db, history, now, committed }: LinksOptions): Links {
  const linkedTo = async (account: Row<"accounts">) => (account.had_links ? await linkedAccounts(db, account.id) : []);

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
      const statement = await history.statement(request);
      const account = await findAccount(db, { accountId: request.accountId });
      const linked = account ? await linkedTo(account) : [];
      for (const { id } of linked) statement.linkedStatements.push(await history.statement({ ...request, accountId: id }));
      if (linked.length > 0) statement.closingBalances = closingBalances([statement, ...statement.linkedStatements]);
      return statement;
    },
  };
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

function closingBalances(statements: GetStatementResponse[]): ReturnType<typeof toMoney>[] {
  const balances = statements.flatMap(({ closingBalance }) => closingBalance ?? []);
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
