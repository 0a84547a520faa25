/**
 * During a rollout, the version before takes revisions of links from the sequence, and this one no lower ones. So a
 * later revision is the higher one, whichever version gives it. After an hour, the clock is ahead of the sequence.
 */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`select setval('patient_link_revisions', (extract(epoch from clock_timestamp() + interval '1 hour') * 1000000)::bigint)`.execute(
    db,
  );
}
