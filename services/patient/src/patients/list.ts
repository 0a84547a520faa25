/** Lists of patients: filtered, ordered, page by page. Every page costs the same, because it begins where an index says. */
import type { Cursors } from "@pm/kit/cursor";
import { type RawBuilder, sql } from "kysely";
import { LRUCache } from "lru-cache";
import type { Patient } from "../tables.ts";
import { type Call, viewerOf } from "./patients.ts";
import { correctSpelling, readSearch, searchCondition } from "./search.ts";
import { type PatientDatabase, type PatientRow, patientColumns, toPatient, type Viewer } from "./store.ts";

export const sortFields = ["createdAt", "name", "dateOfBirth", "registeredDate"] as const;
type SortField = (typeof sortFields)[number];
export type Sort = `${"" | "-"}${SortField}`;
export const sorts: readonly Sort[] = sortFields.flatMap((field) => [field, `-${field}`] as const);

export type Filters = {
  q?: string | undefined;
  dateOfBirth?: string | undefined;
  city?: string | undefined;
  state?: string | undefined;
  registeredAfter?: string | undefined;
  registeredBefore?: string | undefined;
  deleted: boolean;
};

export type PageQuery = Filters & { limit: number; cursor?: string | undefined; sort: Sort };

/** `nextCursor` is missing on the last page; `totalEstimate` is on the first page only, and exact only where that page is the last too. */
export type Page = { items: Patient[]; nextCursor?: string; totalEstimate?: number };

/** What a list is ordered by before the id. Ids are of the moment of creation, so that order needs nothing before it. */
const sortKeys: Record<SortField, RawBuilder<string> | undefined> = {
  createdAt: undefined,
  name: sql`lower(p.name)`,
  dateOfBirth: sql`p.date_of_birth`,
  registeredDate: sql`p.registered_date`,
};

/**
 * The same for a search, written so that no index gives this order. Postgres would walk the index by name until enough
 * of its names match, as if all names were spread over the alphabet, and for "Zoe" read every other patient first.
 */
const searchedSortKeys: typeof sortKeys = {
  createdAt: undefined,
  name: sql`(lower(p.name) || '')`,
  dateOfBirth: sql`(p.date_of_birth + 0)`,
  registeredDate: sql`(p.registered_date + 0)`,
};

/**
 * From how many matches on a search in the order of creation walks through the patients until a page is full: the more there are,
 * the sooner it is, because matches are spread evenly over time. Fewer are all looked up and sorted. With a million patients both
 * take 8 ms here. Left alone, Postgres walks past 60,000 patients rather than look up 1,200, or looks up 10,000 to show 50.
 */
const manyMatches = 4_000;

/** How many patients a caller may see at most to have them looked up one by one. */
const fewVisible = 4_000;

/**
 * The access rule as conditions on `patients p` that mean the same: Postgres estimates the one well, and plans it badly. To be read
 * quickly, the few patients of a caller who sees few are looked up, whatever else is asked. For one who sees many, what else is asked
 * is looked up, and of each patient found whether it is visible.
 */
type Access = {
  read: RawBuilder<unknown>;
  /** Undefined for who sees all. */
  estimate: RawBuilder<unknown> | undefined;
  seesFew: boolean;
};

async function accessOf(db: PatientDatabase, viewer: Viewer, seesFew: LRUCache<string, boolean>): Promise<Access> {
  if (viewer.seesAll) return { read: sql`true`, estimate: undefined, seesFew: false };
  const visible = sql`select id from patients where registered_by = ${viewer.id}
    union all select patient_id from patient_access where principal = any(${viewer.principals})`;
  const key = viewer.principals.join(" ");
  let few = seesFew.get(key);
  if (few === undefined) {
    const { rows } = await sql<{ few: boolean }>`select count(*) <= ${fewVisible} as few
      from (select 1 from (${visible}) visible limit ${fewVisible + 1}) counted`.execute(db.kysely);
    few = rows[0]?.few ?? true;
    seesFew.set(key, few);
  }
  // All grants of a patient are on one page of the primary key, those of a principal are not: hence the `|| ''`. Without `offset 0`
  // Postgres might read all grants at once instead.
  const read = few
    ? sql`p.id = any(array(${visible}))`
    : sql`(p.registered_by = ${viewer.id} or exists (
        select 1 from patient_access where patient_id = p.id and (principal || '') = any(${viewer.principals}) offset 0))`;
  return { read, estimate: sql`p.id in (${visible})`, seesFew: few };
}

/** What of `patients p` a caller asked for; a search is a condition of its own. */
function conditionOf(filters: Filters): RawBuilder<unknown> {
  const conditions = [filters.deleted ? sql`p.deleted_at is not null` : sql`p.deleted_at is null`];
  if (filters.dateOfBirth !== undefined) conditions.push(sql`p.date_of_birth = ${filters.dateOfBirth}`);
  if (filters.city !== undefined) conditions.push(sql`lower(p.city) = lower(${filters.city})`);
  if (filters.state !== undefined) conditions.push(sql`lower(p.state) = lower(${filters.state})`);
  if (filters.registeredAfter !== undefined) conditions.push(sql`p.registered_date > ${filters.registeredAfter}`);
  if (filters.registeredBefore !== undefined) conditions.push(sql`p.registered_date < ${filters.registeredBefore}`);
  return sql.join(conditions, sql` and `);
}

export type Lists = ReturnType<typeof createLists>;

