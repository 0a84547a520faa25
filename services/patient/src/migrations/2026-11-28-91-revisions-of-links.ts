/**
 * Revisions of links follow the clock, in microseconds. The version before takes them from a sequence: it goes on from
 * now, so that billing does not take its messages for late ones during a rollout. When no such version runs, the
 * sequence can go.
 */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`select setval('patient_link_revisions', (extract(epoch from clock_timestamp()) * 1000000)::bigint)`.execute(db);
}
