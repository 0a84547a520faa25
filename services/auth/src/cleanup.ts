/** Deletes what nobody needs any more, in one process of all replicas. */

import type { Lifecycle } from "@pm/kit/lifecycle";
import type { Logger } from "@pm/kit/log";
import type { DatabaseSettings } from "@pm/kit/postgres/database";
import { runAsLeader } from "@pm/kit/postgres/leader";
import type { Client } from "pg";
import type { AuthDatabase } from "./tables.ts";

/** Rows of a statement: small enough that nobody waits for their locks. */
const batch = 1_000;

/** A session stays for a day after its end, so that the theft of an old token still shows, and revocations stay known. */
const statements = [
  `delete from sessions where id in
    (select id from sessions where expires_at < now() - interval '1 day' or revoked_at < now() - interval '1 day' limit ${batch})`,
  `delete from sessions where id in (select id from sessions where last_used_at < now() - make_interval(secs => $1) - interval '1 day' limit ${batch})`,
  // An answer is given again within the grace time, two minutes at most; that its token was used stays known with the session.
  `update refresh_tokens set sealed_answer = null where hash in
    (select hash from refresh_tokens where sealed_answer is not null and used_at < now() - interval '5 minutes' limit ${batch})`,
  `delete from links where hash in (select hash from links where expires_at < now() limit ${batch})`,
  `delete from throttles where key in
    (select key from throttles where blocked_until < now() and updated_at + make_interval(secs => level * leak_seconds) < now() limit ${batch})`,
];

export async function tidy(client: Client, idleSeconds: number): Promise<"more" | "done"> {
  let most = 0;
  for (const text of statements) {
    const { rowCount } = await client.query(text, text.includes("$1") ? [idleSeconds] : []);
    most = Math.max(most, rowCount ?? 0);
  }
  return most === batch ? "more" : "done";
}

export function startHousekeeping(options: {
  database: AuthDatabase;
  settings: DatabaseSettings;
  idleSeconds: number;
  log: Logger;
  lifecycle: Lifecycle;
}): void {
  const { database, settings, idleSeconds, log, lifecycle } = options;
  const step = (client: Client) => tidy(client, idleSeconds);
  runAsLeader({ name: "auth_housekeeping", settings, pool: database.pool, pollMs: 60_000, step, log, lifecycle });
}
