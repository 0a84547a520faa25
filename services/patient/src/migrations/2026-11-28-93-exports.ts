/** Exports of patients as they were at one moment (exports/exports.ts). */
import { type Kysely, sql } from "kysely";

const role = sql.ref("patient");

export async function up(db: Kysely<unknown>): Promise<void> {
  // Also merges that were undone: an older export has them.
  await sql`create index patient_merges_duplicate on patient_merges (duplicate_id, id)`.execute(db);
  // `snapshot` says which versions an export has, `cutoff` when that was. `since_snapshot` is that of the export
  // before, if its cutoff is the `since`; otherwise `changed_after` says what is left out. Replicas share all of it.
  await sql`
    create table patient_exports (
      id uuid primary key,
      caller text not null,
      team text,
      cutoff timestamptz not null,
      snapshot pg_snapshot not null,
      server text not null,
      since timestamptz,
      since_snapshot pg_snapshot,
      changed_after timestamptz,
      patients bigint not null default 0,
      read_at timestamptz not null,
      finished_at timestamptz,
      cancelled_at timestamptz
    )`.execute(db);
  await sql`create index patient_exports_by_caller on patient_exports (caller, cutoff)`.execute(db);
  await sql`grant select, insert, update, delete on patient_exports to ${role}`.execute(db);
}
