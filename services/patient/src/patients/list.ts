/** Lists of patients: filtered, searched, ordered, page by page. */
import { memoize } from "@pm/kit/calendar";
import type { Cursors } from "@pm/kit/cursor";
import { type Page, type PageRequest, toPage } from "@pm/kit/http/paging";
import { type Call, viewerOf } from "../caller.ts";
import type { PatientDatabase } from "../database.ts";
import type { Patient } from "../tables.ts";
import { type Access, type Condition, createAccess } from "./access-store.ts";
import { readSince, toUntil } from "./changes.ts";
import { changedCondition, type Horizon, isOfServer, readCompleteUntil, readHorizon } from "./changes-store.ts";
import { fold } from "./folding.ts";
import {
  type Branch,
  both,
  countRows,
  estimatePatients,
  estimateRows,
  filterCondition,
  type ListedRow,
  type Position,
  readList,
  type Sort,
  type Filters as StoredFilters,
  sortFields,
} from "./list-store.ts";
import { readSearch, type Search, type SearchSettings, toWordQuery } from "./search.ts";
import { type Match, matchCondition, type Tier, tierCondition } from "./search-store.ts";
import { toPatient } from "./store.ts";
import { type Where, whereCondition } from "./where-store.ts";
import { createWordFrequencies, type WordFrequencies } from "./word-frequencies-store.ts";

export const sorts = sortFields.flatMap((field): Sort[] => [field, `-${field}`]);

export type Filters = Omit<StoredFilters, "city"> & {
  q?: string | undefined;
  city?: string | undefined;
  updatedAfter?: string | undefined;
  /** A search by fields. It says itself whether it is about deleted and merged records. */
  where?: Where | undefined;
};
/** Without `sort` the order is that of creation, and a search shows exact matches first. */
export type PageQuery = Filters &
  PageRequest & {
    sort?: Sort | undefined;
    /** Whether the total is counted. "none" leaves its estimate out too. */
    count?: "exact" | "none" | undefined;
  };
type Purpose = "listed" | "exported";

/** Totals are on the first page only; the estimate is exact if that page is the last too. */
export type PatientPage = Page<Patient> & {
  totalEstimate?: number;
  total?: number;
  until?: string;
  /** With `until`, on the first page: nothing from before it can be missing from this answer and those before it. */
  completeUntil?: Date;
};

/**
 * To look up a match and to sort it costs as much as to walk past so many patients: here 2.4 and 0.5 microseconds. Left
 * alone, Postgres walks past 60,000 patients rather than look up 1,200, or looks up 10,000 to show 50.
 */
const costOfMatch = 5;
/** Fewer matches are looked up in any case: if all of them came last, a walk would pass by everybody. */
const fewMatches = 2_000;
/** With more matches than this, a page is most likely full. */
const enoughMatches = 1_000;

export type Lists = ReturnType<typeof createLists>;

type Options = {
  db: PatientDatabase;
  cursors: Cursors;
  search: Omit<SearchSettings, "asBefore">;
  /** Whether all rows have the words of this version. */
  isRewritten: () => boolean;
};

