/**
 * The ledger. Transactions, entries and allocations are facts: the service may add and read them, nothing else.
 * Balances, the open amount of a charge and the rest of a payment are derived from them. They are written in the same
 * transaction as the facts, and `verify-ledger.ts` proves that they agree.
 */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  // The four ledger accounts of one patient, each positive on its normal side. Every client holds up to 2^53 exactly.
  await sql`
    alter table accounts
      add receivable bigint not null default 0,
      add credit bigint not null default 0,
      add revenue bigint not null default 0,
      add cash bigint not null default 0,
      add transaction_count bigint not null default 0,
      add constraint accounts_in_balance check (receivable + cash = revenue + credit),
      add constraint accounts_credit_settles check (receivable = 0 or credit = 0),
      add constraint accounts_within_limits check (
        receivable between 0 and 9007199254740992 and credit between 0 and 9007199254740992
        and revenue between 0 and 9007199254740992 and cash between 0 and 9007199254740992
      )`.execute(db);
  // Balances change often and are not indexed. With room on the page, an update needs no new index entries.
  await sql`alter table accounts set (fillfactor = 70)`.execute(db);

  await sql`
    create table transactions (
      id uuid primary key,
      account_id uuid not null references accounts,
      -- 1, 2, 3, … per account, without gaps.
      sequence bigint not null check (sequence > 0),
      type text not null check (type in ('CHARGE', 'VOID', 'PAYMENT', 'REFUND')),
      -- By how much it changes the balance (receivable − credit), and the balance after it.
      amount bigint not null check (amount <> 0),
      balance bigint not null,
      charge_id uuid,
      payment_id uuid,
      refund_id uuid,
      description text not null,
      request_id uuid not null constraint transactions_one_per_request unique,
      created_at timestamptz not null,
      constraint transactions_in_sequence unique (account_id, sequence)
    )`.execute(db);
  // For statements and filters by time. Within an account, time never runs against the sequence.
  await sql`create index transactions_by_time on transactions (account_id, created_at, sequence)`.execute(db);

  await sql`
    create table entries (
      transaction_id uuid not null references transactions,
      ledger_account text not null check (ledger_account in ('RECEIVABLE', 'CREDIT', 'REVENUE', 'CASH')),
      currency text not null,
      -- Debits are positive, credits negative.
      amount bigint not null check (amount <> 0),
      primary key (transaction_id, ledger_account)
    )`.execute(db);
  // Each SQL statement must add whole transactions. Entries can only be added, so a balanced transaction stays
  // balanced. One check per SQL statement costs less than a deferred check per row.
  await sql`
    create function entries_check() returns trigger language plpgsql as $$
    begin
      if exists (select from added group by transaction_id, currency having sum(amount) <> 0) then
        raise exception using errcode = 'check_violation', constraint = 'entries_sum_to_zero', message = 'entries of a transaction do not sum to zero';
      end if;
      if exists (
        select from added join transactions on transactions.id = transaction_id join accounts on accounts.id = account_id
        where accounts.currency <> added.currency
      ) then
        raise exception using errcode = 'check_violation', constraint = 'entries_in_currency', message = 'an entry is not in the currency of its account';
      end if;
      return null;
    end $$`.execute(db);
  await sql`
    create trigger entries_check after insert on entries
    referencing new table as added for each statement execute function entries_check()`.execute(db);

  await sql`
    create table invoices (
      id uuid primary key,
      account_id uuid not null references accounts,
      -- Null while it is a draft. It stays when the invoice is voided.
      number text constraint invoices_number_once unique,
      status text not null check (status in ('DRAFT', 'ISSUED', 'VOID')),
      total bigint not null check (total > 0),
      issue_date date,
      due_date date,
      version bigint not null default 1,
      created_at timestamptz not null,
      voided_at timestamptz,
      constraint invoices_numbered_when_issued check (status = 'VOID' or (status = 'ISSUED') = (number is not null and issue_date is not null and due_date is not null))
    )`.execute(db);
  await sql`create index invoices_by_account on invoices (account_id, id)`.execute(db);
  await sql`
    create table invoice_years (year integer primary key, last_number integer not null)`.execute(db);

  await sql`
    create table charges (
      id uuid primary key,
      account_id uuid not null references accounts,
      -- The sequence number of the transaction that created it. Charges are settled in this order.
      sequence bigint not null,
      transaction_id uuid not null references transactions,
      amount bigint not null check (amount > 0),
      settled bigint not null default 0,
      description text not null,
      service_date date not null,
      invoice_id uuid references invoices,
      created_at timestamptz not null,
      voided_at timestamptz,
      constraint charges_never_oversettled check (settled between 0 and amount and (voided_at is null or settled = 0)),
      constraint charges_in_sequence unique (account_id, sequence)
    )`.execute(db);
  await sql`create index charges_open on charges (account_id, sequence) where settled < amount and voided_at is null`.execute(db);
  await sql`create index charges_uninvoiced on charges (account_id, sequence) where invoice_id is null and voided_at is null`.execute(db);
  await sql`create index charges_by_invoice on charges (invoice_id) where invoice_id is not null`.execute(db);

  await sql`
    create table invoice_lines (
      invoice_id uuid not null references invoices,
      position integer not null,
      charge_id uuid not null references charges,
      description text not null,
      service_date date not null,
      amount bigint not null,
      primary key (invoice_id, position)
    )`.execute(db);

  await sql`
    create table payments (
      id uuid primary key,
      account_id uuid not null references accounts,
      sequence bigint not null,
      transaction_id uuid not null references transactions,
      amount bigint not null check (amount > 0),
      allocated bigint not null default 0,
      refunded bigint not null default 0,
      method text not null,
      reference text not null,
      created_at timestamptz not null,
      constraint payments_never_overspent check (allocated >= 0 and refunded >= 0 and allocated + refunded <= amount),
      constraint payments_in_sequence unique (account_id, sequence)
    )`.execute(db);
  await sql`create index payments_with_credit on payments (account_id, sequence) where allocated + refunded < amount`.execute(db);

  await sql`
    create table refunds (
      id uuid primary key,
      payment_id uuid not null references payments,
      transaction_id uuid not null references transactions,
      amount bigint not null check (amount > 0),
      reason text not null,
      created_at timestamptz not null
    )`.execute(db);

  // How much of a payment settles a charge: the sum over all rows of the pair.
  await sql`
    create table allocations (
      transaction_id uuid not null references transactions,
      payment_id uuid not null references payments,
      charge_id uuid not null references charges,
      amount bigint not null check (amount <> 0),
      primary key (transaction_id, payment_id, charge_id)
    )`.execute(db);
  await sql`create index allocations_by_payment on allocations (payment_id)`.execute(db);
  await sql`create index allocations_by_charge on allocations (charge_id)`.execute(db);

  await sql`grant select, insert on transactions, entries, allocations, refunds, invoice_lines to billing`.execute(db);
  await sql`grant select, insert, update on charges, payments, invoices, invoice_years to billing`.execute(db);
}
