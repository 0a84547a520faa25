/** Compares the numbers with those of the other services by the hour, and shows at `/metrics` how many differ. */
import { expectFindings, showFindings } from "@pm/kit/checks";
import type { Lifecycle } from "@pm/kit/lifecycle";
import type { Logger } from "@pm/kit/log";
import type { DatabaseSettings } from "@pm/kit/postgres/database";
import { runAsLeader } from "@pm/kit/postgres/leader";
import type { AnalyticsDatabase } from "../tables.ts";
import type { Consistency } from "./consistency.ts";

const everyMs = 3_600_000;
/** Not at the start, because other services may be starting too. */
const pollMs = 60_000;
/** After one that failed or met events on their way. */
const againMs = 600_000;

/** Compares in one of all replicas. While events are on their way, numbers differ rightly, and it tries again. */
export function startComparing(options: {
  consistency: Consistency;
  settings: DatabaseSettings;
  db: AnalyticsDatabase;
  log: Logger;
  lifecycle: Lifecycle;
}): void {
  const { consistency, db, ...rest } = options;
  let due = Date.now() + pollMs;
  expectFindings(everyMs);
  runAsLeader({
    ...rest,
    pool: db.pool,
    name: "analytics_comparison",
    pollMs,
    async step() {
      if (Date.now() < due) return "idle";
      // Also after one that fails or that meets events on their way: the other services count all they have for it.
      due = Date.now() + againMs;
      const { settled, drift, checks, lag } = await consistency.check();
      if (!settled) {
        options.log.warn({ lag }, "numbers were not compared with those of other services, because events are on their way; trying again");
        return "done";
      }
      const different = checks.filter(({ holds }) => !holds).map(({ name }) => name);
      if (drift > 0) options.log.error({ drift, different }, "numbers differ from those of other services");
      showFindings({ failed_consistency_check: drift }, everyMs);
      due = Date.now() + everyMs;
      return "done";
    },
  });
}
