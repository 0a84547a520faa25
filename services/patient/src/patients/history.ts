/** Every version of a patient: who, when, and what differs from the one before. */
import type { Cursors } from "@pm/kit/cursor";
import { AppError } from "@pm/kit/errors";
import { type PageRequest, toPage } from "@pm/kit/http/paging";
import { isUuid } from "@pm/kit/uuid";
import type { Call } from "../caller.ts";
import type { PatientDatabase } from "../database.ts";
import type { Action, PatientRecord } from "../tables.ts";
import { findFor } from "./access.ts";
import { isRestricted, readVersion, readVersions } from "./history-store.ts";
import { diffRecords, type FieldChange } from "./record.ts";
import type { Found } from "./store.ts";

export type HistoryItem = { version: number; action: Action; at: Date; by: string; changes: FieldChange[] };

/** A version with its content. */
export type PastVersion = {
  id: string;
  version: number;
  action: Action;
  at: Date;
  by: string;
  record: PatientRecord;
  createdAt: Date;
  mergedInto?: string | undefined;
  replaces?: string[] | undefined;
};

/** The largest number of a version that a caller can write, and JSON can. */
const versionForm = /^[1-9]\d{0,15}$/;

export function createHistory({ db, cursors }: { db: PatientDatabase; cursors: Cursors }) {
  /**
   * Finds a patient whose history the caller may read: also a deleted one, and for administrators one who is
   * restricted, which is undefined.
   */
  const find = (call: Call, id: string): Promise<Found | undefined> =>
    findFor(db, call, id, "read").catch(async (error: unknown) => {
      if (!call.caller.scopes.has("patient:erase") || !isUuid(id) || !(await isRestricted(db, id))) throw error;
      return undefined;
    });

  return {
    /** The newest versions first. */
    async read(call: Call, id: string, { limit, cursor, before: below }: PageRequest & { before?: number | undefined }) {
      await find(call, id);
      const bound = ["history", id.toLowerCase()];
      const before = cursor === undefined ? below : Number(cursors.open(bound, cursor)[0]);
      const who = { actor: call.actorId, requestId: call.requestId };
      // One version more than asked for, to compare the last one with.
      const versions = await readVersions(db, { ...who, id, before, limit: limit + 1 });
      const compared = versions.map(({ record, ...version }, index): HistoryItem => {
        return { ...version, changes: diffRecords(versions[index + 1]?.record ?? {}, record) };
      });
      return toPage(compared, limit, ({ version }) => cursors.seal(bound, [version]));
    },

    /** @throws AppError not_found without such a version, gone if it has no content */
    async version(call: Call, id: string, version: string): Promise<PastVersion> {
      const current = await find(call, id);
      const who = { actor: call.actorId, requestId: call.requestId };
      const found = versionForm.test(version) ? await readVersion(db, { ...who, id, version: Number(version) }) : undefined;
      if (!found) throw new AppError("not_found", "This patient has no such version.");
      if (isEmpty(found)) throw gone(found);
      if (current?.version !== found.version) return found;
      // The row of today also has a record number that the platform gave after the version was written.
      return { ...found, record: current.record, mergedInto: current.mergedInto, replaces: current.replaces };
    },
  };
}

/** A version by which a patient was deleted has the record that it was deleted with: that of the version before. */
const isEmpty = ({ action, record }: PastVersion): boolean => action === "deleted" || Object.keys(record).length === 0;

function gone({ version, action, at }: PastVersion): AppError {
  const metadata = { version: String(version), at: at.toISOString() };
  if (action !== "deleted") return new AppError("gone", "The content of this version was erased.", { reason: "ERASED", metadata });
  const message = `By this version the patient was deleted. Version ${version - 1} has the record that they had.`;
  return new AppError("gone", message, { reason: "DELETED", metadata });
}
