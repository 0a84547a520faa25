/**
 * Grants that only allow reading. Those that exist stay grants to write, and so are those that the version before adds
 * during a rollout.
 *
 * `patients.registered_by` has the owner, who is the user who registered the patient until an administrator names
 * another. The column keeps its name, because the version before reads it. The first version has who registered it.
 */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`alter table patient_access add column can_write boolean not null default true`.execute(db);
  await sql`grant update (can_write, granted_by, granted_at) on patient_access to ${sql.ref("patient")}`.execute(db);
}
