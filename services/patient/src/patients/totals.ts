/** Numbers and ids for other services' consistency checks, without anything about a person. */
import type { Cursors } from "@pm/kit/cursor";
import type { PatientDatabase } from "../database.ts";
import { readIds, readTotals } from "./totals-store.ts";

export function createTotals(options: { db: PatientDatabase; cursors: Cursors; now: () => Date; clinicTimeZone: string }) {
  const { db, cursors, now, clinicTimeZone } = options;
  return {
    async totals() {
      const asOf = now().toISOString();
      return { ...(await readTotals(db)), timeZone: clinicTimeZone, asOf };
    },

    /** Ids of all patients, deleted ones included, in the order of creation, and whose account is about to be opened. */
    async ids({ limit, cursor }: { limit: number; cursor?: string | undefined }) {
      const after = cursor === undefined ? undefined : String(cursors.open("ids", cursor)[0]);
      const rows = await readIds(db, after, limit + 1);
      const page = rows.slice(0, limit);
      const ids = page.map((row) => row.id);
      const opening = page.filter((row) => row.opening).map((row) => row.id);
      return { ids, opening, ...(rows.length > limit && { nextCursor: cursors.seal("ids", [ids.at(-1)]) }) };
    },
  };
}
