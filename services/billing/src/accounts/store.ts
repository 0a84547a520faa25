/** Accounts in Postgres: tables as types, one function per question. */
import type { AuditTables } from "@pm/kit/audit/audit";
import { AppError } from "@pm/kit/errors";
import type { OutboxEvent, OutboxTables } from "@pm/kit/kafka/outbox";
import { type Database, type Statement, violatedConstraint } from "@pm/kit/postgres/database";

export type AccountStatus = "ACTIVE" | "SUSPENDED" | "CLOSED";

export type AccountsTable = {
  id: string;
  patient_id: string;
  currency: string;
  status: AccountStatus;
  name: string;
  email: string;
  receivable: bigint;
  credit: bigint;
  revenue: bigint;
  cash: bigint;
  transaction_count: bigint;
  version: bigint;
  created_at: Date;
  updated_at: Date;
};

export type RequestsTable = { id: string; method: string; hash: Uint8Array; response: Uint8Array; created_at: Date };

export type Tables = {
  accounts: AccountsTable;
  requests: RequestsTable;
} & AuditTables &
  OutboxTables;

export type BillingDatabase = Database<Tables>;

/** The pool, or a transaction on one of its connections. */
export type Queries = Pick<BillingDatabase, "query">;

/** An account that is to be opened, with its first event and the request that asked for it. */
export type NewAccount = {
  id: string;
  patientId: string;
  name: string;
  email: string;
  currency: string;
  event: OutboxEvent;
  request: { id: string; hash: Uint8Array; response: Uint8Array } | undefined;
  context: Context;
};

/** For the audit: who does it, by which request. */
export type Actor = { id: string; requestId: string };

/** Where a change comes from: who, and in which trace. */
export type Context = { actor: Actor; traceparent: string };

// Ordered by patient, so that two batches with the same patients wait for each other instead of locking up.
const openStatement: Statement = {
  name: "accounts_open",
  text: `
    with wanted as materialized (
      select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::text[], $8::bytea[], $9::uuid[], $10::bytea[], $11::bytea[], $12::text[], $13::text[], $14::text[])
        as t (id, patient_id, name, email, currency, event_id, event_type, event_payload, account_request_id, request_hash, response, actor, request_id, traceparent)
    ), opened as (
      insert into accounts (id, patient_id, name, email, currency, created_at, updated_at)
      select id, patient_id, name, email, currency, $15::timestamptz, $15::timestamptz from wanted order by patient_id
      on conflict (patient_id) do nothing
      returning id, patient_id, status
    ), audited as (
      insert into audit_entries (actor, action, subject, request_id, details)
      select actor, 'account.opened', id, request_id, jsonb_build_object('patientId', opened.patient_id) from opened join wanted using (id)
    ), announced as (
      insert into outbox (event_id, topic, key, type, payload, traceparent)
      select event_id, $16, id, event_type, event_payload, traceparent from opened join wanted using (id)
    ), remembered as (
      insert into requests (id, method, hash, response, created_at)
      select account_request_id, 'CreateBillingAccount', request_hash, response, $15 from opened join wanted using (id)
      where account_request_id is not null
    )
    select id, patient_id, status from opened`,
};

const byPatientsStatement: Statement = {
  name: "accounts_by_patients",
  // One by one (`offset 0` is a fence): while a table is young and has no statistics, Postgres would rather read all of it.
  text: `select a.id, a.patient_id, a.status from unnest($1::uuid[]) as w (patient_id)
    cross join lateral (select id, patient_id, status from accounts where patient_id = w.patient_id offset 0) a`,
};

export type AccountKey = { id: string; patient_id: string; status: AccountStatus };

/**
 * Opens accounts for patients that have none, with audit entries and events, in one statement: all of them or none.
 * Answers one row for each patient, and the patients whose account is new.
 * @throws AppError already_exists where a request id was used for something else.
 */
export async function openAccounts(
  db: BillingDatabase,
  accounts: NewAccount[],
  context: { now: Date; topic: string },
): Promise<{ accounts: AccountKey[]; isNew: Set<string> }> {
  const patientIds = accounts.map((account) => account.patientId);
  const opened = await db
    .query<AccountKey>(openStatement, [
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
      accounts.map((account) => account.context.actor.id),
      accounts.map((account) => account.context.actor.requestId),
      accounts.map((account) => account.context.traceparent),
      context.now,
      context.topic,
    ])
    .catch((error: unknown) => {
      throw violatedConstraint(error) === "requests_once" ? requestIdReused(error) : error;
    });
  // What was opened before, or by somebody else while this statement ran.
  const isNew = new Set(opened.map((account) => account.patient_id));
  const others = patientIds.filter((id) => !isNew.has(id));
  const found = others.length > 0 ? await db.query<AccountKey>(byPatientsStatement, [others]) : [];
  return { accounts: [...opened, ...found], isNew };
}

/** The error for a request id that already stands for another request. */
export function requestIdReused(cause?: unknown): AppError {
  const message = "request_id: was used for another request. Take a new one for each request; repeat one only to repeat the same request.";
  return new AppError("already_exists", message, { reason: "REQUEST_ID_REUSED", cause });
}

const accountColumns =
  "id, patient_id, currency, status, name, email, receivable, credit, revenue, cash, transaction_count, version, created_at, updated_at";
