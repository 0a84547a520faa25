/** The sums of the whole ledger at one moment, by which analytics checks its own figures. */
import type { Statement } from "@pm/kit/postgres/database";
import type { BillingDatabase } from "../tables.ts";

/** Amounts are text, in minor units: a sum may exceed what a JSON number holds exactly. */
type CurrencyTotals = {
  currencyCode: string;
  charged: string;
  voided: string;
  paid: string;
  refunded: string;
  discounted: string;
  credited: string;
  writtenOff: string;
  outstanding: string;
  credit: string;
};

type LedgerTotals = {
  accounts: { active: number; suspended: number; closed: number };
  transactions: number;
  pendingEvents: number;
  currencies: CurrencyTotals[];
};

// One statement, because it sees one snapshot.
const totalsStatement: Statement = {
  name: "ledger_totals",
  text: `
    with by_type as (
      select currency, count(*) as count,
        coalesce(sum(amount) filter (where type = 'CHARGE'), 0) as charged, coalesce(-sum(amount) filter (where type = 'VOID'), 0) as voided,
        coalesce(-sum(amount) filter (where type = 'PAYMENT'), 0) as paid, coalesce(sum(amount) filter (where type = 'REFUND'), 0) as refunded,
        coalesce(-sum(amount) filter (where type = 'DISCOUNT'), 0) as discounted,
        coalesce(-sum(amount) filter (where type = 'CREDIT_NOTE'), 0) as credited,
        coalesce(-sum(amount) filter (where type = 'WRITE_OFF'), 0) as written_off
      from transactions t join accounts a on a.id = t.account_id group by currency
    ), by_account as (
      select currency, sum(receivable) as outstanding, sum(credit) as credit from accounts group by currency
    )
    select
      (select json_build_object(
        'active', count(*) filter (where status = 'ACTIVE'), 'suspended', count(*) filter (where status = 'SUSPENDED'),
        'closed', count(*) filter (where status = 'CLOSED')) from accounts) as accounts,
      (select coalesce(sum(count), 0)::int from by_type) as transactions,
      (select count(*)::int from outbox) as "pendingEvents",
      (select coalesce(json_agg(json_build_object(
        'currencyCode', currency, 'charged', coalesce(charged, 0)::text, 'voided', coalesce(voided, 0)::text, 'paid', coalesce(paid, 0)::text,
        'refunded', coalesce(refunded, 0)::text, 'discounted', coalesce(discounted, 0)::text, 'credited', coalesce(credited, 0)::text,
        'writtenOff', coalesce(written_off, 0)::text, 'outstanding', outstanding::text, 'credit', credit::text) order by currency), '[]')
        from by_account left join by_type using (currency)) as currencies`,
};

export async function readTotals(db: BillingDatabase): Promise<LedgerTotals> {
  const [totals] = await db.query<LedgerTotals>(totalsStatement, []);
  if (!totals) throw new Error("the ledger gave no totals");
  return totals;
}
