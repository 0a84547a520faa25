/**
 * What a record has beyond its columns, as answers show it: nothing is looked for by it, and few records have it. Null
 * for most. A date of birth without a known day is here as written, and its first possible day is in the column.
 */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`alter table patients add column details jsonb`.execute(db);
}
