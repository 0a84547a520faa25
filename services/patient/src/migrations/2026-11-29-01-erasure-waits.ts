/** For what an erasure waits and since when, so that somebody sees one that waits too long. */
import { type Kysely, sql } from "kysely";

const role = sql.ref("patient");

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`alter table erasures add column waiting_since timestamptz, add column waits_for jsonb not null default '[]'`.execute(db);
  await sql`grant update (waiting_since, waits_for) on erasures to ${role}`.execute(db);
}
