/** Statements in Postgres: which transactions a period has, what they sum up to, and the transactions themselves. */
import type { Statement } from "@pm/kit/postgres/database";
import type { Queries } from "@pm/kit/postgres/transaction";
import type { Row } from "../tables.ts";
import { type TransactionKind, type TransactionRow, transactionColumns } from "./history-store.ts";

/** An account, and its period in one snapshot. */
export type StatementRow = Row<"accounts"> & {
  /**
   * The last sequence numbers before the period and in it. There are no gaps between, so they tell how many there are.
   */
  after: bigint;
  up_to: bigint;
  /** The balances after these two. */
  opening: bigint;
  closing: bigint;
  /** Minor units as text, by the type of transaction. */
  sums: { [Kind in TransactionKind]?: string };
};

// Within an account, time never runs against the sequence, so a period is a range of sequence numbers. Transactions
// never change, and all up to the last one were committed with it. So what is read of a range later is of one snapshot.
const statementRows = `
  select accounts.*, after, up_to, opening, closing, sums from accounts
  cross join lateral (
    select coalesce((select sequence from transactions where account_id = accounts.id and created_at < $1 order by created_at desc, sequence desc limit 1), 0) as after,
      coalesce($3, (select sequence from transactions where account_id = accounts.id and created_at < $2 order by created_at desc, sequence desc limit 1), 0) as up_to
  ) range
  cross join lateral (
    select coalesce((select balance from transactions where account_id = accounts.id and sequence = after), 0) as opening,
      coalesce((select balance from transactions where account_id = accounts.id and sequence = up_to), 0) as closing
  ) balances
  cross join lateral (
    select coalesce(json_object_agg(type, sum), '{}') as sums from (
      select type, sum(amount)::text as sum from transactions where account_id = accounts.id and sequence > after and sequence <= up_to group by type
    ) by_type
  ) sums`;

type Moments = { from: Date; to: Date };

const ofAccountStatement: Statement = { name: "statement_of_account", text: `${statementRows} where accounts.id = $4` };

/** @param upTo ends the period earlier, at what was its last transaction in an earlier snapshot */
export async function findStatement(
  db: Queries,
  accountId: string,
  { from, to }: Moments,
  upTo: bigint | undefined,
): Promise<StatementRow | undefined> {
  const [row] = await db.query<StatementRow>(ofAccountStatement, [from, to, upTo ?? null, accountId]);
  return row;
}

const ofPayerStatement: Statement = {
  name: "statement_of_payer",
  text: `${statementRows} where payer_id = $4 and currency = $5 and (up_to > after or opening <> 0) order by accounts.id limit $6`,
};

/** The accounts of a payer in a currency that have transactions in a period or a balance before it, in one snapshot. */
export function statementsOfPayer(
  db: Queries,
  payer: { payerId: string; currency: string },
  { from, to }: Moments,
  limit: number,
): Promise<StatementRow[]> {
  return db.query(ofPayerStatement, [from, to, null, payer.payerId, payer.currency, limit]);
}

export type Range = { accountId: string; after: bigint; upTo: bigint };

const rangesStatement: Statement = {
  name: "transactions_in_ranges",
  text: `select found.* from unnest($1::uuid[], $2::bigint[], $3::bigint[]) with ordinality as range (account_id, after, up_to, place)
    cross join lateral (
      select ${transactionColumns} from transactions t
      where t.account_id = range.account_id and t.sequence > range.after and t.sequence <= range.up_to
      order by t.sequence limit range.up_to - range.after
    ) found order by place, sequence`,
};

/** The transactions of ranges, in the order of these. */
export function transactionsIn(db: Queries, ranges: Range[]): Promise<TransactionRow[]> {
  return db.query(rangesStatement, [
    ranges.map(({ accountId }) => accountId),
    ranges.map(({ after }) => after),
    ranges.map(({ upTo }) => upTo),
  ]);
}
