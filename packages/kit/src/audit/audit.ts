/**
 * The audit trail: who did what, when, to what. It is append-only, and chained so that tampering is detected.
 *
 * A change writes its entry in its own statement, and pays for nothing else. One sealer per service then collects
 * entries into blocks: a block covers the hash of each of its entries and the hash of the block before it. So no write
 * waits for another write, and an entry is sealed within about a second (docs/decisions/0003-audit-chain.md).
 */
import { type ColumnType, type Generated, type GeneratedAlways, type Kysely, sql } from "kysely";
import type { Client } from "pg";
import type { Lifecycle } from "../lifecycle.ts";
import type { Logger } from "../log.ts";
import { defineBulkInput } from "../postgres/bulk.ts";
import type { Database, DatabaseSettings } from "../postgres/database.ts";
import { type Leader, runAsLeader, type Step } from "../postgres/leader.ts";
import { recordStatementSince } from "../postgres/statement-spans.ts";
import type { Queries } from "../postgres/transaction.ts";

/** `details` is written as text. It may hold personal data, which is in this database anyway. */
type AuditEntriesTable = {
  id: GeneratedAlways<bigint>;
  occurred_at: Generated<Date>;
  actor: string;
  action: string;
  subject: string;
  request_id: string;
  details: ColumnType<unknown, string | undefined, never>;
};

/** The tables of `createAuditTables` in the table types of a service. */
export type AuditTables = {
  audit_entries: AuditEntriesTable;
  audit_blocks: {
    number: bigint;
    entry_ids: bigint[];
    entry_hashes: Buffer[];
    previous_hash: Buffer;
    hash: Buffer;
    sealed_at: Generated<Date>;
    /** The beginning of the month of its entries; -infinity in the first one. */
    month: Generated<Date>;
  };
  audit_unsealed: { entry_id: bigint };
  /** Whom the answer of an entry showed, where its subject does not say it. */
  audit_patients: { entry_id: bigint; occurred_at: Date; patient_id: string };
  /** The months of `divideTrail` (months.ts). */
  audit_months: { month: Date; until: Date };
};

/** What somebody did. Postgres adds the id and the time. */
export type AuditEntry = {
  /** `sub` of the caller, or `anonymous`. */
  actorId: string;
  /** What was done: `<noun>.<verb in the past>`, or the OWASP logging vocabulary in auth. */
  action: string;
  /** The id of what it was done to. */
  subject: string;
  /** The request id, by which the line in the log can be found. */
  requestId: string;
  /** What changed. */
  details?: object;
  /** The patients whom an answer showed, if the subject does not say it. */
  patientIds?: string[];
};

/** The beginning of every insert into the audit trail, for statements that write an entry beside other rows. */
export const insertIntoAudit = "insert into audit_entries (actor, action, subject, request_id, details)";

const newEntries = defineBulkInput<AuditEntry>({
  actor: ["text", ({ actorId }) => actorId],
  action: ["text", ({ action }) => action],
  subject: ["text", ({ subject }) => subject],
  request_id: ["text", ({ requestId }) => requestId],
  details: ["json", ({ details }) => JSON.stringify(details ?? {})],
});

const insertStatement = {
  name: "audit_insert",
  text: `${insertIntoAudit} select actor, action, subject, request_id, details from ${newEntries.source("input")}`,
};

/** What an `insertIntoAudit` returns for `insertPatientsOf`. */
export const returningEntry = "returning id as entry_id, occurred_at";

/**
 * Notes whom an entry is about, in the statement that writes it.
 * @param entry the name of an `insertIntoAudit … ${returningEntry}`
 * @param patients gives a column `id` for each patient, without repetitions
 */
export const insertPatientsOf = (entry: string, patients: string) => `insert into audit_patients (entry_id, occurred_at, patient_id)
  select ${entry}.entry_id, ${entry}.occurred_at, shown.id from ${entry} cross join (${patients}) shown`;

const insertListStatement = {
  name: "audit_insert_list",
  text: `with entry as (${insertIntoAudit} values ($1, $2, $3, $4, $5) ${returningEntry})
    ${insertPatientsOf("entry", "select unnest($6::uuid[]) as id")}`,
};

/**
 * Adds entries to the audit trail. Where each round trip counts, a statement writes them itself, by `insertIntoAudit`.
 */
export async function insertAuditEntries(db: Queries, entries: AuditEntry[]): Promise<void> {
  const lists = entries.filter(({ patientIds }) => patientIds?.length);
  const others = lists.length > 0 ? entries.filter((entry) => !lists.includes(entry)) : entries;
  if (others.length > 0) await db.query(insertStatement, newEntries.collect(others).values());
  for (const { actorId, action, subject, requestId, details = {}, patientIds } of lists)
    await db.query(insertListStatement, [actorId, action, subject, requestId, JSON.stringify(details), [...new Set(patientIds)]]);
}

