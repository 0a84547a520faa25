/** What is kept for a while only: idempotency keys for a day, what is known of imports for a week. */
import type { Lifetime } from "@pm/kit/lifetime";
import type { Logger } from "@pm/kit/log";
import { clearOutdated } from "./housekeeping-store.ts";
import type { PatientDatabase } from "./store.ts";

const everyMs = 10 * 60_000;

/** Clears away now and then. Every replica does; clearing twice changes nothing. */
export function startHousekeeping({ db, log, lifetime }: { db: PatientDatabase; log: Logger; lifetime: Lifetime }): void {
  const timer = setInterval(() => {
    clearOutdated(db).catch((error: unknown) => log.warn({ err: error }, "outdated keys were not cleared away; trying again later"));
  }, everyMs);
  lifetime.onClose("housekeeping", () => clearInterval(timer));
}
