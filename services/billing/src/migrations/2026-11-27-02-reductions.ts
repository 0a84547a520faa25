/**
 * Discounts, credit notes and write-offs take an amount off a charge. They are transactions with entries, and facts in
 * `reductions`; what is left of a charge is derived from these.
 */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  // Not valid: with the new columns at zero, every row fulfils the new checks as it does the old ones.
  await sql`
    alter table accounts
      add bad_debt bigint not null default 0,
      drop constraint accounts_in_balance,
      drop constraint accounts_within_limits,
      add constraint accounts_in_balance check (receivable + cash + bad_debt = revenue + credit) not valid,
      add constraint accounts_within_limits check (
        receivable between 0 and 9007199254740992 and credit between 0 and 9007199254740992
        and revenue between 0 and 9007199254740992 and cash between 0 and 9007199254740992
        and bad_debt between 0 and 9007199254740992
      ) not valid`.execute(db);
  await sql`
    alter table transactions
      drop constraint transactions_type_check,
      add constraint transactions_type_check check (
        type in ('CHARGE', 'VOID', 'PAYMENT', 'REFUND', 'REALLOCATION', 'DISCOUNT', 'CREDIT_NOTE', 'WRITE_OFF')
      ) not valid`.execute(db);
  await sql`
    alter table entries
      drop constraint entries_ledger_account_check,
      add constraint entries_ledger_account_check
        check (ledger_account in ('RECEIVABLE', 'CREDIT', 'REVENUE', 'CASH', 'BAD_DEBT')) not valid`.execute(db);
  await sql`
    alter table charges
      add reduced bigint not null default 0,
      add written_off bigint not null default 0,
      drop constraint charges_never_oversettled,
      add constraint charges_never_oversettled check (
        settled >= 0 and reduced >= 0 and written_off >= 0 and settled + reduced + written_off <= amount
        and (voided_at is null or settled = 0)
      ) not valid`.execute(db);
  // A charge of which nothing is left costs nothing and stays on its invoice.
  await sql`
    alter table invoices
      drop constraint invoices_total_check,
      add constraint invoices_total_check check (total >= 0) not valid`.execute(db);

  await sql`
    create table reductions (
      transaction_id uuid not null references transactions,
      charge_id uuid not null references charges,
      amount bigint not null check (amount > 0),
      primary key (transaction_id, charge_id)
    )`.execute(db);
  await sql`create index reductions_by_charge on reductions (charge_id)`.execute(db);
  await sql`
    create table credit_notes (
      id uuid primary key,
      account_id uuid not null references accounts,
      invoice_id uuid not null references invoices,
      transaction_id uuid not null constraint credit_notes_one_per_transaction unique references transactions,
      number text not null constraint credit_notes_number_once unique,
      issue_date date not null,
      total bigint not null check (total > 0),
      reason text not null,
      created_at timestamptz not null
    )`.execute(db);
  await sql`create index credit_notes_by_account on credit_notes (account_id, id)`.execute(db);
  await sql`create index credit_notes_by_invoice on credit_notes (invoice_id, id)`.execute(db);
  await sql`create table credit_note_years (year integer primary key, last_number integer not null)`.execute(db);

  await sql`grant select, insert on reductions, credit_notes to billing`.execute(db);
  await sql`grant select, insert, update on credit_note_years to billing`.execute(db);
}
