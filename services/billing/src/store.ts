/** Accounts in Postgres: tables as types, one function per question. */
import type { AuditEntriesTable } from "@pm/kit/audit";
import { type Database, type Statement, violatedConstraint } from "@pm/kit/db";
import { AppError } from "@pm/kit/errors";
import type { OutboxEvent, OutboxTable } from "@pm/kit/outbox";

export type AccountStatus = "ACTIVE" | "SUSPENDED" | "CLOSED";

export type AccountsTable = {
  id: string;
  patient_id: string;
  currency: string;
  status: AccountStatus;
  name: string;
  email: string;
  version: bigint;
  created_at: Date;
  updated_at: Date;
};

export type RequestsTable = { id: string; method: string; hash: Uint8Array; response: Uint8Array; created_at: Date };

export type Tables = {
  accounts: AccountsTable;
  requests: RequestsTable;
  outbox: OutboxTable;
  audit_entries: AuditEntriesTable;
};

export type BillingDatabase = Database<Tables>;

/** An account that is to be opened, with its first event and the request that asked for it. */
export type NewAccount = {
  id: string;
  patientId: string;
  name: string;
  email: string;
  currency: string;
  event: OutboxEvent;
  request: { id: string; hash: Uint8Array; response: Uint8Array } | undefined;
};

/** For the audit: who does it, by which request. */
export type Actor = { id: string; requestId: string };

// Ordered by patient, so that two batches with the same patients wait for each other instead of locking up.
const openStatement: Statement = {
  name: "accounts_open",
  text: `
    with wanted as materialized (
      select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::text[], $8::bytea[], $9::uuid[], $10::bytea[], $11::bytea[])
        as t (id, patient_id, name, email, currency, event_id, event_type, event_payload, request_id, request_hash, response)
    ), opened as (
      insert into accounts (id, patient_id, name, email, currency, created_at, updated_at)
      select id, patient_id, name, email, currency, $12::timestamptz, $12::timestamptz from wanted order by patient_id
      on conflict (patient_id) do nothing
      returning id, patient_id, status
    ), audited as (
      insert into audit_entries (actor, action, subject, request_id, details)
      select $13, 'account.opened', id, $14, jsonb_build_object('patientId', patient_id) from opened
    ), announced as (
      insert into outbox (event_id, topic, key, type, payload, traceparent)
      select event_id, $15, id, event_type, event_payload, $16 from opened join wanted using (id)
    ), remembered as (
      insert into requests (id, method, hash, response, created_at)
      select request_id, 'CreateBillingAccount', request_hash, response, $12 from opened join wanted using (id) where request_id is not null
    )
    select id, patient_id, status, true as opened from opened
    union all
    select id, patient_id, status, false from accounts where patient_id = any($2::uuid[])`,
};

const byPatientsStatement: Statement = {
  name: "accounts_by_patients",
  text: "select id, patient_id, status from accounts where patient_id = any($1::uuid[])",
};

export type AccountKey = { id: string; patient_id: string; status: AccountStatus };

/**
 * Opens accounts for patients that have none, with audit entries and events, in one statement: all of them or none.
 * Answers one row for each patient, and how many accounts are new.
 * @throws AppError already_exists where a request id was used for something else.
 */
export async function openAccounts(
  db: BillingDatabase,
  accounts: NewAccount[],
  context: { now: Date; actor: Actor; topic: string; traceparent: string },
): Promise<{ accounts: AccountKey[]; opened: number }> {
  const patientIds = accounts.map((account) => account.patientId);
  const rows = await db
    .query<AccountKey & { opened: boolean }>(openStatement, [
      accounts.map((account) => account.id),
      patientIds,
      accounts.map((account) => account.name),
      accounts.map((account) => account.email),
      accounts.map((account) => account.currency),
      accounts.map((account) => account.event.eventId),
      accounts.map((account) => account.event.type),
      accounts.map((account) => account.event.payload),
      accounts.map((account) => account.request?.id ?? null),
      accounts.map((account) => account.request?.hash ?? null),
      accounts.map((account) => account.request?.response ?? null),
      context.now,
      context.actor.id,
      context.actor.requestId,
      context.topic,
      context.traceparent,
    ])
    .catch((error: unknown) => {
      throw violatedConstraint(error) === "requests_once" ? requestIdReused(error) : error;
    });
  const opened = rows.filter((row) => row.opened).length;
  // Accounts that somebody else opened while this statement ran are neither new nor in its snapshot.
  const known = new Set(rows.map((row) => row.patient_id));
  const missing = patientIds.filter((id) => !known.has(id));
  if (missing.length > 0) rows.push(...(await db.query<AccountKey & { opened: boolean }>(byPatientsStatement, [missing])));
  return { accounts: rows, opened };
}

/** The error for a request id that already stands for another request. */
export function requestIdReused(cause?: unknown): AppError {
  const message = "request_id: was used for another request. Take a new one for each request; repeat one only to repeat the same request.";
  return new AppError("already_exists", message, { reason: "REQUEST_ID_REUSED", cause });
}

const accountColumns = "id, patient_id, currency, status, name, email, version, created_at, updated_at";
const byIdStatement: Statement = { name: "account_by_id", text: `select ${accountColumns} from accounts where id = $1` };
const byPatientStatement: Statement = { name: "account_by_patient", text: `select ${accountColumns} from accounts where patient_id = $1` };

export async function findAccount(
  db: BillingDatabase,
  key: { accountId: string } | { patientId: string },
): Promise<AccountsTable | undefined> {
  const [row] =
    "accountId" in key
      ? await db.query<AccountsTable>(byIdStatement, [key.accountId])
      : await db.query<AccountsTable>(byPatientStatement, [key.patientId]);
  return row;
}
