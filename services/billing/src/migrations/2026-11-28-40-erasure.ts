/**
 * Erasure of what identifies a patient (docs/privacy.md). Amounts and dates stay under the account's id. One function
 * erases; it belongs to the owner, because the runtime role must not change facts.
 */
import { type Kysely, sql } from "kysely";

const role = sql.ref("billing");

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`alter table accounts add column erased_at timestamptz`.execute(db);
  // Whose names and texts a stored answer has: an account or a payer. Null in answers of the release before.
  await sql`alter table requests add column subject uuid`.execute(db);
  // Why an invoice was voided. The audit trail has no free texts.
  await sql`alter table invoices add column void_reason text`.execute(db);
  await sql`
    create table erasures (
      id uuid primary key,
      patient_id uuid not null unique,
      erased_at timestamptz not null default clock_timestamp(),
      erased jsonb not null
    )`.execute(db);
  await sql`grant select on erasures to ${role}`.execute(db);
  await createErasePayers(db);
  await createEraseTexts(db);
  await createEraseParty(db);
}

/** Erases people who pay, or have paid, for this account and for no other one. */
async function createErasePayers(db: Kysely<unknown>): Promise<void> {
  await sql`
    create function erase_payers(account uuid) returns jsonb language plpgsql as $$
    declare
      gone uuid[];
      answers bigint;
    begin
      select coalesce(array_agg(id), '{}') into gone from payers p where kind = 'PERSON' and id in (
        select payer_id from accounts where id = account
        union select nullif(addressee->>'payerId', '')::uuid from invoices where account_id = account
      ) and not exists (select from accounts a where a.payer_id = p.id and a.id <> account and a.erased_at is null)
        and not exists (select from invoices i join accounts a on a.id = i.account_id
          where i.addressee->>'payerId' = p.id::text and a.id <> account and a.erased_at is null);
      update payers set name = '', address = '', email = '', reference = '', version = version + 1 where id = any(gone);
      -- An id in an answer is text.
      if cardinality(gone) > 0 then
        update requests set response = '', hash = '' where subject = any(gone) or (subject is null
          and exists (select from unnest(gone) as payer where position(convert_to(payer::text, 'UTF8') in response) > 0));
      end if;
      get diagnostics answers = row_count;
      return jsonb_build_object('payers', cardinality(gone), 'answersAboutPayers', answers);
    end $$`.execute(db);
}

/** Erases the free texts that belong to an account. */
async function createEraseTexts(db: Kysely<unknown>): Promise<void> {
  await sql`
    create function erase_texts(account uuid) returns jsonb language plpgsql as $$
    declare
      of_invoices uuid[] := array(select id from invoices where account_id = account);
      of_payments uuid[] := array(select id from payments where account_id = account);
      counts jsonb := '{}';
      n bigint;
    begin
      update transactions set description = '' where account_id = account and description <> '';
      get diagnostics n = row_count;
      counts := counts || jsonb_build_object('transactions', n);
      update charges set description = '' where account_id = account and description <> '';
      get diagnostics n = row_count;
      counts := counts || jsonb_build_object('charges', n);
      update payments set reference = '' where account_id = account and reference <> '';
      get diagnostics n = row_count;
      counts := counts || jsonb_build_object('payments', n);
      update refunds set reason = '' where payment_id = any(of_payments) and reason <> '';
      get diagnostics n = row_count;
      counts := counts || jsonb_build_object('refunds', n);
      update invoices set void_reason = null, addressee = jsonb_build_object('payerId', coalesce(addressee->>'payerId', ''), 'name', '',
        'address', '', 'email', '', 'reference', '', 'patientName', '') where account_id = account;
      get diagnostics n = row_count;
      counts := counts || jsonb_build_object('invoices', n);
      update invoice_lines set description = '' where invoice_id = any(of_invoices) and description <> '';
      get diagnostics n = row_count;
      counts := counts || jsonb_build_object('invoiceLines', n);
      update credit_notes set reason = '' where account_id = account and reason <> '';
      get diagnostics n = row_count;
      counts := counts || jsonb_build_object('creditNotes', n);
      -- An id in an answer is text.
      update requests set response = '', hash = '' where subject = account
        or (subject is null and position(convert_to(account::text, 'UTF8') in response) > 0);
      get diagnostics n = row_count;
      return counts || jsonb_build_object('answers', n);
    end $$`.execute(db);
}

async function createEraseParty(db: Kysely<unknown>): Promise<void> {
  await sql`
    create function erase_party(patient uuid, erasure uuid) returns void
    language plpgsql security definer set search_path = public, pg_temp as $$
    declare
      account accounts%rowtype;
      counts jsonb := '{}';
    begin
      if exists (select from erasures where patient_id = patient) then return; end if;
      select * into account from accounts where patient_id = patient for update;
      if found then
        if account.receivable > 0 or account.credit > 0 then raise exception 'an open balance stops this erasure'; end if;
        counts := erase_payers(account.id) || erase_texts(account.id);
        update accounts set name = '', email = '', payer_id = null, erased_at = clock_timestamp(), version = version + 1
        where id = account.id;
        counts := counts || jsonb_build_object('accounts', 1);
        insert into audit_entries (actor, action, subject, request_id, details)
        values ('service:patient', 'account.erased', account.id, erasure, jsonb_build_object('erasureId', erasure, 'patientId', patient) || counts);
      end if;
      insert into erasures (id, patient_id, erased) values (erasure, patient, counts);
    end $$`.execute(db);
  for (const internal of ["erase_payers(uuid)", "erase_texts(uuid)", "erase_party(uuid, uuid)"])
    await sql`revoke execute on function ${sql.raw(internal)} from public`.execute(db);
  await sql`grant execute on function erase_party to ${role}`.execute(db);
}