export function createLists({ db, cursors, search, isRewritten }: Options) {
  const accessOf = createAccess(db);
  const frequencies = createWordFrequencies(db);

  async function planOf(call: Call, query: PageQuery, bound: unknown[], asBefore: boolean): Promise<Plan> {
    const { cursor, sort, city } = query;
    const { after, horizon: known } = cursor === undefined ? {} : toPosition(cursors.open(bound, cursor));
    const access = await accessOf(viewerOf(call.caller));
    const since = query.updatedAfter === undefined ? undefined : readSince(query.updatedAfter);
    const horizon = since && (known ?? (await readHorizon(db)));
    const place = city === undefined ? undefined : { key: fold(city), asBefore: asBefore ? city : undefined };
    const searched = query.where && (await whereCondition(db, query.where, !asBefore));
    const flat = filterCondition({ ...query, city: place });
    const filters = searched ? both(flat, searched.condition) : flat;
    return {
      access,
      after,
      horizon,
      sort: sort ?? "createdAt",
      asBefore,
      isSearchOnly: isSearchOnly(query),
      filter: since && horizon ? both(filters, changedCondition(since, horizon)) : filters,
      isByFields: searched !== undefined,
      isIndexed: searched
        ? searched.isIndexed
        : isIndexed(query, since !== undefined && horizon !== undefined && isOfServer(since, horizon)),
      ...matchesOf(query.q === undefined ? "everybody" : readSearch(query.q, { ...search, asBefore }), sort === undefined),
    };
  }

  /** The rows of a page and one more. Tiers share a statement, up to the first one that most likely fills the page. */
  async function read(call: Call, plan: Plan, branches: PlannedBranch[], limit: number, purpose: Purpose): Promise<ListedRow[]> {
    const { access, after, sort, asBefore, isRare } = plan;
    const kind = { purpose, access, after, sort, asBefore, isRare, isNamed: isNamed(plan), isForAnyWords: isForAnyWords(plan) };
    const request = { actorId: call.actorId, requestId: call.requestId, ...kind };
    const enough = branches.findIndex(({ expected }) => expected > enoughMatches) + 1 || branches.length;
    const rows: ListedRow[] = [];
    for (const group of [branches.slice(0, enough), branches.slice(enough)])
      if (group.length > 0 && rows.length <= limit)
        rows.push(...(await readList(db, { ...request, limit: limit - rows.length, branches: group })));
    return rows;
  }

  return {
    /** A page of a list. An export is pages too, and needs no total. */
    async page(call: Call, query: PageQuery, purpose: Purpose = "listed"): Promise<PatientPage> {
      const { limit, cursor, count, ...asked } = query;
      const asBefore = !isRewritten();
      // The order by name changes once, when the last row is rewritten.
      const bound = ["tiers of patients", call.actorId, asked, asBefore && asked.sort?.endsWith("name")];
      const isFirst = cursor === undefined && asked.updatedAfter !== undefined;
      // Read before the horizon is.
      const completeUntil = isFirst ? await readCompleteUntil(db) : undefined;
      const plan = await planOf(call, query, bound, asBefore);
      const expected = expectedRows(db, plan, frequencies);
      const rows = await read(call, plan, await branchesOf(plan, expected, limit), limit, purpose);
      const { items, ...next } = toPage(rows, limit, ({ tier, sort_key, id }) => cursors.seal(bound, [tier, sort_key, id, plan.horizon]));
      const more = rows.length > limit;
      const wantsTotal = cursor === undefined && purpose === "listed" && count !== "none";
      const total = wantsTotal && count === "exact" ? (more ? await countRows(db, everyMatch(plan)) : rows.length) : undefined;
      const estimate = wantsTotal && more ? Math.max(await expected.visible("beginning"), rows.length) : rows.length;
      return {
        items: items.map(toPatient),
        ...next,
        ...(wantsTotal && { totalEstimate: total ?? estimate }),
        ...(total !== undefined && { total }),
        ...(plan.horizon && { until: toUntil(plan.horizon) }),
        ...(completeUntil && { completeUntil }),
      };
    },
  };
}

/** What a cursor holds: where the page before ended, and where the whole answer ends. */
function toPosition([tier, key, id, horizon]: unknown[]): Pick<Plan, "after" | "horizon"> {
  return { after: { tier: Number(tier), key, id }, horizon: (horizon ?? undefined) as Horizon | undefined };
}

/** How a list is read: whose, from where on, filtered and searched by what. */
type Plan = {
  access: Access;
  after: Position | undefined;
  /** Where an answer to `updatedAfter` ends. */
  horizon: Horizon | undefined;
  sort: Sort;
  asBefore: boolean;
  /** Whether words alone decide who matches. */
  isSearchOnly: boolean;
  filter: Condition;
  /** Whether it is a search by fields. */
  isByFields: boolean;
  /** Whether an index finds the matches. Otherwise Postgres looks through all patients for them. */
  isIndexed: boolean;
  match: Match;
  /** The tiers of the search, one after the other. */
  tiers: Tier[];
  /** Whether so few match that Postgres is not asked how many. */
  isRare: boolean;
};

/** @param byRelevance whether whole words come before words that only begin as they were asked */
function matchesOf(search: Search | "everybody", byRelevance: boolean): Pick<Plan, "match" | "tiers" | "isRare"> {
  if (typeof search === "string" || "id" in search) return { match: search, tiers: ["beginning"], isRare: search !== "everybody" };
  const words = toWordQuery(search);
  const tiers: Tier[] = ["beginning"];
  // Of numbers people know the beginning or all, and no order helps.
  if (byRelevance && words && words.whole !== words.beginning && /\p{L}/u.test(words.whole)) tiers.unshift("whole");
  if (words?.parts.some(({ asked }) => asked !== null)) tiers.push("similar");
  return { match: { words, born: search.born }, tiers, isRare: isRare(search.required.flatMap((term) => term.words)) };
}

/** An e-mail address, a whole number, or two names: few patients have both. */
function isRare(words: string[]): boolean {
  return words.some((word) => word.includes("@") || /^\d{7,}$/.test(word)) || words.filter((word) => word.length >= 4).length >= 2;
}

const everyMatch = ({ filter, match, tiers, access }: Plan): Condition => both(both(filter, access.read), matchCondition(match, tiers));

/** How many patients there are, how many match a tier, and how many of those the caller may see. */
type Expected = { patients: () => Promise<number>; matches: (tier: Tier) => Promise<number>; visible: (tier: Tier) => Promise<number> };

/** A branch, and how many of its matches the caller may see; 0 if nobody asked. */
type PlannedBranch = Branch & { expected: number };

