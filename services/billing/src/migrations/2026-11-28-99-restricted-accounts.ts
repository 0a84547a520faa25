/** Accounts of patients whose erasure is held: only administrators read their names and texts (docs/privacy.md). */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`alter table accounts add column restricted_at timestamptz`.execute(db);
}
