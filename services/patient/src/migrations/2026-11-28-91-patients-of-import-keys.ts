/**
 * Whose the e-mails and identifiers are that a dry run keeps the hashes of: two lines may be of one patient. The
 * patient is one who is there, or one whom a line would create.
 */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`alter table import_emails add column patient_id uuid`.execute(db);
}
