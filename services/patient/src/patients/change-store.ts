/** The statement that writes the next version of a patient, whole as that of new patients. */
import { insertIntoAudit } from "@pm/kit/audit/audit";
import { insertIntoOutbox } from "@pm/kit/kafka/outbox";
import { defineBulkInput } from "@pm/kit/postgres/bulk";
import { violatedConstraint } from "@pm/kit/postgres/database";
import type { Queries } from "@pm/kit/postgres/transaction";
import type { PatientRecord } from "../tables.ts";
import { findConflict, isIdentifierRace, taken } from "./taken-store.ts";
import { detailsOf, digest, type NewVersion, newSalt, vector, versionColumns } from "./write-store.ts";

/** The next version of a patient. */
export type Change = NewVersion & {
  /** The version that is changed; the new one is the next number. */
  version: number;
  /** Its record. If it got a record number meanwhile, the change has to be made again with it. */
  before: PatientRecord;
  /** Whether the e-mail stays. Then its key does, or its lack if it was found twice when keys were computed. */
  keepsEmail: boolean;
  deleted: boolean;
  /** The names of what changed. */
  fields: string[];
};

const changes = defineBulkInput<Change>({
  ...versionColumns,
  version: ["bigint", ({ version }) => BigInt(version)],
  old_details: ["json", ({ before }) => detailsOf(before)],
  keeps_email: ["boolean", ({ keepsEmail }) => keepsEmail],
  deleted: ["boolean", ({ deleted }) => deleted],
  fields: ["text", ({ fields }) => JSON.stringify(fields)],
});

const changeStatement = {
  name: "patients_change",
  text: `
    with input as materialized (
      select * from ${changes.source("input")}
    ), changed as (
      update patients p set version = p.version + 1, name = input.name, first_name = input.first_name, last_name = input.last_name,
        email = input.email, shared_email = input.shared_email,
        email_key = case when input.keeps_email and input.email_key is not null then p.email_key else input.email_key end,
        phone_number = input.phone_number, date_of_birth = input.date_of_birth, address_text = input.address_text,
        street = input.street, city = input.city, state = input.state, zip_code = input.zip_code, sex = input.sex,
        registered_date = input.registered_date, updated_at = input.at, deleted_at = case when input.deleted then input.at end, words = ${vector},
        sort_name = input.sort_name, city_key = input.city_key, words_version = p.version + 1,
        match_keys = input.match_keys::int[], keys_version = p.version + 1,
        details = input.details::jsonb
      from input where p.id = input.id and p.version = input.version and p.merged_into is null and p.details is not distinct from input.old_details::jsonb
      returning p.id, p.version, ${newSalt} as salt
    ), search_words as (
      insert into patient_words select distinct word from unnest($${changes.count + 1}::text[]) as word
      where exists (select from changed) order by word
      on conflict do nothing
    ), versions as (
      insert into patient_versions (patient_id, version, action, changed_at, changed_by, record, salt)
      select c.id, c.version, action, at, actor, record, salt from input join changed c using (id)
    ), audited as (
      ${insertIntoAudit}
      select actor, 'patient.' || action, c.id, request_id, jsonb_build_object('version', c.version, 'sha256', ${digest}, 'fields', fields::jsonb)
      from input join changed c using (id)
    ), outbox_rows as (
      ${insertIntoOutbox}
      select event_id, 'patient.v1', c.id, event_type, payload, traceparent from input join changed c using (id)
    )
    select id from changed`,
};

/**
 * Makes the next version of a patient. False where somebody else made it in the meantime, or merged the record, which
 * keeps its version.
 * @throws AppError already_exists if another patient has the e-mail or an identifier.
 */
export async function changePatient(db: Queries, change: Change): Promise<boolean> {
  try {
    return (await db.query(changeStatement, [...changes.collect([change]).values(), change.words.names])).length === 1;
  } catch (error) {
    if (["patients_email", "patients_email_key"].includes(violatedConstraint(error) ?? "")) throw taken("email");
    if (isIdentifierRace(error)) throw taken(await findConflict(db, change.id, change.record));
    throw error;
  }
}
