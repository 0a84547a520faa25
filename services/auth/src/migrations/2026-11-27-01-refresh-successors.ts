/**
 * The response to a refresh token stays until its successor was used. The index finds out whether a token of the same
 * session was used later, and serves what the index of sessions alone did.
 */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`create index refresh_tokens_by_use on refresh_tokens (session_id, used_at)`.execute(db);
  await sql`drop index refresh_tokens_by_session`.execute(db);
}
