/**
 * The trail in months (UTC), so that one beyond retention can be dropped at once. A block holds entries of one month,
 * so that it goes with it. What was there before the trail was divided is the first month.
 */
import { type Kysely, sql, type Transaction } from "kysely";
import type { Logger } from "../log.ts";
import { createIndexesConcurrently } from "../postgres/indexes.ts";
import { entriesByPage, idsOfBlock } from "./migrations.ts";

/** The tables that have a part for each month, the column that says which, and the indexes of a part. */
const parts = {
  audit_entries: { column: "occurred_at", indexes: ["unique: (id)", ": (subject, id)", `: ${entriesByPage}`] },
  audit_blocks: { column: "month", indexes: ["unique: (number)", `: using gist (${idsOfBlock})`] },
  audit_patients: { column: "occurred_at", indexes: [": (patient_id, entry_id)"] },
} as const;
const tables = Object.entries(parts);

/**
 * Divides the trail into months, if it is not yet, and makes the months ahead. Runs after the migrations, as the owner,
 * each time. Writers wait for two short locks: the first declares what is true of the rows, then Postgres checks it
 * while they write, and the second makes the tables the first month.
 */
export async function divideTrail<Tables>(db: Kysely<Tables>, role: string, log: Logger, now = new Date()): Promise<void> {
  const { rows } = await sql<{ divided: boolean }>`
    select relkind = 'p' as divided from pg_class where oid = 'audit_entries'::regclass`.execute(db);
  if (!rows[0]?.divided) {
    const indexes = {
      audit_entries_by_page: `on audit_entries ${entriesByPage}`,
      audit_blocks_by_entries: `on audit_blocks using gist (${idsOfBlock})`,
    };
    await createIndexesConcurrently(db, indexes, log);
    await db.transaction().execute((tx) => declareFirstMonth(tx, now));
    for (const [table] of tables) await sql`alter table ${sql.ref(table)} validate constraint ${sql.ref(`${table}_first`)}`.execute(db);
    await db.transaction().execute((tx) => attachFirstMonth(tx, role));
    await sql`select brin_desummarize_range('audit_entries_by_page'::regclass,
      greatest(pg_relation_size('audit_entries_first') / current_setting('block_size')::int - 1, 0))`.execute(db);
    log.info("the audit trail is divided into months");
  }
  await sql.raw(ensureMonths).execute(db);
  await sql`select audit_ensure_months()`.execute(db);
  await grantToAnchor(db, `${role}_anchor`);
}

/**
 * The role by which heads are published (heads.ts) reads numbers and hashes of blocks. Not every installation has it.
 */
async function grantToAnchor<Tables>(db: Kysely<Tables>, anchor: string): Promise<void> {
  const { rows } = await sql`select from pg_roles where rolname = ${anchor}`.execute(db);
  if (rows.length > 0) await sql`grant select (number, hash, previous_hash) on audit_blocks to ${sql.ref(anchor)}`.execute(db);
}

/** The first month ends with the month of the day after tomorrow, so that the rest has time enough. */
async function declareFirstMonth<Tables>(tx: Transaction<Tables>, now: Date): Promise<void> {
  await sql`set local lock_timeout = '2s'`.execute(tx);
  await sql`create table if not exists audit_months (month timestamptz primary key, until timestamptz not null)`.execute(tx);
  const { rows } = await sql<{ until: Date }>`
    insert into audit_months values ('-infinity', date_add(date_trunc('month', ${now}::timestamptz + interval '2 days', 'UTC'), interval '1 month', 'UTC'))
    on conflict (month) do update set until = excluded.until returning until`.execute(tx);
  const until = sql.lit(rows[0]?.until.toISOString());
  await sql`alter table audit_blocks add column if not exists month timestamptz not null default '-infinity'`.execute(tx);
  for (const [table, { column }] of tables) {
    const [name, key] = [sql.ref(`${table}_first`), sql.ref(column)];
    await sql`alter table ${sql.ref(table)} drop constraint if exists ${name},
      add constraint ${name} check (${key} is not null and ${key} < ${until}) not valid`.execute(tx);
  }
}

