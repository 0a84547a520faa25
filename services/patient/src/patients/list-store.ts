/** The statements behind lists. Every page costs the same, because it begins where an index says. */
import { hash } from "node:crypto";
import { insertIntoAudit, insertPatientsOf, returningEntry } from "@pm/kit/audit/audit";
import { inTransaction } from "@pm/kit/postgres/transaction";
import { type RawBuilder, sql } from "kysely";
import type { PatientDatabase } from "../database.ts";
import type { IdentifierKey } from "../tables.ts";
import type { Access, Condition } from "./access-store.ts";
import { accountColumn, type PatientRow, patientColumns, replacesColumn } from "./store.ts";

export const sortFields = ["createdAt", "name", "dateOfBirth", "registeredDate", "updatedAt"] as const;
type SortField = (typeof sortFields)[number];
export type Sort = `${"" | "-"}${SortField}`;

/** What a caller asks for, apart from the search. */
export type Filters = {
  dateOfBirth?: string | undefined;
  /** As it is compared, and as lower case letters: some rows may have only these. */
  city?: { key: string; asBefore: string | undefined } | undefined;
  state?: string | undefined;
  identifier?: IdentifierKey | undefined;
  registeredAfter?: string | undefined;
  registeredBefore?: string | undefined;
  /** The first and the last day. */
  bornBetween?: readonly [string, string] | undefined;
  /** Set if only changes are listed. Then those who are erased are listed as deleted, without anything about them. */
  updatedAfter?: string | undefined;
  /** Whether those are listed that are deleted, that are not, or both. */
  deleted: boolean | "include";
};

/** A patient of a page, and what the page is ordered by before the id. */
export type ListedRow = PatientRow & { tier: number; sort_key: string | null };

type SortKeys = Record<SortField, RawBuilder<string> | undefined>;

/**
 * A list is ordered by these before the id. Ids are of the moment of creation, so that order needs nothing before it.
 */
const sortKeys: SortKeys = {
  createdAt: undefined,
  // A row that the version before has just written has only its name.
  name: sql`(coalesce(p.sort_name, p.name) collate "und-x-icu")`,
  dateOfBirth: sql`p.date_of_birth`,
  registeredDate: sql`p.registered_date`,
  // No index has it, since every change would write that index: all matches are sorted. A cursor has milliseconds.
  updatedAt: sql`date_trunc('milliseconds', p.updated_at)`,
};

/**
 * The same for a search, written so that no index gives this order. Otherwise Postgres walks the index by name until
 * enough names match, as if all names were spread over the alphabet, and for "Zoe" reads every other patient first.
 */
const searchedSortKeys: SortKeys = {
  createdAt: undefined,
  name: sql`((coalesce(p.sort_name, p.name) || '') collate "und-x-icu")`,
  dateOfBirth: sql`(p.date_of_birth + 0)`,
  registeredDate: sql`(p.registered_date + 0)`,
  updatedAt: sortKeys.updatedAt,
};

/** The order by name until all rows have a name to sort by. */
const nameAsBefore = sql<string>`lower(p.name)`;

function sortKeyOf(sort: Sort, collects: boolean, asBefore: boolean): RawBuilder<string> | undefined {
  const field = sort.replace("-", "") as SortField;
  if (field === "name" && asBefore) return collects ? sql`(${nameAsBefore} || '')` : nameAsBefore;
  return (collects ? searchedSortKeys : sortKeys)[field];
}

/** Deleted, and not merged. */
const gone = sql`p.deleted_at is not null and p.merged_into is null`;

export function filterCondition(filters: Filters): Condition {
  const conditions = [sql`true`];
  if (filters.deleted !== "include") conditions.push(filters.deleted ? gone : sql`p.deleted_at is null`);
  if (filters.deleted && filters.updatedAfter === undefined) conditions.push(sql`p.erased_at is null`);
  if (filters.dateOfBirth !== undefined) conditions.push(sql`p.date_of_birth = ${filters.dateOfBirth}`);
  if (filters.bornBetween) conditions.push(sql`p.date_of_birth between ${filters.bornBetween[0]} and ${filters.bornBetween[1]}`);
  if (filters.city) conditions.push(cityCondition(filters.city));
  if (filters.state !== undefined) conditions.push(sql`lower(p.state) = lower(${filters.state})`);
  if (filters.identifier !== undefined) conditions.push(identifierCondition(filters.identifier, filters.deleted));
  if (filters.registeredAfter !== undefined) conditions.push(sql`p.registered_date > ${filters.registeredAfter}`);
  if (filters.registeredBefore !== undefined) conditions.push(sql`p.registered_date < ${filters.registeredBefore}`);
  return sql.join(conditions, sql` and `);
}

