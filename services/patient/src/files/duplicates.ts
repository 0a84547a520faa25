/** Looks for the patients whom lines of an import may be. */
import type { Duplicates, Newcomer } from "../patients/registration.ts";
import type { DuplicateMode } from "../tables.ts";
import type { FindDuplicates, LikeOthers } from "./duplicates-store.ts";

/** Somebody whom a line creates. */
export type NewLine = Newcomer & { id: string; line: number };

export function findDuplicates(newLines: NewLine[], duplicates: Duplicates, mode: DuplicateMode): FindDuplicates {
  return {
    async now() {
      const look = mode === "refuse" ? "everywhere" : "closely";
      return newLines.length > 0 ? counted(newLines, await duplicates.count(newLines, look)) : [];
    },
    async beforeLock() {
      const found = await duplicates.search(newLines);
      return async (tx) => counted(newLines, await found.counts(tx));
    },
  };
}

function counted(newLines: NewLine[], counts: number[]): LikeOthers[] {
  return newLines.flatMap(({ id, line }, index) => (counts[index] ? [{ id, line, possibleDuplicates: counts[index] }] : []));
}
