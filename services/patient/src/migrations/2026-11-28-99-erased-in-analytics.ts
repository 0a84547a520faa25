/** When analytics has erased a patient, and what, for the certificate. */
import { type Kysely, sql } from "kysely";

const role = sql.ref("patient");

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    alter table erasures add column analytics_erased_at timestamptz, add column analytics_removed jsonb not null default '{}'`.execute(db);
  await sql`create index erasures_unconfirmed on erasures (id) where analytics_erased_at is null`.execute(db);
  await sql`grant update (analytics_erased_at, analytics_removed) on erasures to ${role}`.execute(db);
}
