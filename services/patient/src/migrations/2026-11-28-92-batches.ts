/**
 * What the operations of a batch did, for the answers that repeat it. The key is taken before the first of them, so
 * that two requests with the same key wait for each other. `patient_id` is then an id of the batch itself.
 */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`alter table idempotency_keys add column results jsonb`.execute(db);
  await sql`grant update (results) on idempotency_keys to ${sql.ref("patient")}`.execute(db);
}
