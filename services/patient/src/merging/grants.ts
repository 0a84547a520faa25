/** Who may see a record after a merge, and after the merge is undone: principals, and whether each may write. */
import type { StoredGrant } from "../tables.ts";
import type { Merge } from "./records.ts";

export type Levels = Map<string, boolean>;

export const levelsOf = (grants: StoredGrant[]): Levels => new Map(grants.map(({ principal, can_write }) => [principal, can_write]));

/** The grants of both. The owner of the duplicate may go on writing. */
export function unitedGrants(survivor: Levels, duplicate: Levels): Levels {
  const levels = new Map(survivor);
  for (const [principal, canWrite] of duplicate) levels.set(principal, canWrite || levels.get(principal) === true);
  return levels;
}

/** What a record brings into a merge: its grants, and its owner as somebody who may write. */
export const withOwner = (grants: Levels, owner: string): Levels => new Map([...grants, [`user:${owner}`, true]]);

/** The grants without those that a merge has brought. What was changed since stays, and what other records bring. */
export function withoutMergedGrants({ before, after }: Merge<Levels>, now: Levels, others: Levels[]): Levels {
  const levels = new Map(now);
  for (const [principal, canWrite] of after) {
    if (before.get(principal) === canWrite || now.get(principal) !== canWrite) continue;
    const had = [before, ...others].map((each) => each.get(principal)).filter((level) => level !== undefined);
    if (had.length > 0) levels.set(principal, had.includes(true));
    else levels.delete(principal);
  }
  return levels;
}

/** The grants that a change adds or raises, and those that it takes away or lowers, as the audit trail names them. */
export function differencesOf(before: Levels, after: Levels): { added: string[]; addedReaders: string[]; removed: string[] } {
  const changed = [...after].filter(([principal, canWrite]) => before.get(principal) !== canWrite);
  const named = (canWrite: boolean) => changed.filter(([, level]) => level === canWrite).map(([principal]) => principal);
  return {
    added: named(true).sort(),
    addedReaders: named(false).sort(),
    removed: [...before.keys()].filter((principal) => !after.has(principal)).sort(),
  };
}
