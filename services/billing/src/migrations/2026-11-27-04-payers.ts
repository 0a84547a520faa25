/** Somebody else may pay for a patient. Issued invoices keep the addressee that they had. */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table payers (
      id uuid primary key,
      kind text not null constraint payers_kind check (kind in ('PERSON', 'ORGANISATION')),
      name text not null,
      address text not null,
      email text not null,
      reference text not null,
      -- Counts the changes of the payer. It is the etag.
      version bigint not null default 1,
      created_at timestamptz not null,
      updated_at timestamptz not null
    )`.execute(db);
  await sql`grant select, insert, update on payers to billing`.execute(db);
  await sql`alter table accounts add payer_id uuid references payers`.execute(db);
  await sql`create index accounts_by_payer on accounts (payer_id, id) where payer_id is not null`.execute(db);
  // Null for drafts, and for invoices that an earlier release has issued, which are addressed to the patient.
  await sql`alter table invoices add addressee jsonb`.execute(db);
}
