/**
 * A process from its start to its end. On SIGTERM or SIGINT it reports that it is not ready, waits for load balancers
 * to notice, then closes what was opened in reverse order, within the grace period.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "./log.ts";

export type Lifecycle = {
  /** Registers something to close. The last registered is closed first. */
  onClose(name: string, close: () => Promise<unknown> | unknown): void;
  /** Registers a condition of readiness, which must answer within milliseconds. */
  onReady(name: string, check: () => Promise<boolean> | boolean): void;
  /** Names of the conditions that do not hold. If there are none, the process may get traffic. */
  notReady(): Promise<string[]>;
  /** Ends the process. Safe to call twice. */
  shutdown(reason: string, exitCode?: number): Promise<void>;
};

export function createLifecycle(options: { log: Logger; drainMs: number; graceMs: number }): Lifecycle {
  const { log, drainMs, graceMs } = options;
  const closers: { name: string; close: () => Promise<unknown> | unknown }[] = [];
  const checks: { name: string; check: () => Promise<boolean> | boolean }[] = [];
  let closing: Promise<void> | undefined;

  async function close(reason: string, exitCode: number): Promise<void> {
    log.info({ reason }, "shutting down");
    const limit = setTimeout(() => {
      log.error({ graceMs }, "shutdown took too long");
      process.exit(1);
    }, drainMs + graceMs);
    await delay(drainMs);
    for (const { name, close } of closers.reverse()) {
      try {
        await close();
      } catch (error) {
        log.error({ err: error, part: name }, "closing failed");
      }
    }
    clearTimeout(limit);
    log.info("shut down");
    process.exit(exitCode);
  }

  const lifecycle: Lifecycle = {
    onClose: (name, close) => void closers.push({ name, close }),
    onReady: (name, check) => void checks.push({ name, check }),
    async notReady() {
      if (closing) return ["shutting down"];
      const results = await Promise.all(
        checks.map(async ({ name, check }) => {
          const ok = await Promise.resolve(check()).catch(() => false);
          return ok ? undefined : name;
        }),
      );
      return results.filter((name) => name !== undefined);
    },
    shutdown: (reason, exitCode = 0) => {
      closing ??= close(reason, exitCode);
      return closing;
    },
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => void lifecycle.shutdown(signal));
  process.on("uncaughtException", (error) => {
    log.fatal({ err: error }, "uncaught exception");
    void lifecycle.shutdown("uncaught exception", 1);
  });
  process.on("unhandledRejection", (error) => {
    log.fatal({ err: error }, "unhandled rejection");
    void lifecycle.shutdown("unhandled rejection", 1);
  });
  return lifecycle;
}
