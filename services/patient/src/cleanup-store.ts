import type { PatientDatabase } from "./database.ts";

const batchSize = 10_000;

/** Deletes outdated rows, a batch at a time, so that nobody waits behind it. */
export async function clearOutdated(db: PatientDatabase): Promise<void> {
  const statements = [
    `delete from idempotency_keys where (caller, key) in
      (select caller, key from idempotency_keys where created_at < now() - interval '1 day' order by created_at limit ${batchSize})`,
    `delete from imports where id in (select id from imports where updated_at < now() - interval '7 days' limit 100)`,
    `delete from file_transfers where id in (select id from file_transfers where expires_at < now() - interval '1 day' limit ${batchSize})`,
    // Nobody reads one after a day. Its cutoff is known for a year, so that the export after it misses nothing.
    `delete from patient_exports where id in (select id from patient_exports where cutoff < now() - interval '1 year' limit ${batchSize})`,
  ];
  for (const text of statements) {
    let deleted = 0;
    do deleted = (await db.pool.query(text)).rowCount ?? 0;
    while (deleted === batchSize);
  }
}
