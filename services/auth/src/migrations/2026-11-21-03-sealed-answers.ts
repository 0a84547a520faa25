/** Finds the sealed answers that are past their grace time, so that they can be deleted; there are few at any time. */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`create index refresh_tokens_by_sealed_answer on refresh_tokens (used_at) where sealed_answer is not null`.execute(db);
}
