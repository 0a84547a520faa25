/**
 * Checks that take long, such as of the audit chain or the ledger: commands run them and note in the database what came
 * out, and every replica of the service shows that to Prometheus.
 */
import { type Generated, type Kysely, sql } from "kysely";
import type { Pool } from "pg";
import { Gauge, metrics } from "./metrics.ts";

/** The table of `createCheckResults` in the table types of a service. */
export type CheckTables = { check_results: { name: string; passed: boolean; finished_at: Generated<Date> } };

/** Creates the table; part of a migration of every service. */
export async function createCheckResults(db: Kysely<unknown>, role: string): Promise<void> {
  await sql`
    create table check_results (
      name text primary key,
      passed boolean not null,
      finished_at timestamptz not null default clock_timestamp()
    )`.execute(db);
  await sql`grant select, insert, update on check_results to ${sql.ref(role)}`.execute(db);
}

/** Notes what came out of a check. In a copy of a database that cannot be written, it does nothing. */
export async function noteCheck(pool: Pool, check: "audit_chain" | "ledger", passed: boolean): Promise<void> {
  const note = `insert into check_results (name, passed) values ($1, $2)
    on conflict (name) do update set passed = excluded.passed, finished_at = excluded.finished_at`;
  await pool.query(note, [check, passed]).catch(() => undefined);
}

/** The databases of this process: only tests have more than one. */
const pools = new Set<Pool>();
const gauges = {
  check_passed: { help: "1 if the last check found nothing wrong, else 0", value: "passed::int::float8" },
  check_age_seconds: { help: "Time since the last check", value: "extract(epoch from clock_timestamp() - finished_at)::float8" },
};
for (const [name, { help, value }] of Object.entries(gauges))
  new Gauge({
    ...{ name, help, labelNames: ["check"], registers: [metrics] },
    async collect() {
      for (const pool of pools) {
        const results = pool.query<{ name: string; value: number }>(`select name, ${value} as value from check_results`);
        for (const row of (await results.catch(() => ({ rows: [] }))).rows) this.set({ check: row.name }, row.value);
      }
    },
  });

/** Shows at `/metrics` what came out of the last checks. */
export const showChecks = (pool: Pool): void => void pools.add(pool);
