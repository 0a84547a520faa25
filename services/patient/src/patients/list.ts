/** Lists of patients: filtered, searched, ordered, page by page. */
import type { Cursors } from "@pm/kit/cursor";
import { type Call, viewerOf } from "../caller.ts";
import type { PatientDatabase } from "../database.ts";
import type { Patient } from "../tables.ts";
import { type Access, type Condition, createAccess } from "./access-store.ts";
import {
  both,
  estimateRows,
  filterCondition,
  type ListedRow,
  type Match,
  matchCondition,
  readList,
  type Sort,
  type Filters as StoredFilters,
  sortFields,
} from "./list-store.ts";
import { correctSpelling, matchOf, readSearch } from "./search.ts";
import { toPatient } from "./store.ts";

export const sorts = sortFields.flatMap((field): Sort[] => [field, `-${field}`]);

export type Filters = StoredFilters & { q?: string | undefined };
export type PageQuery = Filters & { limit: number; cursor?: string | undefined; sort: Sort };
type Purpose = "listed" | "exported";

/** `nextCursor` is missing on the last page. `totalEstimate` is on the first page only, and exact only if that page is the last too. */
export type Page = { items: Patient[]; nextCursor?: string; totalEstimate?: number };

/**
 * With more matches than this, a search in the order of creation walks through the patients until a page is full: matches are
 * spread evenly over time, so the more there are, the sooner it is full. Fewer matches are all looked up and sorted. With a million
 * patients both take 8 ms here. Left alone, Postgres walks past 60,000 patients rather than look up 1,200, or looks up 10,000 to show 50.
 */
const manyMatches = 4_000;

export type Lists = ReturnType<typeof createLists>;

export function createLists({ db, cursors }: { db: PatientDatabase; cursors: Cursors }) {
  const accessOf = createAccess(db);

  type Found = { rows: ListedRow[]; expected: Expected };

  async function find(call: Call, access: Access, query: Omit<PageQuery, "cursor">, where: Where, purpose: Purpose): Promise<Found> {
    const { limit, sort } = query;
    const filters = filterCondition(query);
    const condition = where.match ? both(filters, matchCondition(where.match, { usesIndex: true })) : filters;
    const expected = expectedRows(db, condition, access);
    // A caller who sees few patients has those looked up in any case. The many meanings of a misspelled word are expensive to
    // compare with patients that have none of them.
    const isByCreation = sort === "createdAt" || sort === "-createdAt";
    const mayWalk = isByCreation && !access.seesFew && !where.isCorrected;
    const walks = !where.match || (mayWalk && (await areMany(expected)));
    const walked = walks && where.match ? both(filters, matchCondition(where.match, { usesIndex: false })) : condition;
    const who = { actorId: call.actorId, requestId: call.requestId };
    const rows = await readList(db, { ...who, limit, sort, purpose, access, after: where.after, collects: !walks, condition: walked });
    return { rows, expected };
  }

  return {
    /** A page of a list. An export is pages too, and needs no total. */
    async page(call: Call, query: PageQuery, purpose: Purpose = "listed"): Promise<Page> {
      const { limit, cursor, sort, ...filters } = query;
      const bound = ["patients", call.actorId, sort, filters];
      const [tsquery, ...after] = cursor === undefined ? [] : cursors.open(bound, cursor);
      const access = await accessOf(viewerOf(call.caller));
      const search = filters.q === undefined ? undefined : readSearch(filters.q);
      let corrected = typeof tsquery === "string" ? tsquery : undefined;
      const where = (): Where => ({
        match: filters.q === undefined ? undefined : corrected === undefined ? matchOf(search) : { tsquery: corrected },
        isCorrected: corrected !== undefined,
        after: cursor === undefined ? undefined : after,
      });
      let { rows, expected } = await find(call, access, query, where(), purpose);
      if (rows.length === 0 && cursor === undefined) {
        // Similar words are looked for only if nothing is spelled as asked, so that exact matches are not mixed with them.
        corrected = await correctSpelling(db, search);
        if (corrected !== undefined) ({ rows, expected } = await find(call, access, query, where(), purpose));
      }
      const page = rows.slice(0, limit);
      const last = page.at(-1);
      const more = rows.length > limit;
      const wantsTotal = cursor === undefined && purpose === "listed";
      const total = more && wantsTotal ? Math.max(await expected.visible(), rows.length) : rows.length;
      return {
        items: page.map(toPatient),
        ...(more && last && { nextCursor: cursors.seal(bound, [corrected ?? null, last.sort_key, last.id]) }),
        ...(wantsTotal && { totalEstimate: total }),
      };
    },
  };
}

type Where = { match: Match | undefined; isCorrected: boolean; after: unknown[] | undefined };

type Expected = { matches: () => Promise<number>; visible: () => Promise<number> };

/** How many patients match, and how many of them the caller may see, as the planner expects. Each is asked once, when it is needed. */
function expectedRows(db: PatientDatabase, condition: Condition, access: Access): Expected {
  let matches: Promise<number> | undefined;
  let visible: Promise<number> | undefined;
  const all = () => (matches ??= estimateRows(db, condition));
  return { matches: all, visible: () => (visible ??= access.estimate ? estimateRows(db, both(condition, access.estimate)) : all()) };
}

/** Whether walking meets a page of visible matches sooner than all matches are looked up. The fewer are visible, the later it does. */
async function areMany({ matches, visible }: Expected): Promise<boolean> {
  return (await matches()) > manyMatches && (await matches()) * (await visible()) > manyMatches ** 2;
}
