/**
 * Work that one process of a service does for all its replicas: a loop of steps under an advisory lock of Postgres. If
 * the leader dies, its connection and with it the lock are gone, and another replica takes over within a second.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Client, Pool } from "pg";
import type { Lifecycle } from "../lifecycle.ts";
import type { Logger } from "../log.ts";
import { inTrace } from "../telemetry/tracing.ts";
import { connectClient, type DatabaseSettings } from "./database.ts";

/** How a step ended: there is more to do, it has done all there was, or it found nothing to do. */
export type Step = "more" | "done" | "idle";

export type Leader = {
  /** Says that there is work. Cheap; call it after every commit. */
  wake(): void;
};

/** Other replicas are notified at most once in this time: a NOTIFY in every transaction would serialize commits. */
const notifyEveryMs = 20;

/**
 * Runs `step` again and again while this process holds the lock `name`: immediately if the last step answered "more",
 * else when it is woken (here, or by a notification from another replica), and every `pollMs` in case a notification
 * was lost. A step that throws closes the connection and is tried again with back-off.
 */
export function runAsLeader(options: {
  /** Names the lock, the notification channel and the connection; lower case letters and underscores. */
  name: string;
  settings: DatabaseSettings;
  pool: Pool;
  pollMs: number;
  /** How long to wait after the first wake, so that a step finds more than one thing to do; 0 by default. */
  lingerMs?: number;
  step: (client: Client) => Promise<Step>;
  log: Logger;
  lifecycle: Lifecycle;
}): Leader {
  const { name, settings, pool, pollMs, lingerMs = 0, step, log, lifecycle } = options;
  const stop = new AbortController();
  const alarm = createAlarm(stop.signal);
  let isLeading = false;
  let notifiedAt = 0;
  let failures = 0;

  async function lead(client: Client): Promise<void> {
    await takeLock(client, name, stop.signal);
    isLeading = true;
    client.on("notification", alarm.wake);
    // The tables that a step empties on this connection look empty to the planner. It would read such a table as a
    // whole, with the rows that were deleted in the last minute, and sort it, instead of following the primary key.
    await client.query(`listen ${name}; set enable_seqscan to off`);
    while (!stop.signal.aborted) {
      alarm.reset();
      const result = await inTrace(
        `job ${name}`,
        {},
        () => step(client),
        (step) => step !== "idle",
      );
      if (failures > 0) log.info({ job: name, failures }, "works again");
      failures = 0;
      if (result !== "more") {
        await alarm.wait(pollMs);
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
        isLeading = false;
        // Closing the connection rolls back an open transaction and releases the lock.
        await client?.end().catch(() => undefined);
      }
      const pause = Math.min(200 * 2 ** Math.min(failures, 5), 5_000);
      await delay(pause, undefined, { signal: stop.signal }).catch(() => undefined);
    }
  }

  const running = run();
  lifecycle.onClose(name, async () => {
    stop.abort();
    alarm.wake();
    await running;
  });
  return {
    wake() {
      alarm.wake();
      if (isLeading || Date.now() - notifiedAt <= notifyEveryMs) return;
      notifiedAt = Date.now();
      pool.query(`notify ${name}`).catch(() => undefined);
    },
  };
}

/** Tries for the lock without waiting: a waiting statement holds a snapshot, which keeps vacuum from removing rows. */
async function takeLock(client: Client, name: string, signal: AbortSignal): Promise<void> {
  for (;;) {
    const { rows } = await client.query("select pg_try_advisory_lock(hashtextextended($1, 0)) as locked", [name]);
    if (rows[0].locked) return;
    await delay(1_000, undefined, { signal });
  }
}

/** A pause that ends early when it is woken, or that does not begin if it was woken since the last reset. */
function createAlarm(signal: AbortSignal) {
  let isWoken = false;
  let end: () => void = () => undefined;
  return {
    reset(): void {
      isWoken = false;
    },
    wake(): void {
      isWoken = true;
      end();
    },
    wait(milliseconds: number): Promise<void> {
      return new Promise((resolve) => {
        if (isWoken || signal.aborted) {
          resolve();
          return;
        }
        const timer = setTimeout(resolve, milliseconds);
        end = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    },
  };
}
