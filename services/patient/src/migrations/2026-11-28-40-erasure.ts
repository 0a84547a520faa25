/**
 * Erasure of patients (docs/privacy.md). A patient who is erased keeps a row, since other services count it, but
 * without anything that identifies them. What must be kept for a while stays in the versions, for administrators. One
 * function erases; it belongs to the owner, because the runtime role must not change versions.
 */
import { createDemographicsRemover } from "@pm/kit/postgres/demographics";
import { type Kysely, sql } from "kysely";

const role = sql.ref("patient");

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`alter table patients add column erased_at timestamptz`.execute(db);
  // The audit trail has a digest of each version. The salt goes with the version, so that nobody can find out from the
  // digest what the version was. Versions from before have none.
  await sql`alter table patient_versions add column salt bytea`.execute(db);
  await sql`
    create table legal_holds (
      patient_id uuid primary key,
      reason text not null,
      placed_by text not null,
      placed_at timestamptz not null
    )`.execute(db);
  await sql`grant select, insert, update, delete on legal_holds to ${role}`.execute(db);
  // What was asked for, and how far it is. `words` are those of the patient's names, until they are erased.
  await sql`
    create table erasures (
      id uuid primary key,
      patient_id uuid not null unique,
      reason text not null,
      requested_by text not null,
      request_id text not null,
      requested_at timestamptz not null,
      words text[] not null default '{}',
      keeps_record boolean not null default true,
      restricted_at timestamptz,
      record_erased_at timestamptz,
      removed jsonb not null default '{}',
      billing_erased_at timestamptz,
      billing_removed jsonb not null default '{}',
      attempts int not null default 0,
      next_attempt_at timestamptz
    )`.execute(db);
  await sql`create index erasures_due on erasures (next_attempt_at) where next_attempt_at is not null`.execute(db);
  await sql`grant select, insert on erasures to ${role}`.execute(db);
  await sql`grant update (words, keeps_record, billing_erased_at, billing_removed, attempts, next_attempt_at) on erasures to ${role}`.execute(
    db,
  );
  await createDemographicsRemover(db);
  await createEraseRow(db);
  await createEraseTraces(db);
  await createErasePatient(db);
}

/** Erases what lists, searches and reads show of a patient, and who may see them. Versions are not touched. */
async function createEraseRow(db: Kysely<unknown>): Promise<void> {
  await sql`
    create function erase_patient_row(patient uuid, words_of_names text[]) returns jsonb language plpgsql as $$
    declare
      records bigint;
      grants bigint;
      search_words bigint;
    begin
      insert into patient_versions (patient_id, version, action, changed_at, changed_by, record)
        select id, version + 1, 'erased', clock_timestamp(), (select requested_by from erasures e where e.patient_id = patient), '{}'
        from patients where id = patient;
      update patients set version = version + 1, name = '', first_name = null, last_name = null, email = null, shared_email = null,
        email_key = null, phone_number = null, date_of_birth = '0001-01-01', address_text = null, street = null, city = null, state = null,
        zip_code = null, sex = null, details = null, words = '', sort_name = '', city_key = null, words_version = version + 1,
        match_keys = '{}', keys_version = version + 1,
        updated_at = clock_timestamp(), deleted_at = coalesce(deleted_at, clock_timestamp()), erased_at = clock_timestamp()
      where id = patient;
      get diagnostics records = row_count;
      delete from patient_access where patient_id = patient;
      get diagnostics grants = row_count;
      -- Its account was not open yet. Without a name, none is opened.
      update patient_billing set next_attempt_at = null where patient_id = patient and account_id is null;
      update emergency_accesses set reason = '' where patient_id = patient;
      delete from duplicate_pairs where first_id = patient or second_id = patient;
      delete from patient_words w where word = any(words_of_names) and not exists (
        select from patients where deleted_at is null
          and words @@ ('''' || replace(replace(w.word, '\\', '\\\\'), '''', '''''') || '''')::tsquery);
      get diagnostics search_words = row_count;
      return jsonb_build_object('records', records, 'grants', grants, 'searchWords', search_words);
    end $$`.execute(db);
}

/** Erases what requests, imports and events have left of a patient. */
async function createEraseTraces(db: Kysely<unknown>): Promise<void> {
  // The errors of an import may quote what stood in a wrong column, and name no patient: those go that have a text of
  // this patient. The keys of a dry run are hashes of e-mail addresses and identifiers.
  await sql`
    create function erase_patient_traces(patient uuid) returns jsonb language plpgsql as $$
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
      delete from idempotency_keys where patient_id = patient;
      get diagnostics answers = row_count;
      delete from import_errors where exists (select from unnest(texts) t where position(t in lower(errors::text)) > 0);
      get diagnostics errors_of_imports = row_count;
      delete from import_emails where email_hash = any(keys);
      get diagnostics keys_of_imports = row_count;
      update outbox set payload = event_without_demographics(payload) where topic = 'patient.v1' and key = patient::text;
      get diagnostics events = row_count;
      return jsonb_build_object('idempotentAnswers', answers, 'importErrors', errors_of_imports, 'importKeys', keys_of_imports,
        'unsentEvents', events);
    end $$`.execute(db);
}

async function createErasePatient(db: Kysely<unknown>): Promise<void> {
  await sql`
    create function erase_patient(patient uuid, erasure uuid) returns void
    language plpgsql security definer set search_path = public, pg_temp as $$
    declare
      asked erasures%rowtype;
      counts jsonb := '{}';
      versions bigint;
      what text := 'patient.restricted';
    begin
      -- Whoever places a hold has finished, or waits.
      perform from patients where id = patient for update;
      select * into asked from erasures where id = erasure and patient_id = patient for update;
      if not found then raise exception 'there is no such erasure of this patient'; end if;
      if asked.record_erased_at is not null then return; end if;
      if asked.restricted_at is null then
        counts := erase_patient_traces(patient) || erase_patient_row(patient, asked.words);
        update erasures set restricted_at = clock_timestamp(), words = '{}', removed = counts where id = erasure;
      end if;
      if not asked.keeps_record and not exists (
        select from legal_holds h join patients o on o.id = h.patient_id
        where coalesce(o.merged_into, o.id) = (select coalesce(merged_into, id) from patients where id = patient)
      ) then
        update patient_versions set record = '{}', salt = null where patient_id = patient and action <> 'erased';
        get diagnostics versions = row_count;
        -- While the record was merged into another one, the versions of that one had its data too.
        update patient_versions v set record = '{}', salt = null from patient_merges m
        where m.duplicate_id = patient and m.undone_version is not null and v.patient_id = m.survivor_id
          and v.version >= m.survivor_version and v.version < m.undone_version;
        counts := counts || jsonb_build_object('versions', versions);
        update erasures set record_erased_at = clock_timestamp(), removed = removed || counts where id = erasure;
        what := 'patient.erased';
      elsif asked.restricted_at is not null then
        return;
      end if;
      insert into audit_entries (actor, action, subject, request_id, details)
      values (asked.requested_by, what, patient, asked.request_id, jsonb_build_object('erasureId', erasure) || counts);
    end $$`.execute(db);
  for (const internal of ["erase_patient_row(uuid, text[])", "erase_patient_traces(uuid)", "erase_patient(uuid, uuid)"])
    await sql`revoke execute on function ${sql.raw(internal)} from public`.execute(db);
  await sql`grant execute on function erase_patient to ${role}`.execute(db);
}
