/** What an erasure has removed here, and how many roll-ups it has changed, for its certificate (docs/privacy.md). */
import { type Kysely, sql } from "kysely";

const role = sql.ref("analytics");

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`alter table erasures add column removed jsonb not null default '{}'`.execute(db);
  // What was erased before this release stands in the trail alone.
  await sql`
    update erasures e set removed = a.details - 'erasureId' from audit_entries a
    where a.action = 'patient.erased' and a.subject = e.patient_id::text and a.details->>'erasureId' = e.erasure_id::text`.execute(db);
  // It may run again for a patient: an event may come late, such as a dead letter that is replayed.
  await sql`
    create function erase_patient(patient uuid, erasure uuid, rollups bigint) returns void
    language plpgsql security definer set search_path = public, pg_temp as $$
    declare
      stripped bigint;
      letters bigint;
      copies bigint;
      counts jsonb;
    begin
      update events set payload = event_without_demographics(payload)
      where subject = patient and stream = 'patient.v1' and payload <> event_without_demographics(payload);
      get diagnostics stripped = row_count;
      update dead_letters set payload = event_without_demographics(payload)
      where key = patient::text and (topic = 'patient.v1' or starts_with(topic, 'patient.v1.')) and payload <> event_without_demographics(payload);
      get diagnostics letters = row_count;
      delete from outbox where key = patient::text and starts_with(topic, 'patient.v1');
      get diagnostics copies = row_count;
      counts := jsonb_build_object('events', stripped, 'deadLetters', letters, 'copiesOfDeadLetters', copies, 'rollups', rollups);
      insert into erasures (patient_id, erasure_id, removed) values (patient, erasure, counts)
      on conflict (patient_id) do update set removed = (
        select jsonb_object_agg(key, value::bigint + coalesce((erasures.removed->>key)::bigint, 0)) from jsonb_each_text(excluded.removed)
      ) where stripped + letters + copies + excluded.removed['rollups']::bigint > 0;
      if found then
        insert into audit_entries (actor, action, subject, request_id, details)
        values ('service:analytics', 'patient.erased', patient, erasure, jsonb_build_object('erasureId', erasure) || counts);
      end if;
    end $$`.execute(db);
  await sql`revoke execute on function erase_patient(uuid, uuid, bigint) from public`.execute(db);
  await sql`grant execute on function erase_patient(uuid, uuid, bigint) to ${role}`.execute(db);
  // The release before calls this one.
  await sql`
    create or replace function erase_patient(patient uuid, erasure uuid) returns void
    language sql security definer set search_path = public, pg_temp as 'select erase_patient(patient, erasure, 0)'`.execute(db);
}
