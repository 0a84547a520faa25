/**
 * Imports change patients too, can be cancelled, and say how far they are. `transfer_id` is the lease of the request
 * that runs it.
 */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    alter table imports
      add column mode text not null default 'create',
      add column updated bigint not null default 0,
      add column unchanged bigint not null default 0,
      add column started_at timestamptz not null default now(),
      add column cancelled_at timestamptz,
      add column transfer_id uuid`.execute(db);
}
