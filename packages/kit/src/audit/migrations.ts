/** What later releases add to the tables of `createAuditTables`. Each is part of a migration of every service. */
import { type Kysely, sql } from "kysely";

/** Whom lists and exports showed. */
export async function createAuditPatients(db: Kysely<unknown>, role: string): Promise<void> {
  await sql`
    create table audit_patients (
      entry_id bigint not null,
      occurred_at timestamptz not null,
      patient_id uuid not null
    )`.execute(db);
  await sql`create index audit_patients_by_patient on audit_patients (patient_id, entry_id)`.execute(db);
  await sql`grant select, insert on audit_patients to ${sql.ref(role)}`.execute(db);
}

/**
 * From the first to the last id of a block, which are in order. Blocks overlap a little, where transactions were
 * committed late.
 */
export const idsOfBlock = "int8range(entry_ids[1], entry_ids[cardinality(entry_ids)], '[]')";

/**
 * The index by which the trail is filtered. Entries are only added, so a summary of every 64 pages is enough: an insert
 * pays almost nothing for it, and autovacuum makes the summary of full pages. The summary that an index of few or no
 * entries begins with is removed (months.ts): each insert would write the whole of it again, and double what it costs.
 */
const bloom = (column: string, distinct: number) => `${column} text_bloom_ops (n_distinct_per_range = ${distinct})`;
const filtered = ["occurred_at", bloom("actor", 200), bloom("action", 100), bloom("request_id", 2_500)];
export const entriesByPage = `using brin (${filtered.join(", ")}) with (pages_per_range = 64, autosummarize = on)`;
