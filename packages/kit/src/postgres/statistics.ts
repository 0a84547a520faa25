/** What Postgres counts for the database of a service, as metrics of the service: every role may read that. */
import type { Pool } from "pg";
import { showAsked } from "../metrics.ts";

const statement = `select pg_database_size(datid)::float8 as size, deadlocks::float8, xact_commit::float8 as committed,
    xact_rollback::float8 as rolled_back, blks_hit::float8 as memory, blks_read::float8 as elsewhere, waiting, longest
  from pg_stat_database, (
    select count(*) filter (where wait_event_type = 'Lock')::float8 as waiting,
      coalesce(max(extract(epoch from clock_timestamp() - xact_start)), 0)::float8 as longest
    from pg_stat_activity where datname = current_database() and usename = current_user and pid <> pg_backend_pid()
  ) sessions
  where datname = current_database()`;
type Statistics = Record<"size" | "deadlocks" | "committed" | "rolled_back" | "memory" | "elsewhere" | "waiting" | "longest", number>;

/** A process has one database; only tests have more, and show the last one. */
let pool: Pool | undefined;

/** Each outcome or kind is a field of the answer. Counters begin anew where Postgres does, as they may. */
const counter = (name: string, help: string, ...fields: (keyof Statistics)[]) => ({
  ...{ name, help, type: "counter" as const },
  samples: (row: Statistics) => fields.map((kind) => ({ labels: { kind }, value: row[kind] })),
});
const gauge = (name: string, help: string, field: keyof Statistics) => ({
  ...{ name, help },
  samples: (row: Statistics) => [{ value: row[field] }],
});
showAsked(
  async () => (await pool?.query<Statistics>(statement))?.rows[0],
  [
    gauge("postgres_database_size_bytes", "Size of the database on disk", "size"),
    gauge("postgres_lock_waits", "Statements of this service that wait for a lock", "waiting"),
    gauge("postgres_longest_transaction_seconds", "Age of the oldest open transaction of this service", "longest"),
    counter("postgres_transactions_total", "Transactions in the database by their outcome", "committed", "rolled_back"),
    counter("postgres_blocks_total", "Blocks that were read, from Postgres' memory or elsewhere", "memory", "elsewhere"),
    counter("postgres_deadlocks_total", "Deadlocks in the database", "deadlocks"),
  ],
);

/** Shows them at `/metrics`. */
export const showStatistics = (db: Pool): void => {
  pool = db;
};
