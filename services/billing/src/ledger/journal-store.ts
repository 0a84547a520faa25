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

export type TaxSum = {
  currency: string;
  code: string;
  rate: number;
  type: Row<"transactions">["type"];
  count: number;
  gross: bigint;
  tax: bigint;
};

const taxStatement: Statement = {
  name: "tax_summary",
  // A charge or its void has one rate, so its entry is the tax. A discount or a credit note may be of many charges.
  text: `
    select a.currency, c.tax_code as code, c.tax_rate as rate, m.type, count(*)::int as count, sum(m.gross)::text as gross, sum(m.tax)::text as tax
    from (
      select t.account_id, t.type, t.charge_id, t.amount as gross, coalesce(-e.amount, 0) as tax
      from transactions t left join entries e on e.transaction_id = t.id and e.ledger_account = 'TAX_PAYABLE'
      where t.created_at >= $1 and t.created_at < $2 and t.type in ('CHARGE', 'VOID')
      union all
      select t.account_id, t.type, r.charge_id, -r.amount, -r.tax from transactions t join reductions r on r.transaction_id = t.id
      where t.created_at >= $1 and t.created_at < $2 and t.type in ('DISCOUNT', 'CREDIT_NOTE')
    ) m join charges c on c.id = m.charge_id join accounts a on a.id = m.account_id
    group by a.currency, c.tax_code, c.tax_rate, m.type order by a.currency, c.tax_code collate "C", c.tax_rate, m.type`,
};

/** What a period has earned, by currency, tax, rate and kind of transaction. What was taken off is negative. */
export async function taxOfPeriod(db: Queries, { from, to }: { from: Date; to: Date }): Promise<TaxSum[]> {
  const rows = await db.query<Omit<TaxSum, "gross" | "tax"> & Record<"gross" | "tax", string>>(taxStatement, [from, to]);
  return rows.map((row) => ({ ...row, gross: BigInt(row.gross), tax: BigInt(row.tax) }));
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
