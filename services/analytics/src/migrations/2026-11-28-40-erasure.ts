/**
 * Erasure of patients (docs/privacy.md): demographics go from the events of a patient, also from those that could not
 * be applied. One function does it; it belongs to the owner, because the runtime role must not change events.
 */
import { createDemographicsRemover } from "@pm/kit/postgres/demographics";
import { type Kysely, sql } from "kysely";

const role = sql.ref("analytics");

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table erasures (
      patient_id uuid primary key,
      erasure_id uuid not null,
      erased_at timestamptz not null default clock_timestamp()
    )`.execute(db);
  await sql`grant select on erasures to ${role}`.execute(db);
  await createDemographicsRemover(db);
  // It may run again for a patient: an event may come late, such as a dead letter that is replayed. What waits in the
  // outbox about a patient are copies of dead letters.
  await sql`
    create function erase_patient(patient uuid, erasure uuid) returns void
    language plpgsql security definer set search_path = public, pg_temp as $$
    declare
      stripped bigint;
      letters bigint;
      copies bigint;
    begin
      update events set payload = event_without_demographics(payload)
      where subject = patient and stream = 'patient.v1' and payload <> event_without_demographics(payload);
      get diagnostics stripped = row_count;
      update dead_letters set payload = event_without_demographics(payload)
      where key = patient::text and (topic = 'patient.v1' or starts_with(topic, 'patient.v1.')) and payload <> event_without_demographics(payload);
      get diagnostics letters = row_count;
      delete from outbox where key = patient::text and starts_with(topic, 'patient.v1');
      get diagnostics copies = row_count;
      insert into erasures (patient_id, erasure_id) values (patient, erasure) on conflict do nothing;
      if found or stripped + letters + copies > 0 then
        insert into audit_entries (actor, action, subject, request_id, details) values ('service:analytics', 'patient.erased', patient, erasure,
          jsonb_build_object('erasureId', erasure, 'events', stripped, 'deadLetters', letters, 'copiesOfDeadLetters', copies));
      end if;
    end $$`.execute(db);
  await sql`revoke execute on function erase_patient from public`.execute(db);
  await sql`grant execute on function erase_patient to ${role}`.execute(db);
}
