/** Every version of a patient: who, when, and what differs from the one before. */
import type { Cursors } from "@pm/kit/cursor";
import { isUuid } from "@pm/kit/uuid";
import type { Call } from "../caller.ts";
import type { PatientDatabase } from "../database.ts";
import type { Action } from "../tables.ts";
import { findFor } from "./access.ts";
import { isRestricted, readVersions } from "./history-store.ts";
import { diffRecords, type FieldChange } from "./record.ts";

export type HistoryItem = { version: number; action: Action; at: Date; by: string; changes: FieldChange[] };

export function createHistory({ db, cursors }: { db: PatientDatabase; cursors: Cursors }) {
  return {
    /**
     * The newest versions first. A deleted patient's history stays readable for whoever could see the patient, that of one
     * who is restricted for administrators.
     */
    async read(call: Call, id: string, query: { limit: number; cursor?: string | undefined }) {
      await findFor(db, call, id, "read").catch(async (error: unknown) => {
        if (!call.caller.scopes.has("patient:erase") || !isUuid(id) || !(await isRestricted(db, id))) throw error;
      });
      const bound = ["history", id.toLowerCase()];
      const before = query.cursor === undefined ? undefined : Number(cursors.open(bound, query.cursor)[0]);
      const who = { actor: call.actorId, requestId: call.requestId };
      // One version more than asked for, to compare the last one with.
      const versions = await readVersions(db, { ...who, id, before, limit: query.limit + 1 });
      const items = versions.slice(0, query.limit).map(({ record, ...version }, index): HistoryItem => {
        return { ...version, changes: diffRecords(versions[index + 1]?.record ?? {}, record) };
      });
      const last = items.at(-1);
      return { items, ...(versions.length > query.limit && last && { nextCursor: cursors.seal(bound, [last.version]) }) };
    },
  };
}