function cityCondition({ key, asBefore }: NonNullable<Filters["city"]>): Condition {
  if (asBefore === undefined) return sql`p.city_key = ${key}`;
  return sql`(p.city_key = ${key} or (p.words_version is null and lower(p.city) = lower(${asBefore})))`;
}

/** Keys are of living patients only. The deleted ones are few enough to be looked through. */
function identifierCondition({ system, value }: IdentifierKey, deleted: Filters["deleted"]): Condition {
  const living = sql`p.id = (select patient_id from patient_identifiers where system = ${system} and value = ${value})`;
  const gone = sql`(p.deleted_at is not null and p.details->'identifiers' @> ${JSON.stringify([{ system, value }])}::jsonb)`;
  return deleted === "include" ? sql`(${living} or ${gone})` : deleted ? gone : living;
}

export const both = (one: Condition, other: Condition): Condition => sql`${one} and ${other}`;

/** How many rows the planner expects. That takes less than a millisecond, while counting reads all rows. */
export async function estimateRows(db: PatientDatabase, condition: Condition): Promise<number> {
  type Plan = { "QUERY PLAN": [{ Plan: { "Plan Rows": number } }] };
  const { rows } = await sql<Plan>`explain (format json) select 1 from patients p where ${condition}`.execute(db.kysely);
  return Math.round(rows[0]?.["QUERY PLAN"][0].Plan["Plan Rows"] ?? 0);
}

export const estimatePatients = (db: PatientDatabase): Promise<number> => estimateRows(db, sql`true`);

/** Counting must not hold a connection for long. */
const countMs = 2_000;

/** How many there are that a caller may see. Undefined if counting takes longer than two seconds. */
export async function countRows(db: PatientDatabase, condition: Condition): Promise<number | undefined> {
  try {
    return await inTransaction(db, async ({ kysely }) => {
      await sql`select set_config('statement_timeout', ${String(countMs)}, true)`.execute(kysely);
      const { rows } = await sql<{ total: number }>`select count(*)::int as total from patients p where ${condition}`.execute(kysely);
      return rows[0]?.total;
    });
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "57014") return undefined;
    throw error;
  }
}

/** Where a page ends: in which tier of a search, and the sort key and the id of its last row. */
export type Position = { tier: number; key: unknown; id: unknown };

/** Matches that come after those of the tier before. */
export type Branch = {
  tier: number;
  condition: Condition;
  /** Those that fulfil this come first; the others are the next tier. */
  first?: Condition;
  /** Whether all matches are looked up and then sorted, instead of being met on the way along an index. */
  collects: boolean;
};

export type ListRequest = {
  actorId: string;
  requestId: string;
  purpose: "listed" | "exported";
  limit: number;
  /** The next one is only read if those before it do not fill the page. */
  branches: Branch[];
  access: Access;
  after: Position | undefined;
  sort: Sort;
  /** Whether some rows are as the version before wrote them. */
  asBefore: boolean;
  /**
   * Whether the statement gets a name, so that Postgres parses it once per connection. Only for requests with a few
   * dozen different texts, because each stays on each connection. So no value that callers choose stands in the text.
   */
  isNamed: boolean;
  /** Whether the conditions hide their words from the planner (`HowFound`). */
  isForAnyWords: boolean;
  /** Whether two names, a number or an address are searched: few match, and a page shows most of them. */
  isRare: boolean;
};

