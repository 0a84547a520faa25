/**
 * An erasure also removes the stored answers of batches that wrote the patient, and what a dry run noted of them under
 * a key that no version has, such as a new address. The function keeps its owner and its grants.
 */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create or replace function erase_patient_traces(patient uuid) returns jsonb language plpgsql as $$
    declare
      texts text[];
      keys bytea[];
      answers bigint;
      errors_of_imports bigint;
      keys_of_imports bigint;
      events bigint;
    begin
      select coalesce(array_agg(distinct lower(value #>> '{}')), '{}') into texts
      from patient_versions v cross join unnest(array['$.name', '$.firstName', '$.lastName', '$.email', '$.phoneNumber', '$.address.text',
        '$.address.street', '$.identifiers[*].value', '$.names[*].text', '$.names[*].given', '$.names[*].family', '$.phones[*].value',
        '$.emails[*].value', '$.addresses[*].text', '$.contacts[*].name', '$.contacts[*].phone']::jsonpath[]) path
      cross join jsonb_path_query(v.record::jsonb, path) value
      where v.patient_id = patient and length(value #>> '{}') > 3;
      select coalesce(array_agg(sha256(convert_to(key, 'UTF8'))), '{}') into keys from (
        select unnest(texts) as key union
        select 'identifier:' || (i->>'system') || '|' || (i->>'value')
        from patient_versions v, jsonb_array_elements(v.record::jsonb->'identifiers') i where v.patient_id = patient
      ) hashed;
      delete from idempotency_keys
      where patient_id = patient or results @> jsonb_build_array(jsonb_build_object('id', patient));
      get diagnostics answers = row_count;
      delete from import_errors where exists (select from unnest(texts) t where position(t in lower(errors::text)) > 0);
      get diagnostics errors_of_imports = row_count;
      delete from import_emails where email_hash = any(keys) or patient_id = patient;
      get diagnostics keys_of_imports = row_count;
      update outbox set payload = event_without_demographics(payload) where topic = 'patient.v1' and key = patient::text;
      get diagnostics events = row_count;
      return jsonb_build_object('idempotentAnswers', answers, 'importErrors', errors_of_imports, 'importKeys', keys_of_imports,
        'unsentEvents', events);
    end $$`.execute(db);
}
