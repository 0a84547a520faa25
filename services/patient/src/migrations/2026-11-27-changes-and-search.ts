/**
 * What clients that follow changes need, and what a search and lists by name and city need. Existing patients get the
 * latter from a job of the service (rewriting.ts), because writing a million rows here would take too long.
 */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  // changed_xid: which transaction made the latest version. Clocks cannot tell what a reader may have missed: a
  // transaction that began earlier may commit later. Each snapshot says which transactions it has all of. A default
  // would rewrite the table. sort_name, city_key: what lists are ordered and filtered by. words_version: the version
  // whose words these are; null: an old one.
  await sql`
    alter table patients add column changed_xid xid8, add column sort_name text collate "und-x-icu", add column city_key text,
      add column words_version bigint`.execute(db);
  await sql`alter table patients alter changed_xid set default pg_current_xact_id()`.execute(db);
  // A trigger, so that no writer can forget it. The version of the service before does not write the words of this one:
  // its changes leave words_version as it is, and are found by that.
  await sql`
    create function patients_note_change() returns trigger language plpgsql as $$
    begin
      new.changed_xid := pg_current_xact_id();
      if new.words_version is not distinct from old.words_version then new.words_version := null; end if;
      return new;
    end $$`.execute(db);
  await sql`
    create trigger patients_note_change before update on patients
    for each row when (old.version is distinct from new.version) execute function patients_note_change()`.execute(db);
}