const byIdStatement: Statement = { name: "account_by_id", text: `select ${accountColumns} from accounts where id = $1` };
const byPatientStatement: Statement = { name: "account_by_patient", text: `select ${accountColumns} from accounts where patient_id = $1` };

export type AccountId = { accountId: string } | { patientId: string };

export async function findAccount(db: Queries, key: AccountId): Promise<AccountsTable | undefined> {
  const [row] =
    "accountId" in key
      ? await db.query<AccountsTable>(byIdStatement, [key.accountId])
      : await db.query<AccountsTable>(byPatientStatement, [key.patientId]);
  return row;
}

const lockStatement: Statement = {
  name: "accounts_lock",
  // In the order of their ids, so that two transactions never wait for each other. Not FOR UPDATE, which foreign keys wait for.
  text: `select ${accountColumns} from accounts where id = any($1::uuid[]) order by id for no key update`,
};

/** Locks accounts until the transaction ends. Everything below an account is changed under this lock only. */
export function lockAccounts(tx: Queries, ids: string[]): Promise<AccountsTable[]> {
  return tx.query<AccountsTable>(lockStatement, [ids]);
}

const listStatement: Statement = {
  name: "accounts_list",
  text: `select ${accountColumns} from accounts
    where ($1::text is null or status = $1) and ($2::uuid is null or id < $2) order by id desc limit $3`,
};

/** Accounts, the newest first (ids rise with time), from the one after `before`. */
export function listAccounts(
  db: Queries,
  filter: { status: AccountStatus | undefined },
  page: { before: string | undefined; limit: number },
): Promise<AccountsTable[]> {
  return db.query<AccountsTable>(listStatement, [filter.status ?? null, page.before ?? null, page.limit]);
}

const updateStatement: Statement = {
  name: "account_update",
  text: `
    with changed as (
      update accounts set status = $2, name = $3, email = $4, version = version + 1, updated_at = greatest(updated_at, $5)
      where id = $1 returning ${accountColumns}
    ), audited as (
      insert into audit_entries (actor, action, subject, request_id, details) select $6, 'account.updated', id, $7, $8::jsonb from changed
    )
    select * from changed`,
};

/** Changes an account that is locked. */
export async function updateAccount(
  tx: Queries,
  id: string,
  values: { status: AccountStatus; name: string; email: string },
  context: { now: Date; actor: Actor; details: Record<string, unknown> },
): Promise<AccountsTable> {
  const { now, actor, details } = context;
  const [row] = await tx.query<AccountsTable>(updateStatement, [
    id,
    values.status,
    values.name,
    values.email,
    now,
    actor.id,
    actor.requestId,
    JSON.stringify(details),
  ]);
  if (!row) throw new Error("an account that was locked is gone");
  return row;
}

const requestsStatement: Statement = { name: "requests_find", text: "select * from requests where id = any($1::uuid[])" };

export function findRequests(tx: Queries, ids: string[]): Promise<RequestsTable[]> {
  return tx.query<RequestsTable>(requestsStatement, [ids]);
}

const rememberStatement: Statement = {
  name: "request_remember",
  text: "insert into requests (id, method, hash, response, created_at) values ($1, $2, $3, $4, $5)",
};

export async function rememberRequest(tx: Queries, row: RequestsTable): Promise<void> {
  await tx.query(rememberStatement, [row.id, row.method, row.hash, row.response, row.created_at]);
}

const announceStatement: Statement = {
  name: "outbox_add",
  text: "insert into outbox (event_id, topic, key, type, payload, traceparent) values ($1, $2, $3, $4, $5, $6)",
};

export async function announce(tx: Queries, event: OutboxEvent): Promise<void> {
  await tx.query(announceStatement, [event.eventId, event.topic, event.key, event.type, event.payload, event.traceparent]);
}

const serializationFailure = "40001";
const deadlockDetected = "40P01";
const maxTries = 8;

/**
 * Runs work in one transaction. What lost a race (a deadlock, a serialisation failure, a request that another process
 * carried out at the same moment) is tried again, a bounded number of times.
 * @throws AppError aborted where it lost every time.
 */
export async function transaction<Result>(db: BillingDatabase, work: (tx: Queries) => Promise<Result>): Promise<Result> {
  for (let attempt = 1; ; attempt += 1) {
    const client = await db.pool.connect();
    const tx: Queries = {
      async query<Row>(statement: Statement, values: unknown[]) {
        const result = await client.query({ name: statement.name, text: statement.text, values });
        return result.rows as Row[];
      },
    };
    let broken: Error | undefined;
    try {
      await client.query("begin");
      const result = await work(tx);
      await client.query("commit");
      return result;
    } catch (error) {
      await client.query("rollback").catch((reason: Error) => {
        broken = reason;
      });
      if (!isLostRace(error)) throw error;
      if (attempt === maxTries)
        throw new AppError("aborted", "Too many changes at once. Try again.", {
          reason: "TOO_MANY_CONFLICTS",
          retryAfterSeconds: 1,
          cause: error,
        });
    } finally {
      client.release(broken);
    }
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 5 * 2 ** attempt));
  }
}

function isLostRace(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  // The next try finds the request among those that were carried out.
  return code === serializationFailure || code === deadlockDetected || violatedConstraint(error) === "requests_once";
}
