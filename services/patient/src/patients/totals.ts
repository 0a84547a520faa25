/** Numbers and ids for other services' consistency checks, without anything about a person. */
import type { Cursors } from "@pm/kit/cursor";
import { type PageRequest, toPage } from "@pm/kit/http/paging";
import type { PatientDatabase } from "../database.ts";
import { readIds, readTotals } from "./totals-store.ts";

export function createTotals(options: { db: PatientDatabase; cursors: Cursors; now: () => Date; clinicTimeZone: string }) {
  const { db, cursors, now, clinicTimeZone } = options;
  return {
    async totals() {
      const asOf = now().toISOString();
      return { ...(await readTotals(db)), timeZone: clinicTimeZone, asOf };
    },

    /**
     * Ids of all patients, deleted ones included, in the order of creation, and whose account is about to be opened.
     */
    async ids({ limit, cursor }: PageRequest) {
      const after = cursor === undefined ? undefined : String(cursors.open("ids", cursor)[0]);
      const rows = await readIds(db, after, limit + 1);
      const { items, ...next } = toPage(rows, limit, ({ id }) => cursors.seal("ids", [id]));
      return { ids: items.map(({ id }) => id), opening: items.filter(({ opening }) => opening).map(({ id }) => id), ...next };
    },
  };
}
