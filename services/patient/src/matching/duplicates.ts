/** The work list of duplicates: pairs of records that may be one person, and what people decide about them. */
import type { Cursors } from "@pm/kit/cursor";
import { AppError } from "@pm/kit/errors";
import { type Page, type PageRequest, toPage } from "@pm/kit/http/paging";
import { isUuid } from "@pm/kit/uuid";
import { type Call, viewerOf } from "../caller.ts";
import type { PatientDatabase } from "../database.ts";
import { findFor } from "../patients/access.ts";
import { createAccess } from "../patients/access-store.ts";
import type { PairState } from "../tables.ts";
import { dismissPair, findPair, listPairs, type Pair } from "./pairs-store.ts";

export type DuplicatesQuery = PageRequest & { state: PairState };

export type WorkList = ReturnType<typeof createWorkList>;

export function createWorkList({ db, cursors }: { db: PatientDatabase; cursors: Cursors }) {
  const accessOf = createAccess(db);
  return {
    /** A page of the pairs of which the caller may see both records, the best first. */
    async page(call: Call, { state, limit, cursor }: DuplicatesQuery): Promise<Page<Pair>> {
      const bound = ["duplicates", call.actorId, state];
      const [score, id] = cursor === undefined ? [] : cursors.open(bound, cursor);
      const after = cursor === undefined ? undefined : { score: Number(score), id: String(id) };
      const pairs = await listPairs(db, call, { state, limit, after, access: await accessOf(viewerOf(call.caller)) });
      return toPage(pairs, limit, (last) => cursors.seal(bound, [last.score, last.id]));
    },

    /**
     * Notes for ever that a pair is of two people.
     * @throws AppError not_found if the caller may not see both, permission_denied if they may not change both
     */
    async dismiss(call: Call, id: string): Promise<{ id: string; state: PairState }> {
      const pair = isUuid(id) ? await findPair(db, id) : undefined;
      if (!pair) throw noPair(id);
      for (const patientId of [pair.firstId, pair.secondId])
        await findFor(db, call, patientId, "write").catch((error: unknown) => {
          throw error instanceof AppError && error.code === "not_found" ? noPair(id) : error;
        });
      const isDismissed = await dismissPair(db, id, call);
      const { state } = isDismissed ? { state: "not_the_same" as const } : ((await findPair(db, id)) ?? pair);
      if (state === "merged")
        throw new AppError("failed_precondition", "These records are merged. Unmerge them if they are of two people.");
      return { id, state };
    },
  };
}

/** The same for pairs that do not exist and for those that the caller may not see. */
function noPair(id: string): AppError {
  return new AppError("not_found", "There is no pair with this id.", isUuid(id) ? { refused: { subject: id } } : {});
}
