/**
 * Checks that take long, such as of the audit chain or the ledger: commands run them and note in the database what came
 * out, and every replica of the service shows that to Prometheus.
 */
import { type Generated, type Kysely, sql } from "kysely";
import type { Pool } from "pg";
import type { Logger } from "./log.ts";
import { Gauge, metrics, showAsked } from "./metrics.ts";

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

/** Notes checks as run now. So their age grows and is noticed, even if they never run. Part of a migration. */
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

/** The database of this process, of which only tests have more, and the checks that somebody runs. */
let shown: { pool: Pool; expected: readonly string[] | undefined } | undefined;
const lastResults = `select name, passed::int::float8 as passed, extract(epoch from clock_timestamp() - finished_at)::float8 as age
  from check_results`;
type LastResult = { name: string; passed: number; age: number };
showAsked(
  async () => (await shown?.pool.query<LastResult>(lastResults))?.rows,
  [
    {
      name: "check_passed",
      help: "1 if the last check found nothing wrong, else 0",
      samples: (results) => results.map(({ name, passed }) => ({ labels: { check: name }, value: passed })),
    },
    {
      name: "check_age_seconds",
      help: "Time since the last check, of those that are expected to run",
      samples: (results) =>
        results
          .filter(({ name }) => shown?.expected?.includes(name) ?? true)
          .map(({ name, age }) => ({ labels: { check: name }, value: age })),
    },
  ],
);

/**
 * Shows at `/metrics` what came out of the last checks.
 * @param expected those that run regularly; all by default. One that does not run is never overdue.
 */
export function showChecks(pool: Pool, expected?: readonly string[]): void {
  shown = { pool, expected };
}

/** What the last comparison of this process found. Another replica may be the one that compares from `until` on. */
const findings = new Map<string, { value: number; until: number }>();
new Gauge({
  name: "reconciliation_findings",
  help: "Differences that the last comparison with other services found, before it repaired any",
  ...{ labelNames: ["kind"], registers: [metrics] },
  collect() {
    this.reset();
    for (const [kind, { value, until }] of findings) if (Date.now() < until) this.set({ kind }, value);
  },
});

/** When the next comparison is to have ended. */
let dueAt: number | undefined;
new Gauge({
  name: "reconciliation_overdue_seconds",
  help: "For how long this replica knows of no comparison that was due; 0 if none is. The smallest of all replicas is the service's",
  registers: [metrics],
  collect() {
    this.reset();
    if (dueAt !== undefined) this.set(Math.max(0, Date.now() - dueAt) / 1_000);
  },
});

/** Shows at `/metrics`, from now on, for how long a comparison is overdue that is repeated every `everyMs`. */
export function expectFindings(everyMs: number): void {
  dueAt = Date.now() + everyMs;
}

/** Shows at `/metrics` what a comparison found that is repeated every `everyMs`. */
export function showFindings(found: Record<string, number>, everyMs: number): void {
  expectFindings(everyMs);
  for (const [kind, value] of Object.entries(found)) findings.set(kind, { value, until: Date.now() + 2 * everyMs });
}
