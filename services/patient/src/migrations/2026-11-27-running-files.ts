/**
 * Imports and exports that run. A caller has a few slots of each kind, which all replicas share. Each is a lease that
 * its process renews, so that a killed process frees it. The first import in a slot leaves a row for the next ones.
 */
import { type Kysely, sql } from "kysely";

const role = sql.ref("patient");

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table file_transfers (
      caller text not null,
      kind text not null,
      slot int not null,
      id uuid not null unique,
      name text,
      started_at timestamptz not null default now(),
      expires_at timestamptz not null,
      primary key (caller, kind, slot)
    )`.execute(db);
  await sql`grant select, insert, update, delete on file_transfers to ${role}`.execute(db);
}
