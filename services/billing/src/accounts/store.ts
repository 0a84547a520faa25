/** Accounts in Postgres: one function per question. */
import { insertIntoAudit } from "@pm/kit/audit/audit";
import { AppError } from "@pm/kit/errors";
import { insertIntoOutbox, type OutboxEvent } from "@pm/kit/kafka/outbox";
import type { Statement } from "@pm/kit/postgres/database";
import type { Queries } from "@pm/kit/postgres/transaction";
import type { RequestContext } from "@pm/kit/request-context";
import type { AccountStatus, BillingDatabase, Row } from "../tables.ts";

/** An account to open, with its first event and with the request that asked for it. */
export type NewAccount = {
  id: string;
  patientId: string;
  name: string;
  email: string;
  currency: string;
  event: OutboxEvent;
  request: { id: string; hash: Uint8Array; response: Uint8Array } | undefined;
  context: RequestContext;
};

// In the order of the patients, so that two batches with the same patients wait for each other and do not deadlock.
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
    ), audit_rows as (
      ${insertIntoAudit}
      select actor, 'account.opened', id, request_id, jsonb_build_object('patientId', opened.patient_id) from opened join wanted using (id)
    ), outbox_rows as (
      ${insertIntoOutbox}
      select event_id, $16, id, event_type, event_payload, traceparent from opened join wanted using (id)
    ), request_rows as (
      insert into requests (id, method, hash, response, created_at, subject)
      select account_request_id, 'CreateBillingAccount', request_hash, response, $15, id from opened join wanted using (id)
      where account_request_id is not null
    )
    select id, patient_id, status from opened`,
};

const byPatientsStatement: Statement = {
  name: "accounts_by_patients",
  // One index lookup per patient (Postgres cannot flatten a subquery with `offset 0`): while a table is young and has
  // no statistics, Postgres would read all of it instead.
  // Services ask for themselves, again and again, and learn an id that they know already.
  text: `
    with found as materialized (
      select a.id, a.patient_id, a.status, w.actor, w.request_id from unnest($1::uuid[], $2::text[], $3::text[]) as w (patient_id, actor, request_id)
      cross join lateral (select id, patient_id, status from accounts where patient_id = w.patient_id offset 0) a
    ), audited as (
      ${insertIntoAudit}
      select actor, 'account.read', id, request_id, '{}' from found where actor not like 'service:%'
    )
    select id, patient_id, status from found`,
};

export type AccountKey = Pick<Row<"accounts">, "id" | "patient_id" | "status">;

/**
 * Opens accounts for the patients that have none, with audit entries and events, in one statement: all of them or none.
 * Gives one row for each patient, and the patients whose account is new.
 */
export async function openAccounts(
  db: BillingDatabase,
  accounts: NewAccount[],
  { now, topic }: { now: Date; topic: string },
): Promise<{ accounts: AccountKey[]; isNew: Set<string> }> {
  const patientIds = accounts.map((account) => account.patientId);
  const opened = await db.query<AccountKey>(openStatement, [
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
    accounts.map((account) => account.context.actorId),
    accounts.map((account) => account.context.requestId),
    accounts.map((account) => account.context.traceparent),
    now,
    topic,
  ]);
  // The other accounts existed before, or somebody else has opened them while the statement ran.
  const isNew = new Set(opened.map((account) => account.patient_id));
  const others = accounts.filter(({ patientId }) => !isNew.has(patientId));
  const found = others.length > 0 ? await db.query<AccountKey>(byPatientsStatement, askedBy(others)) : [];
  return { accounts: [...opened, ...found], isNew };
}

function askedBy(accounts: NewAccount[]): string[][] {
  const contexts = accounts.map(({ context }) => context);
  return [accounts.map(({ patientId }) => patientId), contexts.map(({ actorId }) => actorId), contexts.map(({ requestId }) => requestId)];
}

export const accountColumns = `id, patient_id, currency, status, name, email, receivable, credit, revenue, cash, bad_debt, tax_payable,
  transaction_count, payer_id, version, created_at, updated_at, merged_into, link_revision, had_links, restricted_at, erased_at`;
const byIdStatement: Statement = { name: "account_by_id", text: `select ${accountColumns} from accounts where id = $1` };
const byPatientStatement: Statement = { name: "account_by_patient", text: `select ${accountColumns} from accounts where patient_id = $1` };

export type AccountId = { accountId: string } | { patientId: string };

export async function findAccount(db: Queries, key: AccountId): Promise<Row<"accounts"> | undefined> {
  const [row] =
    "accountId" in key
      ? await db.query<Row<"accounts">>(byIdStatement, [key.accountId])
      : await db.query<Row<"accounts">>(byPatientStatement, [key.patientId]);
  return row;
}

const lockStatement: Statement = {
  name: "accounts_lock",
  // In the order of their ids, so that transactions do not deadlock. Not FOR UPDATE: inserts that refer to an account
  // would wait for that lock.
  text: `select ${accountColumns} from accounts where id = any($1::uuid[]) order by id for no key update`,
};

/**
 * Locks accounts until the transaction ends. Whoever changes anything that belongs to an account holds this lock.
 * @throws AppError failed_precondition if the patient of one was erased: nothing about them may be written again
 */
export async function lockAccounts(tx: Queries, ids: string[]): Promise<Row<"accounts">[]> {
  const accounts = await tx.query<Row<"accounts">>(lockStatement, [ids]);
  if (accounts.some((account) => account.erased_at))
    throw new AppError("failed_precondition", "The patient of this account was erased, so it stays as it is.", {
      reason: "ACCOUNT_ERASED",
    });
  return accounts;
}

const listStatement: Statement = {
  name: "accounts_list",
  text: `select ${accountColumns} from accounts
    where ($1::text[] is null or status = any($1)) and ($2::uuid is null or id < $2) order by id desc limit $3`,
};
// Statements of their own, so that Postgres plans them by their indexes.
const ofPayerStatement: Statement = {
  name: "accounts_of_payer",
  text: `select ${accountColumns} from accounts
    where payer_id = $4 and ($1::text[] is null or status = any($1)) and ($2::uuid is null or id < $2) order by id desc limit $3`,
};
const namedStatement: Statement = {
  name: "accounts_named",
  text: `select ${accountColumns} from accounts where id = any($5::uuid[]) and ($4::uuid is null or payer_id = $4)
    and ($1::text[] is null or status = any($1)) and ($2::uuid is null or id < $2) order by id desc limit $3`,
};

type AccountFilter = { statuses?: AccountStatus[] | undefined; payerId?: string | undefined; ids?: string[] | undefined };

/** Accounts after the id `before`, the newest first: ids rise with time. */
export function listAccounts(
  db: Queries,
  { statuses, payerId, ids }: AccountFilter,
  page: { before: string | undefined; limit: number },
): Promise<Row<"accounts">[]> {
  const parameters = [statuses ?? null, page.before ?? null, page.limit];
  if (ids) return db.query(namedStatement, [...parameters, payerId ?? null, ids]);
  return payerId ? db.query(ofPayerStatement, [...parameters, payerId]) : db.query(listStatement, parameters);
}

const totalsOfPayerStatement: Statement = {
  name: "payer_totals",
  // As text, because sums of bigint can be larger than a bigint.
  text: `
    with on_accounts as (
      select currency, sum(receivable) as outstanding, sum(credit) as credit, count(*) as accounts from accounts where payer_id = $1 group by currency
    ), on_invoices as (
      select currency, sum(amount - settled - reduced - written_off) as invoiced
      from invoices join charges on invoice_id = invoices.id join accounts on accounts.id = invoices.account_id
      where addressee ->> 'payerId' = $1::uuid::text and invoices.status = 'ISSUED'
        and charges.voided_at is null and settled + reduced + written_off < amount
      group by currency
    )
    select currency, coalesce(outstanding, 0)::text as outstanding, coalesce(credit, 0)::text as credit, coalesce(invoiced, 0)::text as invoiced,
      coalesce(accounts, 0) as accounts
    from on_accounts full join on_invoices using (currency) order by currency`,
};

/** The sums of a payer's accounts, and of the open invoices addressed to them, one for each currency. */
export async function totalsOfPayer(
  db: Queries,
  payerId: string,
): Promise<{ currency: string; outstanding: bigint; credit: bigint; invoiced: bigint; accounts: bigint }[]> {
  type Total = { currency: string; outstanding: string; credit: string; invoiced: string; accounts: bigint };
  const rows = await db.query<Total>(totalsOfPayerStatement, [payerId]);
  return rows.map((row) => ({
    ...row,
    ...{ outstanding: BigInt(row.outstanding), credit: BigInt(row.credit), invoiced: BigInt(row.invoiced) },
  }));
}

const versionsStatement: Statement = { name: "account_versions", text: "select id, version from accounts where id = any($1::uuid[])" };

/** The versions of accounts by their ids. */
export async function versionsOf(db: Queries, ids: string[]): Promise<Map<string, bigint>> {
  const rows = await db.query<Pick<Row<"accounts">, "id" | "version">>(versionsStatement, [ids]);
  return new Map(rows.map(({ id, version }) => [id, version]));
}

const byPatientRangeStatement: Statement = {
  name: "accounts_by_patient_range",
  text: `select id, patient_id, status, created_at from accounts
    where patient_id > $1 and ($2::uuid is null or patient_id <= $2) order by patient_id`,
};

export type AccountOfPatient = Pick<Row<"accounts">, "id" | "patient_id" | "status" | "created_at">;

/**
 * Accounts of the patients after one id, up to and including another one or to the end, in the order of the patients.
 */
export function accountsOfPatients(db: Queries, after: string, last: string | undefined): Promise<AccountOfPatient[]> {
  return db.query(byPatientRangeStatement, [after, last ?? null]);
}

const updateStatement: Statement = {
  name: "account_update",
  text: `
    with changed as (
      update accounts set status = $2, name = $3, email = $4, currency = $5, payer_id = $10, version = version + 1, updated_at = greatest(updated_at, $6)
      where id = $1 returning ${accountColumns}
    ), audit_rows as (
      ${insertIntoAudit} select $7, 'account.updated', id, $8, $9::jsonb from changed
    )
    select * from changed`,
};

/** Changes an account that is locked. */
export async function updateAccount(
  tx: Queries,
  id: string,
  values: Pick<Row<"accounts">, "status" | "name" | "email" | "currency" | "payer_id">,
  { now, context, details }: { now: Date; context: RequestContext; details: Record<string, unknown> },
): Promise<Row<"accounts">> {
  const { status, name, email, currency, payer_id } = values;
  const parameters = [id, status, name, email, currency, now, context.actorId, context.requestId, JSON.stringify(details), payer_id];
  const [row] = await tx.query<Row<"accounts">>(updateStatement, parameters);
  if (!row) throw new Error("an account that was locked is gone");
  return row;
}
