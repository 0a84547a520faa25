/**
 * Which transaction made the latest version of a patient. Clocks cannot tell what a reader may have missed: a transaction
 * that began earlier may commit later. Numbers of transactions can, because each snapshot says which of them it has all of.
 * A trigger writes the number, so that no writer can forget it. It ignores what is not a change of the record.
 */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  // While this waits for somebody's lock, everybody else waits behind it.
  await sql`set local lock_timeout = '1s'`.execute(db);
  // Patients from before have no number. A default for them would rewrite the table.
  await sql`alter table patients add column changed_xid xid8`.execute(db);
  await sql`alter table patients alter changed_xid set default pg_current_xact_id()`.execute(db);
  await sql`
    create function patients_note_change() returns trigger language plpgsql as $$
    begin
      new.changed_xid := pg_current_xact_id();
      return new;
    end $$`.execute(db);
  await sql`
    create trigger patients_note_change before update on patients
    for each row when (old.version is distinct from new.version) execute function patients_note_change()`.execute(db);
}
