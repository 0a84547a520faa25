/**
 * Identifiers of patients, such as record numbers and insurance numbers. What a record has beside its columns is in
 * `details`. The keys of living patients' identifiers are in a table of their own, whose primary key decides who has an
 * identifier: an index on `patients` would be as expensive to write, and building it would lock out a million patients.
 */
import { type Kysely, sql } from "kysely";

const role = sql.ref("patient");

export async function up(db: Kysely<unknown>): Promise<void> {
  // Text is compared byte by byte, so that two identifiers are the same in every locale of a server.
  await sql`
    create table patient_identifiers (
      system text collate "C" not null,
      value text collate "C" not null,
      patient_id uuid not null,
      primary key (system, value)
    )`.execute(db);
  await sql`grant select, insert, delete on patient_identifiers to ${role}`.execute(db);
  await sql`create sequence record_numbers`.execute(db);
  await sql`grant usage on sequence record_numbers to ${role}`.execute(db);

  // Keys follow every change, also a delete or restore by the version before. The statement that creates patients
  // writes their keys itself, because a trigger per patient is slower.
  await sql`
    create function move_identifiers() returns trigger language plpgsql as $$ begin
      delete from patient_identifiers k using jsonb_array_elements(old.details->'identifiers') i
        where k.system = i->>'system' and k.value = i->>'value' and k.patient_id = new.id;
      insert into patient_identifiers (system, value, patient_id)
        select i->>'system', i->>'value', new.id from jsonb_array_elements(new.details->'identifiers') i
        where new.deleted_at is null order by 1, 2;
      return null;
    end $$`.execute(db);
  await sql`
    create trigger changed_identifiers after update of details, deleted_at on patients for each row
    when (old.details->'identifiers' is distinct from new.details->'identifiers' or (old.deleted_at is null) <> (new.deleted_at is null))
    execute function move_identifiers()`.execute(db);
}
