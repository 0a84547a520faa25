/**
 * The patient database. There are no foreign keys: every row that names a patient is written in the statement that
 * writes the patient, and patients are never removed, only marked as deleted.
 */
import { createAuditTables } from "@pm/kit/audit/audit";
import { createOutboxTable } from "@pm/kit/kafka/outbox";
import { type Kysely, sql } from "kysely";

const role = sql.ref("patient");

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`create extension if not exists pg_trgm`.execute(db);
  // Ids are UUIDv7 of the moment of registration, so the primary key is also the order of creation.
  await sql`
    create table patients (
      id uuid primary key,
      version bigint not null,
      name text not null,
      first_name text,
      last_name text,
      email text not null,
      phone_number text,
      date_of_birth date not null,
      address_text text not null,
      street text,
      city text,
      state text,
      zip_code text,
      sex text,
      registered_date date not null,
      registered_by text not null,
      created_at timestamptz not null,
      updated_at timestamptz not null,
      deleted_at timestamptz,
      words tsvector not null
    )`.execute(db);
  // This index alone decides which of two concurrent creates with the same e-mail wins.
  await sql`create unique index patients_email on patients (lower(email)) where deleted_at is null`.execute(db);
  await sql`create index patients_name on patients (lower(name), id) where deleted_at is null`.execute(db);
  await sql`create index patients_date_of_birth on patients (date_of_birth, id) where deleted_at is null`.execute(db);
  await sql`create index patients_registered_date on patients (registered_date, id) where deleted_at is null`.execute(db);
  await sql`create index patients_city on patients (lower(city), id) where deleted_at is null`.execute(db);
  await sql`create index patients_registered_by on patients (registered_by, id)`.execute(db);
  await sql`create index patients_deleted on patients (id) where deleted_at is not null`.execute(db);
  // The words that a search finds a patient by. search.ts makes them, so that they are the same in every locale.
  await sql`create index patients_words on patients using gin (words) where deleted_at is null`.execute(db);
  await sql`alter table patients alter words set statistics 200`.execute(db);
  await sql`grant select, insert, update on patients to ${role}`.execute(db);

  // All words of names, to find what a misspelled word means. There are far fewer of them than patients.
  await sql`create table patient_words (word text primary key)`.execute(db);
  await sql`create index patient_words_similar on patient_words using gin (word gin_trgm_ops)`.execute(db);
  await sql`grant select, insert on patient_words to ${role}`.execute(db);

  // Every version as it was. `json`, not `jsonb`: the audit trail has a digest of the exact text.
  await sql`
    create table patient_versions (
      patient_id uuid not null,
      version bigint not null,
      action text not null,
      changed_at timestamptz not null,
      changed_by text not null,
      record json not null,
      primary key (patient_id, version)
    )`.execute(db);
  await sql`grant select, insert on patient_versions to ${role}`.execute(db);

  // Whom a patient is shared with: `user:<id>` or `team:<id>`. The patient itself says who registered it.
  await sql`
    create table patient_access (
      patient_id uuid not null,
      principal text not null,
      granted_by text not null,
      granted_at timestamptz not null default now(),
      primary key (patient_id, principal)
    )`.execute(db);
  await sql`create index patient_access_by_principal on patient_access (principal, patient_id)`.execute(db);
  await sql`grant select, insert, delete on patient_access to ${role}`.execute(db);

  // A table of its own, so that storing an account's id rewrites a narrow row and no index of the patient.
  await sql`
    create table patient_billing (
      patient_id uuid primary key,
      account_id uuid,
      attempts int not null default 0,
      next_attempt_at timestamptz
    )`.execute(db);
  await sql`create index patient_billing_pending on patient_billing (next_attempt_at) where account_id is null`.execute(db);
  await sql`grant select, insert, update on patient_billing to ${role}`.execute(db);

  await sql`
    create table idempotency_keys (
      caller text not null,
      key text not null,
      request_hash bytea not null,
      patient_id uuid not null,
      created_at timestamptz not null default now(),
      primary key (caller, key)
    )`.execute(db);
  await sql`create index idempotency_keys_by_age on idempotency_keys (created_at)`.execute(db);
  await sql`grant select, insert, delete on idempotency_keys to ${role}`.execute(db);

  // How far an import is, so that the same file and key continue where it stopped. `prefix_hash` covers the lines done.
  await sql`
    create table imports (
      id uuid primary key,
      caller text not null,
      key text,
      dry_run boolean not null,
      lines bigint not null default 0,
      created bigint not null default 0,
      failed bigint not null default 0,
      prefix_hash bytea not null,
      finished boolean not null default false,
      updated_at timestamptz not null default now(),
      unique (caller, key)
    )`.execute(db);
  await sql`
    create table import_errors (
      import_id uuid not null references imports on delete cascade,
      line bigint not null,
      errors jsonb not null,
      primary key (import_id, line)
    )`.execute(db);
  // A dry run creates no patient, so it keeps the hashes of the e-mails that its file had before.
  await sql`
    create table import_emails (
      import_id uuid not null references imports on delete cascade,
      email_hash bytea not null,
      primary key (import_id, email_hash)
    )`.execute(db);
  await sql`grant select, insert, update, delete on imports, import_errors, import_emails to ${role}`.execute(db);

  await createAuditTables(db, "patient");
  await createOutboxTable(db, "patient");
}
