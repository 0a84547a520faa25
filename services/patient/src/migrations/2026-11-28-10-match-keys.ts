/**
 * The keys by which records that may be of one person meet, and what creates and imports said about them. Existing
 * patients get them from the job that rewrites words, since writing a million rows here would take too long.
 */
import { type Kysely, sql } from "kysely";

const role = sql.ref("patient");

export async function up(db: Kysely<unknown>): Promise<void> {
  // keys_version: the version whose keys these are; null: the version of the service before wrote the row.
  await sql`alter table patients add column match_keys int[], add column keys_version bigint`.execute(db);
  // What the report of an import says about its lines.
  await sql`
    create table import_duplicates (
      import_id uuid not null references imports on delete cascade,
      line bigint not null,
      possible_duplicates int not null,
      primary key (import_id, line)
    )`.execute(db);
  await sql`grant select, insert, delete on import_duplicates to ${role}`.execute(db);
  // What the first answer to a create said, for the answers that repeat it.
  await sql`alter table idempotency_keys add column possible_duplicates int`.execute(db);
  await sql`
    create or replace function patients_note_change() returns trigger language plpgsql as $$
    begin
      new.changed_xid := pg_current_xact_id();
      if new.words_version is not distinct from old.words_version then new.words_version := null; end if;
      if new.keys_version is not distinct from old.keys_version then new.keys_version := null; end if;
      return new;
    end $$`.execute(db);
}
