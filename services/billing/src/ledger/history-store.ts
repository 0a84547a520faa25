/** The ledger's history in Postgres: pages of transactions, charges and payments. */
import type { Statement } from "@pm/kit/postgres/database";
import type { Queries } from "@pm/kit/postgres/transaction";
import type { Row } from "../tables.ts";
import { type ChargeRow, chargeColumns, type PaymentRow, paymentColumns } from "./store.ts";

export type TransactionKind = Row<"transactions">["type"];

export type TransactionRow = Row<"transactions"> & {
  /** `RECEIVABLE 1250,REVENUE -1250` */
  entries: string;
  /** A charge and an amount for each allocation, in the same form; null if there are none. */
  allocations: string | null;
  /** Of a payment. */
  payment_date: string | null;
};

// As text: entries and allocations as sorted, summed JSON take Postgres twice as long; a statement has thousands.
export const transactionColumns = `t.id, t.account_id, t.sequence, t.type, t.amount, t.balance, t.charge_id, t.payment_id, t.refund_id, t.description,
  t.request_id, t.created_at,
  (select string_agg(ledger_account || ' ' || amount, ',') from entries where transaction_id = t.id) as entries,
  (select string_agg(charge_id || ' ' || amount, ',') from allocations where transaction_id = t.id) as allocations,
  case when t.type = 'PAYMENT' then (select payment_date from payments where id = t.payment_id) end as payment_date`;

const pageStatement: Statement = {
  name: "transactions_page",
  text: `select ${transactionColumns} from transactions t
    where account_id = $1 and sequence < $2 and (cardinality($3::text[]) = 0 or type = any($3))
      and created_at >= $4 and created_at < $5
    order by sequence desc limit $6`,
};

/** Above every sequence number. */
const noLimit = 2n ** 62n;

type TransactionFilter = { types: TransactionKind[]; from: Date | undefined; to: Date | undefined };

/** Transactions of an account below the sequence number `before`, the newest first. */
export function pageOfTransactions(
  db: Queries,
  accountId: string,
  filter: TransactionFilter,
  page: { before: string | undefined; limit: number },
): Promise<TransactionRow[]> {
  return db.query(pageStatement, [
    accountId,
    page.before ?? noLimit,
    filter.types,
    filter.from ?? "-infinity",
    filter.to ?? "infinity",
    page.limit,
  ]);
}

const sinceStatement: Statement = {
  name: "transactions_since",
  text: `select ${transactionColumns} from transactions t where account_id = $1 and sequence > $2 order by sequence limit $3`,
};

/** Transactions of an account above a sequence number, the oldest first. */
export function transactionsSince(db: Queries, accountId: string, sequence: bigint, limit: number): Promise<TransactionRow[]> {
  return db.query(sinceStatement, [accountId, sequence, limit]);
}

/** Which charges or payments: those of accounts, one account after the other, or those that are named. */
export type Scope = { accountIds: string[] | undefined; ids: string[] | undefined };
type Page = { before: string | undefined; limit: number };
type Table = "charges" | "payments";
/** With what its account says of it. */
type Owned<Item> = Item & Pick<Row<"accounts">, "currency" | "patient_id">;

/** Each account is walked along its own index, so a page costs the same wherever it is. */
const ofAccounts = (table: Table, columns: string, filter: string) => `
  select item.*, accounts.currency, accounts.patient_id from unnest($1::uuid[]) with ordinality as wanted (id, position)
  join accounts on accounts.id = wanted.id
  cross join lateral (
    select ${columns} from ${table} where account_id = wanted.id and (position > 1 or sequence < $2) and ${filter}
    order by sequence desc limit $3
  ) item
  order by position, sequence desc limit $3`;
const named = (table: Table, columns: string, filter: string, ids: string) => `
  select item.*, accounts.currency, accounts.patient_id from (
    select ${columns} from ${table}
    where id = any(${ids}::uuid[]) and ($1::uuid[] is null or account_id = any($1)) and ($2::uuid is null or id < $2) and ${filter}
    order by id desc limit $3
  ) item
  join accounts on accounts.id = item.account_id order by item.id desc`;

const chargesFilter = `
  (not $4::boolean or (settled + reduced + written_off < amount and voided_at is null))
  and (not $5::boolean or (invoice_id is null and voided_at is null and reduced < amount))
  and service_date between $6 and $7 and created_at >= $8 and created_at < $9`;
const chargesStatement: Statement = { name: "charges_page", text: ofAccounts("charges", chargeColumns, chargesFilter) };
const namedChargesStatement: Statement = { name: "charges_named_page", text: named("charges", chargeColumns, chargesFilter, "$10") };

export type ChargeFilter = Period & {
  openOnly: boolean;
  uninvoicedOnly: boolean;
  fromDate: string | undefined;
  toDate: string | undefined;
};
export type Period = { from: Date | undefined; to: Date | undefined };

export function pageOfCharges(db: Queries, scope: Scope, filter: ChargeFilter, page: Page): Promise<Owned<ChargeRow>[]> {
  const { openOnly, uninvoicedOnly, fromDate = "-infinity", toDate = "infinity" } = filter;
  return read(db, scope, page, [openOnly, uninvoicedOnly, fromDate, toDate, ...momentsOf(filter)], {
    walk: chargesStatement,
    named: namedChargesStatement,
  });
}

const paymentsFilter = "created_at >= $4 and created_at < $5";
const paymentsStatement: Statement = { name: "payments_page", text: ofAccounts("payments", paymentColumns, paymentsFilter) };
const namedPaymentsStatement: Statement = { name: "payments_named_page", text: named("payments", paymentColumns, paymentsFilter, "$6") };

export function pageOfPayments(db: Queries, scope: Scope, filter: Period, page: Page): Promise<Owned<PaymentRow>[]> {
  return read(db, scope, page, momentsOf(filter), { walk: paymentsStatement, named: namedPaymentsStatement });
}

const momentsOf = ({ from, to }: Period) => [from ?? "-infinity", to ?? "infinity"];

function read<Item>(
  db: Queries,
  { accountIds, ids }: Scope,
  { before, limit }: Page,
  filter: unknown[],
  statements: { walk: Statement; named: Statement },
): Promise<Item[]> {
  if (ids) return db.query(statements.named, [accountIds ?? null, before ?? null, limit, ...filter, ids]);
  // Where an account other than the first goes on, its id follows its sequence number (`positionIn`).
  const [sequence = noLimit, accountId] = before?.split(" ") ?? [];
  const rest = accountId ? accountIds?.slice(accountIds.indexOf(accountId)) : accountIds;
  return db.query(statements.walk, [rest ?? [], sequence, limit, ...filter]);
}

/** Where a row stands in its list. */
export function positionIn({ accountIds, ids }: Scope, row: { id: string; account_id: string; sequence: bigint }): string {
  if (ids) return row.id;
  return row.account_id === accountIds?.[0] ? String(row.sequence) : `${row.sequence} ${row.account_id}`;
}
