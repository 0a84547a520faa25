/** How far the work list of duplicates follows the patients. One row, of the job that keeps the list. */
import { type Kysely, sql } from "kysely";

const role = sql.ref("patient");

export async function up(db: Kysely<unknown>): Promise<void> {
  // model: the model by which pairs were scored. after_id: where the walk through all patients is; null: it is done.
  // The others: the change of a patient, by a transaction of a server, behind which changes are still to be followed.
  await sql`
    create table duplicate_progress (
      one boolean primary key default true check (one),
      model text not null,
      after_id uuid,
      server text not null,
      xid text not null,
      id uuid not null
    )`.execute(db);
  await sql`grant select, insert, update on duplicate_progress to ${role}`.execute(db);
}