async function attachFirstMonth<Tables>(tx: Transaction<Tables>, role: string): Promise<void> {
  const run = (text: string) => sql.raw(text).execute(tx);
  const grantee = `"${role}"`;
  await run("set local lock_timeout = '2s'");
  await run(`lock table ${Object.keys(parts).join(", ")} in access exclusive mode`);
  const { rows } = await sql<{ next: string; until: string }>`
    select nextval(pg_get_serial_sequence('audit_entries', 'id'))::text as next,
      (select until::text from audit_months) as until`.execute(tx);
  const [first] = rows;
  await run("drop trigger audit_note_unsealed on audit_entries");
  await run("alter table audit_entries alter column id drop identity");
  for (const [table, { column }] of tables) {
    await run(`alter table ${table} rename to ${table}_first`);
    await run(`revoke all on ${table}_first from ${grantee}`);
    await run(`create table ${table} (like ${table}_first including defaults) partition by range (${column})`);
    await run(`grant select, insert on ${table} to ${grantee}`);
  }
  await run(`alter table audit_entries alter column id add generated always as identity (start with ${first?.next})`);
  for (const [table] of tables)
    await run(`alter table ${table} attach partition ${table}_first for values from (minvalue) to ('${first?.until}')`);
  await run(`create trigger audit_note_unsealed after insert on audit_entries
    referencing new table as added for each statement execute function audit_note_unsealed()`);
  await run(`grant select on audit_months to ${grantee}`);
  await run(ensureMonths);
  await run("revoke execute on function audit_make_months(timestamptz), audit_ensure_months() from public");
  await run(`grant execute on function audit_ensure_months() to ${grantee}`);
}

/** The indexes of one part, as statements of PL/pgSQL. */
const createIndexes = tables.flatMap(([table, { indexes }]) =>
  indexes.map((index) => {
    const [unique = "", definition = ""] = index.split(": ");
    return `execute format('create ${unique} index on %I ${definition.replaceAll("'", "''")}', '${table}_' || suffix);`;
  }),
);

/**
 * Makes a month and the next two where they are missing. `audit_ensure_months` does it for this month, and runs with
 * the rights of the owner, so that the service can call it: otherwise a service that is not upgraded for some months
 * could not write. Attaching an empty table makes nobody wait.
 */
const ensureMonths = `
  create or replace function audit_make_months(at timestamptz) returns void language plpgsql set search_path = public, pg_temp as $function$
  declare
    first timestamptz;
    until timestamptz;
    suffix text;
  begin
    perform pg_advisory_xact_lock(hashtextextended('audit_ensure_months', 0));
    for ahead in 0..2 loop
      first := date_add(date_trunc('month', at, 'UTC'), make_interval(months => ahead), 'UTC');
      until := date_add(first, interval '1 month', 'UTC');
      continue when exists (select from audit_months m where m.month <= first and m.until > first);
      suffix := to_char(first at time zone 'UTC', 'YYYY_MM');
      ${tables.map(([table]) => `execute format('create table %I (like ${table} including defaults)', '${table}_' || suffix);`).join("\n      ")}
      ${createIndexes.join("\n      ")}
      perform brin_desummarize_range(i.indexrelid, 0) from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am a on a.oid = c.relam
        where a.amname = 'brin' and i.indrelid = to_regclass('audit_entries_' || suffix);
      ${tables
        .map(
          ([table]) =>
            `execute format('alter table ${table} attach partition %I for values from (%L) to (%L)', '${table}_' || suffix, first, until);`,
        )
        .join("\n      ")}
      insert into audit_months values (first, until);
    end loop;
  end $function$;
  create or replace function audit_ensure_months() returns void language sql security definer set search_path = public, pg_temp as $function$
    select audit_make_months(now());
  $function$`;
