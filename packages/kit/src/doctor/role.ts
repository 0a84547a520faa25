/** The role by which the doctor reads a database of a cluster. */
import { type Kysely, sql } from "kysely";

/** Tables and columns that a look reads. */
export type Reads = { [table: string]: string[] };

/** What every doctor reads: the names of migrations, and whole audit entries, because the chain has their hashes. */
const everywhere: Reads = {
  kysely_migration: ["name"],
  audit_entries: ["id", "occurred_at", "actor", "action", "subject", "request_id", "details"],
  audit_blocks: ["number", "entry_ids", "entry_hashes", "previous_hash", "hash"],
  audit_unsealed: ["entry_id"],
};

/**
 * Lets the role `<service>_doctor` read these columns, and nothing else: what a version before granted is taken back.
 * Runs after the migrations, as the owner, each time. Not every installation has the role.
 * @param further what the service's own look reads
 */
export async function grantToDoctor<Tables>(db: Kysely<Tables>, service: string, further: Reads = {}): Promise<void> {
  const role = `${service}_doctor`;
  const { rows } = await sql`select from pg_roles where rolname = ${role}`.execute(db);
  if (rows.length === 0) return;
  const doctor = sql.ref(role);
  // In one transaction, so that a doctor who looks meanwhile is not refused.
  await db.transaction().execute(async (tx) => {
    await sql`revoke all on all tables in schema public from ${doctor}`.execute(tx);
    await sql`grant usage on schema public to ${doctor}`.execute(tx);
    for (const [table, columns] of Object.entries({ ...everywhere, ...further }))
      await sql`grant select (${sql.join(columns.map((column) => sql.ref(column)))}) on ${sql.table(table)} to ${doctor}`.execute(tx);
  });
}
