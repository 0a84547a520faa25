/** What Postgres counts for the database of a service, as metrics of the service: every role may read that. */
import type { Pool } from "pg";
import { Counter, Gauge, metrics } from "../metrics.ts";

const statement = `select pg_database_size(datid)::float8 as size, deadlocks::float8, xact_commit::float8 as committed,
    xact_rollback::float8 as rolled_back, blks_hit::float8 as memory, blks_read::float8 as elsewhere, waiting, longest
  from pg_stat_database, (
    select count(*) filter (where wait_event_type = 'Lock')::float8 as waiting,
      coalesce(max(extract(epoch from clock_timestamp() - xact_start)), 0)::float8 as longest
    from pg_stat_activity where datname = current_database() and usename = current_user and pid <> pg_backend_pid()
  ) sessions
  where datname = current_database()`;
type Statistics = Record<"size" | "deadlocks" | "committed" | "rolled_back" | "memory" | "elsewhere" | "waiting" | "longest", number>;

let pool: Pool | undefined;
let reading: Promise<Statistics | undefined> | undefined;

/** All metrics of a scrape ask at once, and share the statement. */
function read(): Promise<Statistics | undefined> {
  reading ??= (async () => {
    const answer = await pool?.query<Statistics>(statement).catch(() => undefined);
    reading = undefined;
    return answer?.rows[0];
  })();
  return reading;
}

const registers = [metrics];
const gauges = {
  postgres_database_size_bytes: { help: "Size of the database on disk", field: "size" },
  postgres_lock_waits: { help: "Statements of this service that wait for a lock", field: "waiting" },
  postgres_longest_transaction_seconds: { help: "Age of the oldest open transaction of this service", field: "longest" },
} as const;
for (const [name, { help, field }] of Object.entries(gauges))
  new Gauge({
    ...{ name, help, registers },
    async collect() {
      const row = await read();
      if (row) this.set(row[field]);
    },
  });

/** They begin anew where Postgres does, as counters may. */
const counters = {
  postgres_transactions_total: { help: "Transactions in the database by their outcome", fields: ["committed", "rolled_back"] },
  postgres_blocks_total: { help: "Blocks that were read, from Postgres' memory or elsewhere", fields: ["memory", "elsewhere"] },
  postgres_deadlocks_total: { help: "Deadlocks in the database", fields: ["deadlocks"] },
} as const;
for (const [name, { help, fields }] of Object.entries(counters))
  new Counter({
    ...{ name, help, registers, labelNames: ["kind"] },
    async collect() {
      const row = await read();
      if (!row) return;
      this.reset();
      for (const field of fields) this.inc({ kind: field }, row[field]);
    },
  });

/** Shows them at `/metrics`. A process has one database; only tests have more, and show the last one. */
export const showStatistics = (db: Pool): void => {
  pool = db;
};
