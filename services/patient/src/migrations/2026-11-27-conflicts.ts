/**
 * When each caller was told last that a patient whom they may not see has an e-mail address: at most 20 times an hour.
 * Whoever asks locks their row, so that many questions at once, also to several replicas, are answered one by one.
 */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table conflict_limits (
      caller text primary key,
      told_at timestamptz[] not null default '{}'
    )`.execute(db);
  await sql`grant select, insert, update on conflict_limits to patient`.execute(db);
}
