/** The role by which the doctor reads a database of a cluster. */
import { type Kysely, sql } from "kysely";

/** Tables and columns that a look reads. */
export type Reads = { [table: string]: string[] };

/** What every doctor reads: the names of migrations, and what the audit chain is computed from. */
const everywhere: Reads = {
  kysely_migration: ["name"],
  audit_entries: ["id", "occurred_at", "actor", "action", "subject", "request_id", "details"],
  audit_blocks: ["number", "entry_ids", "entry_hashes", "previous_hash", "hash"],
  audit_unsealed: ["entry_id"],
};

/**
 * Lets the role `<service>_doctor` read these columns, and nothing else. Runs after the migrations, as the owner, each
 * time. Not every installation has the role.
 * @param further what the service's own look reads
 */
export async function grantToDoctor<Tables>(db: Kysely<Tables>, service: string, further: Reads = {}): Promise<void> {
  const role = `${service}_doctor`;
  const { rows } = await sql`select from pg_roles where rolname = ${role}`.execute(db);
  if (rows.length === 0) return;
  await sql`grant usage on schema public to ${sql.ref(role)}`.execute(db);
  for (const [table, columns] of Object.entries({ ...everywhere, ...further }))
    await sql`grant select (${sql.join(columns.map((column) => sql.ref(column)))}) on ${sql.table(table)} to ${sql.ref(role)}`.execute(db);
}
