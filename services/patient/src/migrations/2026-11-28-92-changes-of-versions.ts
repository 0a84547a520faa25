/**
 * Which transaction wrote each version, so that a client that follows every version misses none (decision 0029). Older
 * versions have 0, which is before every transaction. The migrate command builds the index (indexes-store.ts).
 */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  // A constant default is no rewrite of the table.
  await sql`alter table patient_versions add column changed_xid xid8 not null default '0'::xid8`.execute(db);
  await sql`alter table patient_versions alter changed_xid set default pg_current_xact_id()`.execute(db);
}
