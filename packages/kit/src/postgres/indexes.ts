/** Indexes on tables that are in use. */
import { type Kysely, sql } from "kysely";
import type { Logger } from "../log.ts";

/**
 * Creates the indexes that do not exist, without a lock that a writer waits for. No transaction can do that, so it is
 * not part of a migration; it runs after them, each time. It waits for transactions that began before it.
 * @param indexes their names, and what follows the name in `create index`: `on patients (…)`, or
 * `unique on patients (…)`
 */
export async function createIndexesConcurrently<Tables>(
  db: Kysely<Tables>,
  indexes: { [name: string]: string },
  log: Logger,
): Promise<void> {
  for (const [name, definition] of Object.entries(indexes)) {
    const { rows } = await sql<{ isValid: boolean }>`
      select indisvalid as "isValid" from pg_index where indexrelid = to_regclass(${name})`.execute(db);
    if (rows[0]?.isValid) continue;
    // One that was interrupted is left behind: writers maintain it, and nobody reads it.
    if (rows[0]) await sql`drop index concurrently ${sql.ref(name)}`.execute(db);
    const [, unique = "", table = ""] = /^(unique )?(.*)$/.exec(definition) ?? [];
    await sql`create ${sql.raw(unique)} index concurrently ${sql.ref(name)} ${sql.raw(table)}`.execute(db);
    log.info({ index: name }, "index created");
  }
}
