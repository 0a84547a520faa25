/** An index of encrypted responses whose grace time is over, so that cleaning up finds them. There are always few. */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`create index refresh_tokens_by_sealed_answer on refresh_tokens (used_at) where sealed_answer is not null`.execute(db);
}
