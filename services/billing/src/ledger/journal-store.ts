/** The books of a period in Postgres: every entry, and the sums of every ledger account. */
import type { Statement } from "@pm/kit/postgres/database";
import type { Queries } from "@pm/kit/postgres/transaction";
import type { Row } from "../tables.ts";

export type JournalEntry = {
  transaction_id: string;
  created_at: Date;
  account_id: string;
  sequence: bigint;
  type: Row<"transactions">["type"];
  description: string;
  ledger_account: Row<"entries">["ledger_account"];
  currency: string;
  amount: bigint;
};

const pageStatement: Statement = {
  name: "journal_page",
  text: `
    select t.transaction_id, t.created_at, t.account_id, t.sequence, t.type, t.description, e.ledger_account, e.currency, e.amount from (
      select id as transaction_id, created_at, account_id, sequence, type, description from transactions
      where created_at < $2 and (created_at, id) > ($1, $3) and type <> 'REALLOCATION' order by created_at, id limit $4
    ) t join entries e on e.transaction_id = t.transaction_id
    order by t.created_at, t.transaction_id, e.amount < 0, e.ledger_account`,
};

/** Entries after a transaction, in the order of time; debits come before credits. */
export function pageOfJournal(db: Queries, period: { from: Date; to: Date }, afterId: string, limit: number): Promise<JournalEntry[]> {
  return db.query(pageStatement, [period.from, period.to, afterId, limit]);
}

export type LedgerSum = {
  currency: string;
  ledger_account: Row<"entries">["ledger_account"];
  opening: bigint;
  debits: bigint;
  credits: bigint;
};

const sumsStatement: Statement = {
  name: "general_ledger",
  // As numeric: sums over all accounts may exceed a bigint.
  text: `
    select currency, ledger_account,
      coalesce(sum(e.amount) filter (where created_at < $1), 0)::text as opening,
      coalesce(sum(e.amount) filter (where created_at >= $1 and e.amount > 0), 0)::text as debits,
      coalesce(-sum(e.amount) filter (where created_at >= $1 and e.amount < 0), 0)::text as credits
    from transactions t join entries e on e.transaction_id = t.id where created_at < $2
    group by currency, ledger_account order by currency, ledger_account`,
};

/** The sum of every ledger account before a period, and its debits and credits within it. */
export async function sumsOfPeriod(db: Queries, { from, to }: { from: Date; to: Date }): Promise<LedgerSum[]> {
  type Texts = Omit<LedgerSum, "opening" | "debits" | "credits"> & Record<"opening" | "debits" | "credits", string>;
  const rows = await db.query<Texts>(sumsStatement, [from, to]);
  return rows.map((row) => ({ ...row, opening: BigInt(row.opening), debits: BigInt(row.debits), credits: BigInt(row.credits) }));
}
