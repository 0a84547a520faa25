/** The worker that opens a missing account keeps the link to the sampled request that created the patient. */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`alter table patient_billing add column traceparent text`.execute(db);
}