/** Reads the rows of a page and one more, and writes into the audit trail who was shown whom. */
export async function readList(db: PatientDatabase, request: ListRequest): Promise<ListedRow[]> {
  const { actorId, requestId, purpose, limit, branches, isNamed, isForAnyWords } = request;
  const [only] = branches;
  // Postgres keeps a plan only if the limit is hidden as well.
  const most = isForAnyWords ? sql`(select ${limit + 1}::int)` : sql`${limit + 1}`;
  const matches =
    branches.length === 1 && only
      ? branchOf(request, only, most)
      : sql`select * from (${sql.join(
          branches.map((branch) => sql`(${branchOf(request, branch, most)})`),
          sql` union all `,
        )}) tiers limit ${most}`;
  // Accounts and merged records are looked up for the page only: a search may find thousands, of which the order by
  // name picks the first ones, and Postgres would plan the look-up for each tier.
  const statement = sql<ListedRow>`
    with page as materialized (${matches}), shown_ids as materialized (select id from page limit ${limit}), audited as (
      ${sql.raw(insertIntoAudit)}
      select ${actorId}, ${`patient.${purpose}`}, 'patients', ${requestId},
        jsonb_build_object('ids', coalesce((select jsonb_agg(id) from shown_ids), '[]'))
      ${sql.raw(returningEntry)}
    ), shown as (
      ${sql.raw(insertPatientsOf("audited", "select id from shown_ids"))}
    )
    select p.*, ${sql.raw(accountColumn)}, ${sql.raw(replacesColumn)} from page p`;
  if (!isNamed) return (await statement.execute(db.kysely)).rows;
  // Postgres reads and analyses its text once per connection. It decides itself whether it keeps a plan too: for
  // searches for any words it does.
  const { sql: text, parameters } = statement.compile(db.kysely);
  return db.query({ name: `patients_list_${hash("md5", text)}`, text }, [...parameters]);
}

/** @param most how many rows it gives */
function branchOf({ access, after, sort, asBefore, isRare }: ListRequest, branch: Branch, most: RawBuilder<unknown>): RawBuilder<unknown> {
  const { condition, collects } = branch;
  const key = sortKeyOf(sort, collects, asBefore);
  const [direction, beyond] = sort.startsWith("-") ? [sql`desc`, sql`<`] : [sql`asc`, sql`>`];
  // `greatest(id, id)` is the id, but no index has this expression, so Postgres does not walk along the primary key.
  // `id::text` would do the same and takes longer.
  const id = collects ? sql`greatest(p.id, p.id)` : sql`p.id`;
  const keys = key ? sql`${key} ${direction}, p.id ${direction}` : sql`${id} ${direction}`;
  const [own, next] = [sql.lit(branch.tier), sql.lit(branch.tier + 1)];
  const tier = branch.first ? sql`(case when ${branch.first} then ${own} else ${next} end)` : own;
  const order = branch.first ? sql`${tier}, ${keys}` : keys;
  const later = after && (key ? sql`(${key}, p.id) ${beyond} (${after.key}, ${after.id})` : sql`p.id ${beyond} ${after.id}`);
  const isIn = after && after.tier >= branch.tier && after.tier <= branch.tier + (branch.first ? 1 : 0);
  const from = !isIn
    ? sql``
    : branch.first
      ? sql`and (${tier} > ${after.tier} or (${tier} = ${after.tier} and ${later}))`
      : sql`and ${later}`;
  const place = sql`${tier} as tier, ${key ?? sql`null::text`} as sort_key`;
  const page = (columns: string) =>
    sql`select ${sql.raw(columns)}, ${place} from patients p where ${condition} and ${access.read} ${from} order by ${order} limit ${most}`;
  const isCheckedLater = access.estimate && !access.seesFew;
  if (!collects || (isRare && !isCheckedLater)) return page(patientColumns);
  // Only what the order needs is sorted: Postgres copies each row that it sorts, and most are not shown. If the caller
  // sees many patients, but not all, whether they see a match is checked from the first one on, until the page is full.
  // `offset 0` keeps the order of these steps.
  const first = isCheckedLater
    ? sql`select p.id, p.tier, p.sort_key from (
        select p.id, p.registered_by, ${place} from patients p where ${condition} ${from} order by ${order} offset 0
      ) p where ${access.read} limit ${most}`
    : page("p.id");
  return sql`select ${sql.raw(patientColumns)}, first.tier, first.sort_key
    from (${first}) first cross join lateral (select * from patients p where p.id = first.id offset 0) p`;
}
