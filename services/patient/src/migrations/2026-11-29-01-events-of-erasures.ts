/**
 * The event by which analytics is asked about an erasure, so that an earlier erasure of the same patient is no answer.
 */
import { type Kysely, sql } from "kysely";

const role = sql.ref("patient");

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`alter table erasures add column event_id uuid`.execute(db);
  await sql`grant update (event_id) on erasures to ${role}`.execute(db);
}
