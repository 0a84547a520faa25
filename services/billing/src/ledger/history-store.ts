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
};

// As text: as sorted and summed JSON, entries and allocations take Postgres twice as long, and a statement has
// thousands.
export const transactionColumns = `t.id, t.account_id, t.sequence, t.type, t.amount, t.balance, t.charge_id, t.payment_id, t.refund_id, t.description,
  t.request_id, t.created_at,
  (select string_agg(ledger_account || ' ' || amount, ',') from entries where transaction_id = t.id) as entries,
  (select string_agg(charge_id || ' ' || amount, ',') from allocations where transaction_id = t.id) as allocations`;

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

const chargesStatement: Statement = {
  name: "charges_page",
  text: `select ${chargeColumns} from charges
    where account_id = $1 and sequence < $2 and (not $3::boolean or (settled + reduced + written_off < amount and voided_at is null))
      and (not $4::boolean or (invoice_id is null and voided_at is null and reduced < amount))
    order by sequence desc limit $5`,
};

export function pageOfCharges(
  db: Queries,
  accountId: string,
  filter: { openOnly: boolean; uninvoicedOnly: boolean },
  page: { before: string | undefined; limit: number },
): Promise<ChargeRow[]> {
  return db.query(chargesStatement, [accountId, page.before ?? noLimit, filter.openOnly, filter.uninvoicedOnly, page.limit]);
}

const paymentsStatement: Statement = {
  name: "payments_page",
  text: `select ${paymentColumns} from payments where account_id = $1 and sequence < $2 order by sequence desc limit $3`,
};

export function pageOfPayments(db: Queries, accountId: string, page: { before: string | undefined; limit: number }): Promise<PaymentRow[]> {
  return db.query(paymentsStatement, [accountId, page.before ?? noLimit, page.limit]);
}
