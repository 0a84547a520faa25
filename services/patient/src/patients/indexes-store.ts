/** Indexes of patients that came after the first release: a million patients may be in use while they are created. */

import type { Logger } from "@pm/kit/log";
import { createIndexesConcurrently } from "@pm/kit/postgres/indexes";
import { type Kysely, sql } from "kysely";
import type { Tables } from "../tables.ts";

const indexes = {
  patients_email_key: "unique on patients (email_key) where deleted_at is null and email_key is not null",
  // With the id, because a file of a million patients may come in one transaction.
  patients_changes: "on patients (changed_xid, id)",
  // Of every version, in the order of the transactions: a create writes it at the index's end.
  patient_versions_changes: "on patient_versions (changed_xid, patient_id, version)",
  patients_sort_name: `on patients ((coalesce(sort_name, name) collate "und-x-icu"), id) where deleted_at is null`,
  patients_city_key: "on patients (city_key, id) where deleted_at is null",
  patients_merged: "on patients (merged_into) where merged_into is not null",
  // Those whose words and keys are to be rewritten.
  patients_old_keys: "on patients (id) where keys_version is null",
  // Creates look for those who may be the same person here. A look-up of one number takes microseconds.
  patients_birth_key: "on patients ((match_keys[1])) where deleted_at is null",
  // Without a list of pending entries, which each look-up would read from its beginning to its end.
  patients_match_keys: "on patients using gin (match_keys) with (fastupdate = off) where deleted_at is null",
};

export async function createIndexes(db: Kysely<Tables>, log: Logger): Promise<void> {
  await createIndexesConcurrently(db, indexes, log);
  // Of earlier versions: `patients_changes` and `patients_old_keys` answer what they answered.
  for (const name of ["patients_changed", "patients_old_words"]) await sql`drop index concurrently if exists ${sql.ref(name)}`.execute(db);
}