export function createLists({ db, cursors }: { db: PatientDatabase; cursors: Cursors }) {
  // Counted once a minute, because that takes longer than many a page. What is out of date finds the same patients, only more slowly.
  const seesFew = new LRUCache<string, boolean>({ max: 10_000, ttl: 60_000 });

  /** How many rows the planner expects: a fraction of a millisecond, where counting takes as long as there are rows. */
  async function estimate(condition: RawBuilder<unknown>): Promise<number> {
    type Plan = { "QUERY PLAN": [{ Plan: { "Plan Rows": number } }] };
    const { rows } = await sql<Plan>`explain (format json) select 1 from patients p where ${condition}`.execute(db.kysely);
    return Math.round(rows[0]?.["QUERY PLAN"][0].Plan["Plan Rows"] ?? 0);
  }

  type Expected = { matches: () => Promise<number>; visible: () => Promise<number> };

  /** How many patients match, and how many of them the caller may see, as the planner expects; asked once each, when it is wanted. */
  function expectedOf(condition: RawBuilder<unknown>, access: Access): Expected {
    let matches: Promise<number> | undefined;
    let visible: Promise<number> | undefined;
    const all = () => (matches ??= estimate(condition));
    return { matches: all, visible: () => (visible ??= access.estimate ? estimate(sql`${condition} and ${access.estimate}`) : all()) };
  }

  /** Whether the first matches that a caller may see come sooner than all matches are looked up; the fewer of them are visible, the later. */
  async function areMany({ matches, visible }: Expected): Promise<boolean> {
    return (await matches()) > manyMatches && (await matches()) * (await visible()) > manyMatches ** 2;
  }

  type Row = PatientRow & { sort_key: string | null };
  type Asked = {
    call: Call;
    limit: number;
    condition: RawBuilder<unknown>;
    access: Access;
    after: unknown[] | undefined;
    sort: Sort;
    /** Whether all that matches is looked up, and then sorted. */
    gathers: boolean;
    purpose: "listed" | "exported";
  };

  /**
   * Rows of a page and one more, and the entry in the audit trail that says who was shown whom. Accounts are looked up for the
   * page only: a search may find thousands, of which the order by name picks the first ones. So are, for who sees many, the rows,
   * and whether they are visible: from the first match on, until the page is full.
   */
  async function read({ call, limit, condition, access, after, sort, gathers, purpose }: Asked): Promise<Row[]> {
    const key = (gathers ? searchedSortKeys : sortKeys)[sort.replace("-", "") as SortField];
    const [direction, beyond] = sort.startsWith("-") ? [sql`desc`, sql`<`] : [sql`asc`, sql`>`];
    // As a text an id has the same order, but no index has it.
    const order = key ? sql`${key} ${direction}, p.id ${direction}` : gathers ? sql`p.id::text ${direction}` : sql`p.id ${direction}`;
    const [position, id] = after ?? [];
    const from = !after ? sql`` : key ? sql`and (${key}, p.id) ${beyond} (${position}, ${id})` : sql`and p.id ${beyond} ${id}`;
    const columns = sql.raw(patientColumns);
    const page =
      gathers && !access.seesFew
        ? sql`matches as materialized (
          select p.id, p.registered_by, ${key ?? sql`null`} as sort_key from patients p where ${condition} ${from} order by ${order}
        ), page as materialized (
          select p.*, first.sort_key from (select p.id, p.sort_key from matches p where ${access.read} limit ${limit + 1}) first
          cross join lateral (select ${columns} from patients p where p.id = first.id offset 0) p
        )`
        : sql`page as materialized (
          select ${columns}, ${key ?? sql`null`} as sort_key from patients p where ${condition} and ${access.read} ${from}
          order by ${order} limit ${limit + 1}
        )`;
    const { rows } = await sql<Row>`
      with ${page}, audited as (
        insert into audit_entries (actor, action, subject, request_id, details)
        select ${call.caller.id}, ${`patient.${purpose}`}, 'patients', ${call.requestId},
          jsonb_build_object('ids', coalesce((select jsonb_agg(id) from (select id from page limit ${limit}) shown), '[]'))
      )
      select page.*, (select account_id from patient_billing where patient_id = page.id) as account_id from page`.execute(db.kysely);
    return rows;
  }

  return {
    /** A page of a list. An export is pages too, and needs no total. */
    async page(call: Call, query: PageQuery, purpose: "listed" | "exported" = "listed"): Promise<Page> {
      const { limit, cursor, sort, ...filters } = query;
      const bound = ["patients", call.caller.id, sort, filters];
      const [tsquery, ...after] = cursor === undefined ? [] : cursors.open(bound, cursor);
      const access = await accessOf(db, viewerOf(call.caller), seesFew);
      const others = conditionOf(filters);
      const isByCreation = sort === "createdAt" || sort === "-createdAt";
      const search = filters.q === undefined ? undefined : readSearch(filters.q);
      let corrected = typeof tsquery === "string" ? tsquery : undefined;
      const readMatches = async () => {
        const words = searchCondition(corrected ?? search);
        const condition = filters.q === undefined ? others : sql`${others} and ${words}`;
        const expected = expectedOf(condition, access);
        // The few patients of who sees few are looked up anyway. The many meanings of a misspelled word are dear to compare with
        // patients that have none of them.
        const mayWalk = isByCreation && !access.seesFew && corrected === undefined;
        const walks = filters.q === undefined || (mayWalk && (await areMany(expected)));
        // Not as an operator by itself, which the index of words could answer.
        const matches = walks && filters.q !== undefined ? sql`${others} and (${words}) is true` : condition;
        const position = cursor === undefined ? undefined : after;
        const asked = { call, limit, sort, purpose, after: position, gathers: !walks, condition: matches, access };
        return { expected, rows: await read(asked) };
      };
      let { rows, expected } = await readMatches();
      if (rows.length === 0 && cursor === undefined) {
        // Misspellings are looked for only where nothing is spelled as asked: what is right comes without what is similar.
        corrected = await correctSpelling(db, search);
        if (corrected !== undefined) ({ rows, expected } = await readMatches());
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
