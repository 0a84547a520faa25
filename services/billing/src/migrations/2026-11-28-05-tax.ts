/**
 * A charge may have a tax. Its amount has the tax in it; the ledger account `TAX_PAYABLE` has what the clinic owes the
 * tax authority of it.
 */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  // Not valid: without tax, every row fulfils the new checks as it does the old ones.
  await sql`
    alter table accounts
      add tax_payable bigint not null default 0,
      drop constraint accounts_in_balance,
      add constraint accounts_in_balance check (receivable + cash + bad_debt = revenue + credit + tax_payable) not valid,
      add constraint accounts_tax_within_limits check (tax_payable between 0 and 9007199254740992) not valid`.execute(db);
  await sql`
    alter table entries
      drop constraint entries_ledger_account_check,
      add constraint entries_ledger_account_check
        check (ledger_account in ('RECEIVABLE', 'CREDIT', 'REVENUE', 'CASH', 'BAD_DEBT', 'TAX_PAYABLE')) not valid`.execute(db);
  // What is payable follows from the amount that discounts and credit notes have left, rounded half up as ledger/tax.ts
  // does. The version before knows no tax: this check refuses its voids and reductions of charges that have one.
  await sql`
    alter table charges
      add tax_code text not null default '',
      -- Basis points: 1900 is 19 %.
      add tax_rate integer not null default 0,
      add tax_payable bigint not null default 0,
      add constraint charges_tax_rate check (tax_rate between 0 and 10000 and (tax_code <> '' or tax_rate = 0)) not valid,
      add constraint charges_tax_follows check (
        tax_payable = case when voided_at is null
          then (2 * (amount - reduced) * tax_rate + 10000 + tax_rate) / (2 * (10000 + tax_rate)) else 0 end
      ) not valid`.execute(db);
  await sql`
    alter table reductions
      add tax bigint not null default 0,
      add constraint reductions_tax check (tax between 0 and amount) not valid`.execute(db);
}
