/**
 * Checks that take long, such as of the audit chain or the ledger: commands run them and note in the database what came
 * out, and every replica of the service shows that to Prometheus.
 */
import { type Generated, type Kysely, sql } from "kysely";
import type { Pool } from "pg";
import type { Logger } from "./log.ts";
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

type Check = "audit_chain" | "ledger";

/**
 * Counts checks as run at this moment, so that their age grows and is noticed although nobody has ever run one; part of a migration.
 */
export async function expectChecks(db: Kysely<unknown>, checks: Check[]): Promise<void> {
  for (const check of checks)
    await sql`insert into check_results (name, passed) values (${check}, true) on conflict (name) do nothing`.execute(db);
}

/** Notes what came out of a check. In a copy of a database that cannot be written, it does nothing. */
async function noteCheck(pool: Pool, check: Check, passed: boolean, log: Logger): Promise<void> {
  const note = `insert into check_results (name, passed) values ($1, $2)
    on conflict (name) do update set passed = excluded.passed, finished_at = excluded.finished_at`;
  try {
    await pool.query(note, [check, passed]);
  } catch (error) {
    if ((error as { code?: string }).code !== "25006") log.error({ err: error, check, passed }, "the result of a check was not noted");
  }
}

/**
 * Does a check and notes what came out. One that ends by an error has not passed.
 * @throws what the check throws
 */
export async function noted<Result>(
  { pool, check, log }: { pool: Pool; check: Check; log: Logger },
  work: () => Promise<Result>,
  hasPassed: (result: Result) => boolean,
): Promise<Result> {
  let passed = false;
  try {
    const result = await work();
    passed = hasPassed(result);
    return result;
  } finally {
    await noteCheck(pool, check, passed, log);
  }
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