/** Creates the tables; part of a service's first migration. `role` is the runtime role; it may only add and read. */
export async function createAuditTables(db: Kysely<unknown>, role: string): Promise<void> {
  await sql`
    create table audit_entries (
      id bigint generated always as identity primary key,
      occurred_at timestamptz not null default clock_timestamp(),
      actor text not null,
      action text not null,
      subject text not null,
      request_id text not null,
      details jsonb not null default '{}'
    )`.execute(db);
  await sql`create index audit_entries_by_subject on audit_entries (subject, id)`.execute(db);
  await sql`
    create table audit_blocks (
      number bigint primary key,
      entry_ids bigint[] not null,
      entry_hashes bytea[] not null,
      previous_hash bytea not null,
      hash bytea not null,
      sealed_at timestamptz not null default clock_timestamp()
    )`.execute(db);
  // Entries that are not sealed yet. "All ids above the last sealed one" would lose entries: ids are assigned at the
  // insert, and transactions commit in another order.
  await sql`create table audit_unsealed (entry_id bigint primary key)`.execute(db);
  await sql`alter table audit_unsealed set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000)`.execute(db);
  await sql`
    create function audit_note_unsealed() returns trigger language plpgsql security definer set search_path = public as $$
    begin
      insert into audit_unsealed select id from added;
      return null;
    end $$`.execute(db);
  await sql`
    create trigger audit_note_unsealed after insert on audit_entries
    referencing new table as added for each statement execute function audit_note_unsealed()`.execute(db);
  const grantee = sql.ref(role);
  await sql`grant select, insert on audit_entries, audit_blocks to ${grantee}`.execute(db);
  await sql`grant select, delete on audit_unsealed to ${grantee}`.execute(db);
}

/** What is hashed of an entry. */
export const entryColumns = `id, (extract(epoch from occurred_at) * 1000000)::bigint::text as occurred_us, actor, action, subject, request_id, details::text`;
/** The previous hash of the first block. */
export const noHash = Buffer.alloc(32);
const blockSize = 1_000;

/**
 * Appends a block of entries of one month that are not sealed yet. A new month waits for two minutes, so that the last
 * entries of the one before are committed; one that comes later has a block of its own month. All of it happens inside
 * Postgres: moving a thousand entries out and back to hash them would cost more than the writes that they describe.
 * `hashEntry` and `hashBlock` in verify.ts compute the same hashes.
 */
const sealStatement = {
  name: "audit_seal",
  text: `
    with waiting as materialized (
      select e.*, m.month from audit_entries e join audit_months m on e.occurred_at >= m.month and e.occurred_at < m.until
      where id = any(array(select entry_id from audit_unsealed order by entry_id limit ${blockSize}))
    ), entries as materialized (
      select id, month,
        sha256(convert_to(json_build_array(id::text, occurred_us, actor, action, subject, request_id, details)::text, 'UTF8')) as hash
      from (
        select month, ${entryColumns} from waiting
        where month = (select min(month) from waiting) and month <= now() - interval '2 minutes'
      ) e
    ), taken as (
      delete from audit_unsealed where entry_id = any(array(select id from entries))
    ), last as (
      select number, hash from audit_blocks order by number desc limit 1
    ), block as (
      select coalesce((select number from last), 0) + 1 as number, coalesce((select hash from last), $1::bytea) as previous_hash,
        min(month) as month, array_agg(id order by id) as ids, array_agg(hash order by id) as hashes, string_agg(hash, ''::bytea order by id) as joined
      from entries having count(*) > 0
    )
    insert into audit_blocks (number, month, entry_ids, entry_hashes, previous_hash, hash)
    select number, month, ids, hashes, previous_hash,
      sha256(previous_hash || convert_to(number || ':' || array_to_string(ids, ',') || ':', 'UTF8') || joined)
    from block returning number, cardinality(entry_ids) as entries, hash`,
};

/** Seals one block. The leader's lock makes this the only sealer. */
async function sealBlock(client: Client, log: Logger): Promise<Step> {
  const started = performance.now();
  const { rows } = await client.query<{ number: bigint; entries: number; hash: Buffer }>({ ...sealStatement, values: [noHash] });
  const [block] = rows;
  if (block) recordStatementSince(sealStatement.name, started);
  // The head in the log is the anchor outside the database: it reveals a chain that was shortened or rebuilt.
  if (block && block.number % 100n === 0n) log.info({ auditHead: `${block.number}:${block.hash.toString("hex")}` }, "audit chain");
  if (!block) return "idle";
  return block.entries === blockSize ? "more" : "done";
}

const monthsEveryMs = 3_600_000;

/**
 * Starts the sealer of a service, which makes the months ahead too. Every replica starts one, and one of them seals.
 */
export function startAuditSealer<Tables>(options: {
  db: Database<Tables>;
  settings: DatabaseSettings;
  log: Logger;
  lifecycle: Lifecycle;
}): Leader {
  const { db, settings, log, lifecycle } = options;
  let nextMonthsAt = 0;
  const step = async (client: Client) => {
    if (Date.now() >= nextMonthsAt) {
      await client.query("select audit_ensure_months()");
      nextMonthsAt = Date.now() + monthsEveryMs;
    }
    return sealBlock(client, log);
  };
  return runAsLeader({ name: "audit_sealer", settings, pool: db.pool, pollMs: 500, step, log, lifecycle });
}
