/** Accounts of patients, the requests that were carried out, and the tables of every service: outbox and audit. */
import { createAuditTables } from "@pm/kit/audit/audit";
import { createOutboxTable } from "@pm/kit/kafka/outbox";
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table accounts (
      id uuid primary key,
      patient_id uuid not null constraint accounts_one_per_patient unique,
      currency text not null constraint accounts_currency check (currency ~ '^[A-Z]{3}$'),
      status text not null default 'ACTIVE' constraint accounts_status check (status in ('ACTIVE', 'SUSPENDED', 'CLOSED')),
      -- The addressee of invoices.
      name text not null,
      email text not null,
      -- Counts the changes of the account. It is the etag.
      version bigint not null default 1,
      created_at timestamptz not null,
      updated_at timestamptz not null
    )`.execute(db);
  await sql`grant select, insert, update on accounts to billing`.execute(db);

  // One row per mutation, which stays for ever: an id belongs to one request only.
  await sql`
    create table requests (
      id uuid constraint requests_once primary key,
      method text not null,
      -- SHA-256 of the request without its id.
      hash bytea not null,
      -- The answer, as protobuf.
      response bytea not null,
      created_at timestamptz not null
    )`.execute(db);
  await sql`grant select, insert on requests to billing`.execute(db);

  await createOutboxTable(db, "billing");
  await createAuditTables(db, "billing");
}
