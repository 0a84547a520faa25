/** What is kept for a while only: idempotency keys for a day, what is known of imports for a week. */
import type { Lifecycle } from "@pm/kit/lifecycle";
import type { Logger } from "@pm/kit/log";
import { clearOutdated } from "./cleanup-store.ts";
import type { PatientDatabase } from "./patients/store.ts";

const everyMs = 10 * 60_000;

/** Clears away now and then. Every replica does; clearing twice changes nothing. */
export function startHousekeeping({ db, log, lifecycle }: { db: PatientDatabase; log: Logger; lifecycle: Lifecycle }): void {
  const timer = setInterval(() => {
    clearOutdated(db).catch((error: unknown) => log.warn({ err: error }, "outdated keys were not cleared away; trying again later"));
  }, everyMs);
  lifecycle.onClose("housekeeping", () => clearInterval(timer));
}
