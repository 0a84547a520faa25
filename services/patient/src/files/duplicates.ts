/** Looks for the patients whom lines of an import may be. */
import type { Duplicates, Look, Newcomer } from "../patients/registration.ts";
import type { LineDuplicates } from "./duplicates-store.ts";

/** Somebody whom a line creates. */
export type NewLine = Newcomer & { id: string; line: number };

/** Lines whose patients may be registered already, as of what is stored before them. */
export async function findDuplicates(
  newLines: NewLine[],
  duplicates: Duplicates,
  look: Look,
): Promise<(LineDuplicates & { id: string })[]> {
  const counts = newLines.length > 0 ? await duplicates.count(newLines, look) : [];
  return newLines.flatMap(({ id, line }, index) => (counts[index] ? [{ id, line, possibleDuplicates: counts[index] }] : []));
}
