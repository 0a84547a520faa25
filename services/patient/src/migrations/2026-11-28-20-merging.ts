/**
 * Records that were merged into another one: two records of one person.
 *
 * A merged record has `merged_into`, the record that all its ids lead to, and `deleted_at`, so that whatever looks for
 * living records passes it, also in the version before. It keeps its version. While it is merged it has the owner and
 * the grants of its survivor, so one access rule fits both; `patient_merges` has what each had before. The constraint
 * refuses a restore by the version before, which would leave a living record that leads to another one.
 */
import { type Kysely, sql } from "kysely";

const role = sql.ref("patient");

export async function up(db: Kysely<unknown>): Promise<void> {
  // `not valid` because no row can violate it yet.
  await sql`
    alter table patients add column merged_into uuid,
      add constraint patients_merged_are_not_living check (merged_into is null or deleted_at is not null) not valid`.execute(db);

  // Merges, also those that were undone. The record itself is in `patient_versions`: of the survivor before and after
  // the merge (`survivor_version`), of the duplicate as it still is. `duplicate_grants` and `survivor_grants` are rows
  // of `patient_access`.
  await sql`
    create table patient_merges (
      id bigint generated always as identity primary key,
      survivor_id uuid not null,
      survivor_version bigint not null,
      survivor_grants jsonb not null,
      duplicate_id uuid not null,
      duplicate_version bigint not null,
      duplicate_owner text not null,
      duplicate_grants jsonb not null,
      merged_by text not null,
      merged_at timestamptz not null,
      undone_version bigint,
      undone_by text,
      undone_at timestamptz
    )`.execute(db);
  await sql`create unique index patient_merges_once on patient_merges (duplicate_id) where undone_version is null`.execute(db);
  await sql`create index patient_merges_survivor on patient_merges (survivor_id)`.execute(db);
  await sql`grant select, insert on patient_merges to ${role}`.execute(db);
  await sql`grant update (undone_version, undone_by, undone_at) on patient_merges to ${role}`.execute(db);

  // Which accounts billing has to link: whose account leads to whose, or to nobody's. Each change has a higher
  // revision, so billing can tell an earlier message that arrives late. `next_attempt_at` is null when billing knows.
  await sql`create sequence patient_link_revisions`.execute(db);
  await sql`grant usage on sequence patient_link_revisions to ${role}`.execute(db);
  await sql`
    create table patient_links (
      patient_id uuid primary key,
      survivor_id uuid,
      revision bigint not null,
      attempts int not null default 0,
      next_attempt_at timestamptz
    )`.execute(db);
  await sql`create index patient_links_due on patient_links (revision) where next_attempt_at is not null`.execute(db);
  await sql`grant select, insert, update on patient_links to ${role}`.execute(db);
}
