/**
 * Work that one process of a service does for all its replicas: a loop of steps, held by a Postgres advisory lock. When the
 * holder dies, its connection and with it the lock are gone, and another replica takes over within a second.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Client, Pool } from "pg";
import type { Lifecycle } from "../lifecycle.ts";
import type { Logger } from "../log.ts";
import { connectClient, type DatabaseSettings } from "./database.ts";

export type Leader = {
  /** Says that there is work. Cheap; call it after every commit. */
  wake(): void;
};

/** At most one notification to other replicas in this time: a NOTIFY in every transaction would serialise commits. */
const notifyEveryMs = 20;

/**
 * Runs `step` again and again while this process holds the lock `name`: at once while it answers "more", else when woken
 * (here, or by a notification from another replica) and every `pollMs` as the safety net. A step that throws loses the
 * connection and is tried again with back-off.
 */
export function runAsLeader(options: {
  /** Names the lock, the notification channel and the connection; lower case letters and underscores. */
  name: string;
  settings: DatabaseSettings;
  pool: Pool;
  pollMs: number;
  /** How long work may gather after the first wake, so that a step has more than one thing to do; 0 where it is not said. */
  lingerMs?: number;
  step: (client: Client) => Promise<"more" | "done">;
  log: Logger;
  lifecycle: Lifecycle;
}): Leader {
  const { name, settings, pool, pollMs, lingerMs = 0, step, log, lifecycle } = options;
  const stop = new AbortController();
  let leading = false;
  let woken = false;
  let awake: () => void = () => undefined;
  let notifiedAt = 0;
  let failures = 0;

  const wait = (milliseconds: number): Promise<void> =>
    new Promise((resolve) => {
      if (woken || stop.signal.aborted) {
        resolve();
        return;
      }
      const timer = setTimeout(resolve, milliseconds);
      awake = () => {
        clearTimeout(timer);
        resolve();
      };
    });

  async function lead(client: Client): Promise<void> {
    // Tried, not waited for: a waiting statement would hold a snapshot, and vacuum would stand still behind it.
    for (;;) {
      const { rows } = await client.query("select pg_try_advisory_lock(hashtextextended($1, 0)) as locked", [name]);
      if (rows[0].locked) break;
      await delay(1_000, undefined, { signal: stop.signal });
    }
    leading = true;
    client.on("notification", () => {
      woken = true;
      awake();
    });
    // What the step takes on this connection waits in tables that look empty to Postgres: it would rather read all of such a
    // table, with the deleted rows of the last minute, and sort it, than walk along its key.
    await client.query(`listen ${name}; set enable_seqscan to off`);
    while (!stop.signal.aborted) {
      woken = false;
      const result = await step(client);
      if (failures > 0) log.info({ job: name, failures }, "works again");
      failures = 0;
      if (result === "done") {
        await wait(pollMs);
        if (lingerMs > 0) await delay(lingerMs, undefined, { signal: stop.signal }).catch(() => undefined);
      }
    }
  }

  async function run(): Promise<void> {
    while (!stop.signal.aborted) {
      let client: Client | undefined;
      try {
        client = await connectClient(settings, name);
        client.on("error", () => undefined);
        await lead(client);
      } catch (error) {
        if (!stop.signal.aborted && failures++ === 0) log.warn({ err: error, job: name }, "failed; trying again until it works");
      } finally {
        leading = false;
        // Ending the connection rolls back what was open and frees the lock.
        await client?.end().catch(() => undefined);
      }
      const pause = Math.min(200 * 2 ** Math.min(failures, 5), 5_000);
      await delay(pause, undefined, { signal: stop.signal }).catch(() => undefined);
    }
  }

  const running = run();
  lifecycle.onClose(name, async () => {
    stop.abort();
    awake();
    await running;
  });
  return {
    wake() {
      woken = true;
      if (leading) awake();
      else if (Date.now() - notifiedAt > notifyEveryMs) {
        notifiedAt = Date.now();
        pool.query(`notify ${name}`).catch(() => undefined);
      }
    },
  };
}