const isSearchOnly = ({ q, sort, deleted, where, limit, cursor, count, ...others }: PageQuery): boolean =>
  (where ? isEverybody(where) : !deleted) && Object.values(others).every((value) => value === undefined);

/** A search by fields that names none, as of somebody who reads all pages. */
const isEverybody = ({ conditions, states }: Where): boolean => conditions.length === 0 && states.join() === "living";

/**
 * The index of words has living patients only; the deleted ones are few and have an index of their own. Changes are
 * found by the numbers that this server gave.
 */
const isIndexed = ({ q, deleted }: PageQuery, isSinceNumber: boolean): boolean =>
  deleted === true || isSinceNumber || (q !== undefined && deleted === false);

/** Whether the statement is one of a few dozen, which get a name. */
const isNamed = ({ isSearchOnly, sort }: Plan): boolean => isSearchOnly && sort.endsWith("createdAt");

/**
 * Whether one plan serves any words (`HowFound`). With a day of birth, or for a caller who sees few patients, another
 * index may find fewer rows. Postgres must then see the words to choose.
 */
const isForAnyWords = (plan: Plan): boolean =>
  isNamed(plan) && !plan.access.seesFew && typeof plan.match === "object" && "words" in plan.match && !plan.match.born;

/** Each is asked once, when it is needed. Of words alone the sample says it, of everything else the planner. */
function expectedRows(db: PatientDatabase, { filter, match, access, isSearchOnly }: Plan, frequencies: WordFrequencies): Expected {
  const conditionOf = (tier: Tier) => both(filter, tierCondition(match, tier, { by: "index" }));
  const looked = isSearchOnly && typeof match === "object" && "words" in match && !match.born ? match.words?.looked : undefined;
  const { estimate } = access;
  let patients: Promise<number> | undefined;
  const matches = memoize(2, async (tier: Tier) => {
    const sampled = tier !== "similar" && looked ? await frequencies.countOf(looked[tier]) : undefined;
    return sampled ?? (await estimateRows(db, conditionOf(tier)));
  });
  return {
    patients() {
      patients ??= frequencies.patients().then((sampled) => sampled ?? estimatePatients(db));
      return patients;
    },
    matches,
    visible: estimate ? memoize(2, (tier) => estimateRows(db, both(conditionOf(tier), estimate))) : matches,
  };
}

/** The tiers that are still to be read, and how. */
async function branchesOf(plan: Plan, expected: Expected, limit: number): Promise<PlannedBranch[]> {
  const { filter, isByFields, isIndexed, match, tiers, sort, access, isRare, after, horizon } = plan;
  const isSorted = sort === "updatedAt" || sort === "-updatedAt";
  const isNarrow = match !== "everybody" || horizon !== undefined || (isByFields && isIndexed) || isSorted;
  // A caller who sees few patients has those looked up in any case. The many meanings of a misspelled word are
  // expensive to compare with patients that have none of them.
  const isOrder = isByFields || sort === "createdAt" || sort === "-createdAt";
  const mayWalk = isOrder && !isSorted && !access.seesFew && !isRare;
  const walks = async (tier: Tier) => !isNarrow || (mayWalk && tier !== "similar" && (await areMany(plan, expected, tier, limit)));
  const how = { by: "index", isForAnyWords: isForAnyWords(plan) } as const;
  const branches: PlannedBranch[] = [];
  // It decides which tiers share a statement.
  const isOne = tiers.length === 1;
  const expectedOf = async (tier: Tier) => (!isOne && mayWalk && tier !== "similar" ? await expected.visible(tier) : 0);
  for (let tier = after?.tier ?? 0; tier < tiers.length; tier++) {
    const [before, name = "beginning"] = [tiers[tier - 1], tiers[tier]];
    if (name === "whole" && !(await walks("beginning"))) {
      // Whole words begin as they were asked, so one look finds both tiers.
      const first = tierCondition(match, name, how);
      const condition = both(filter, tierCondition(match, "beginning", how));
      branches.push({ tier, first, collects: true, condition, expected: await expectedOf("beginning") });
      tier++;
    } else {
      const isWalked = await walks(name);
      const condition = both(filter, tierCondition(match, name, { ...how, before, by: isWalked ? "walk" : "index" }));
      branches.push({ tier, collects: !isWalked, condition, expected: await expectedOf(name) });
    }
  }
  return branches;
}

/**
 * Whether walking in the order of creation fills a page sooner than looking up all matches. Those that the caller may
 * see are spread evenly over time, so for each of them it passes by as many patients.
 */
async function areMany(plan: Plan, { patients, matches, visible }: Expected, tier: Tier, limit: number): Promise<boolean> {
  const all = await matches(tier);
  if (plan.isIndexed && all < fewMatches) return false;
  const lookUp = plan.isIndexed ? costOfMatch * all : await patients();
  const isSooner = async (seen: number) => (limit + 1) * (await patients()) < lookUp * seen;
  return (await isSooner(all)) && isSooner(await visible(tier));
}
