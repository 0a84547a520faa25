/** Idempotency keys are kept for a day, imports for a week, the cutoffs of exports for a year. */
import type { Lifecycle } from "@pm/kit/lifecycle";
import type { Logger } from "@pm/kit/log";
import { clearOutdated } from "./cleanup-store.ts";
import type { PatientDatabase } from "./database.ts";

const everyMs = 10 * 60_000;

/** Every replica deletes what is outdated; doing it twice changes nothing. */
export function startCleanup({ db, log, lifecycle }: { db: PatientDatabase; log: Logger; lifecycle: Lifecycle }): void {
  const timer = setInterval(() => {
    clearOutdated(db).catch((error: unknown) => log.warn({ err: error }, "outdated rows were not deleted; trying again later"));
  }, everyMs);
  lifecycle.onClose("cleanup", () => clearInterval(timer));
}
