/** Lines of imports whose patients may be registered already. */
import type { FieldError } from "@pm/kit/errors";
import type { Queries } from "@pm/kit/postgres/transaction";

/** How many patients may be the same person as that of a line. */
export type LineDuplicates = { line: number; possibleDuplicates: number };

/** A line whose patient may be registered already, and the id that the patient would get. */
export type LikeOthers = LineDuplicates & { id: string };

/** Looks for such lines among those of a step. */
export type FindDuplicates = {
  /** As of what is stored before them. */
  now(): Promise<LikeOthers[]>;
  /** For lines that are refused. It looks before the lock; under it, the result finds those stored meanwhile too. */
  beforeLock(): Promise<(tx: Queries) => Promise<LikeOthers[]>>;
};

/** A report has so many. */
const maxReported = 10_000;

/** What a refused line gets. */
export function refusedDuplicate({ possibleDuplicates: count }: LineDuplicates): FieldError {
  const who = count === 1 ? "a patient" : `${count} patients`;
  return { path: "", message: `may be the same person as ${who}; compare them, and import the line with duplicates=allow if it is not` };
}

const noteStatement = {
  name: "import_duplicates_note",
  text: `insert into import_duplicates (import_id, line, possible_duplicates)
    select $1, line, count from unnest($2::bigint[], $3::int[]) as noted(line, count) where (select count(*) from import_duplicates where import_id = $1) < ${maxReported}`,
};

export async function noteDuplicates(tx: Queries, importId: string, lines: LineDuplicates[]): Promise<void> {
  if (lines.length === 0) return;
  await tx.query(noteStatement, [importId, lines.map(({ line }) => line), lines.map(({ possibleDuplicates }) => possibleDuplicates)]);
}

const readStatement = {
  name: "import_duplicates_read",
  text: `select line::int, possible_duplicates as "possibleDuplicates" from import_duplicates where import_id = $1 and line > $2
    order by line limit 1000`,
};

/** The lines in order, a thousand at a time, until the report is full. */
export async function* readImportDuplicates(db: Queries, importId: string): AsyncGenerator<LineDuplicates> {
  for (let [last, reported] = [0, 0]; reported < maxReported; ) {
    const rows = await db.query<LineDuplicates>(readStatement, [importId, last]);
    yield* rows.slice(0, maxReported - reported);
    last = rows.at(-1)?.line ?? last;
    reported += rows.length;
    if (rows.length === 0) return;
  }
}
