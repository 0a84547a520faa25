/** Cleans up once a minute, in one process of all replicas. */
import type { Lifecycle } from "@pm/kit/lifecycle";
import type { Logger } from "@pm/kit/log";
import type { DatabaseSettings } from "@pm/kit/postgres/database";
import { runAsLeader } from "@pm/kit/postgres/leader";
import type { Client } from "pg";
import { cleanUp } from "./cleanup-store.ts";
import type { AuthDatabase } from "./tables.ts";

export function startCleanup(options: {
  db: AuthDatabase;
  settings: DatabaseSettings;
  idleSeconds: number;
  log: Logger;
  lifecycle: Lifecycle;
}): void {
  const { db, settings, idleSeconds, log, lifecycle } = options;
  const step = (client: Client) => cleanUp(client, idleSeconds);
  runAsLeader({ name: "auth_housekeeping", settings, pool: db.pool, pollMs: 60_000, step, log, lifecycle });
}
