import { type Dashboard, here, type Panel, rate } from "./dashboard.ts";
import { connectionPanels } from "./shared.ts";

/** What services say of their own databases, so that it needs no exporter beside Postgres. */
const panel = (title: string, unit: string, expr: string, more: { legend?: string; description?: string } = {}): Panel => ({
  ...{ title, unit, description: more.description ?? "" },
  queries: [{ expr, legend: more.legend ?? "{{service}}" }],
});
const blocks = (kind = "") => `sum by (service) (${rate(`postgres_blocks_total{${here}${kind}}`)})`;

export const postgres: Dashboard = {
  uid: "pm-postgres",
  title: "Patient management: Postgres",
  rows: [
    { title: "Connections", panels: connectionPanels(here) },
    {
      title: "Locks and transactions",
      panels: [
        panel("Statements that wait for a lock", "short", `max by (service) (postgres_lock_waits{${here}})`),
        panel("Oldest open transaction", "s", `max by (service) (postgres_longest_transaction_seconds{${here}})`),
        panel("Deadlocks in an hour", "short", `max by (service) (increase(postgres_deadlocks_total{${here}}[1h]))`),
        panel("Transactions", "cps", `max by (service, kind) (${rate(`postgres_transactions_total{${here}}`)})`, {
          legend: "{{service}} {{kind}}",
        }),
      ],
    },
    {
      title: "Storage",
      panels: [
        panel("Size of the database", "bytes", `max by (service) (postgres_database_size_bytes{${here}})`),
        panel("Blocks found in Postgres' memory, share", "percentunit", `${blocks(',kind="memory"')} / ${blocks()}`, {
          description: "Far below 0.99 for long, Postgres has too little memory for what is asked.",
        }),
      ],
    },
  ],
};
