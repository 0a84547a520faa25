/** The statements behind lists. Every page costs the same, because it begins where an index says. */
import { insertIntoAudit } from "@pm/kit/audit/audit";
import { type RawBuilder, sql } from "kysely";
import type { PatientDatabase } from "../database.ts";
import type { IdentifierKey } from "../tables.ts";
import type { Access, Condition } from "./access-store.ts";
import { type PatientRow, patientColumns } from "./store.ts";

export const sortFields = ["createdAt", "name", "dateOfBirth", "registeredDate"] as const;
type SortField = (typeof sortFields)[number];
export type Sort = `${"" | "-"}${SortField}`;

/** What a caller asks for, apart from the search. */
export type Filters = {
  dateOfBirth?: string | undefined;
  city?: string | undefined;
  state?: string | undefined;
  identifier?: IdentifierKey | undefined;
  registeredAfter?: string | undefined;
  registeredBefore?: string | undefined;
  deleted: boolean;
};

/** What a search matches: one id, a `tsquery` over the words of patients, or no patient at all. */
export type Match = { id: string } | { tsquery: string } | "nobody";

/** A patient of a page, and what the page is ordered by before the id. */
export type ListedRow = PatientRow & { sort_key: string | null };

/** A list is ordered by these before the id. Ids are of the moment of creation, so that order needs nothing before it. */
const sortKeys: Record<SortField, RawBuilder<string> | undefined> = {
  createdAt: undefined,
  name: sql`lower(p.name)`,
  dateOfBirth: sql`p.date_of_birth`,
  registeredDate: sql`p.registered_date`,
};

/**
 * The same for a search, written so that no index gives this order. Otherwise Postgres walks the index by name until enough
 * names match, as if all names were spread over the alphabet, and for "Zoe" reads every other patient first.
 */
const searchedSortKeys: typeof sortKeys = {
  createdAt: undefined,
  name: sql`(lower(p.name) || '')`,
  dateOfBirth: sql`(p.date_of_birth + 0)`,
  registeredDate: sql`(p.registered_date + 0)`,
};

export function filterCondition(filters: Filters): Condition {
  const conditions = [filters.deleted ? sql`p.deleted_at is not null` : sql`p.deleted_at is null`];
  if (filters.dateOfBirth !== undefined) conditions.push(sql`p.date_of_birth = ${filters.dateOfBirth}`);
  if (filters.city !== undefined) conditions.push(sql`lower(p.city) = lower(${filters.city})`);
  if (filters.state !== undefined) conditions.push(sql`lower(p.state) = lower(${filters.state})`);
  if (filters.identifier !== undefined) conditions.push(identifierCondition(filters.identifier, filters.deleted));
  if (filters.registeredAfter !== undefined) conditions.push(sql`p.registered_date > ${filters.registeredAfter}`);
  if (filters.registeredBefore !== undefined) conditions.push(sql`p.registered_date < ${filters.registeredBefore}`);
  return sql.join(conditions, sql` and `);
}

/** Keys are of living patients only. The deleted ones are few enough to be looked through. */
function identifierCondition({ system, value }: IdentifierKey, deleted: boolean): Condition {
  return deleted
    ? sql`p.details->'identifiers' @> ${JSON.stringify([{ system, value }])}::jsonb`
    : sql`p.id = (select patient_id from patient_identifiers where system = ${system} and value = ${value})`;
}

/** @param usesIndex whether Postgres may answer it from the index of words */
export function matchCondition(match: Match, { usesIndex }: { usesIndex: boolean }): Condition {
  if (match === "nobody") return sql`false`;
  const condition = "id" in match ? sql`p.id = ${match.id}` : sql`p.words @@ ${match.tsquery}::tsquery`;
  return usesIndex ? condition : sql`(${condition}) is true`;
}

export const both = (one: Condition, other: Condition): Condition => sql`${one} and ${other}`;

/** How many rows the planner expects. That takes a fraction of a millisecond, while counting takes as long as there are rows. */
export async function estimateRows(db: PatientDatabase, condition: Condition): Promise<number> {
  type Plan = { "QUERY PLAN": [{ Plan: { "Plan Rows": number } }] };
  const { rows } = await sql<Plan>`explain (format json) select 1 from patients p where ${condition}`.execute(db.kysely);
  return Math.round(rows[0]?.["QUERY PLAN"][0].Plan["Plan Rows"] ?? 0);
}

export type ListRequest = {
  actorId: string;
  requestId: string;
  purpose: "listed" | "exported";
  limit: number;
  condition: Condition;
  access: Access;
  /** The sort key and the id of the last row of the page before. */
  after: unknown[] | undefined;
  sort: Sort;
  /** Whether all matches are looked up and then sorted, instead of being met on the way along an index. */
  collects: boolean;
};

/** Reads the rows of a page and one more, and writes into the audit trail who was shown whom. */
export async function readList(db: PatientDatabase, request: ListRequest): Promise<ListedRow[]> {
  const { actorId, requestId, purpose, limit } = request;
  // Accounts are looked up for the page only: a search may find thousands, of which the order by name picks the first ones.
  const { rows } = await sql<ListedRow>`
    with ${pageOf(request)}, audited as (
      ${sql.raw(insertIntoAudit)}
      select ${actorId}, ${`patient.${purpose}`}, 'patients', ${requestId},
        jsonb_build_object('ids', coalesce((select jsonb_agg(id) from (select id from page limit ${limit}) shown), '[]'))
    )
    select page.*, (select account_id from patient_billing where patient_id = page.id) as account_id from page`.execute(db.kysely);
  return rows;
}

function pageOf({ limit, condition, access, after, sort, collects }: ListRequest): RawBuilder<unknown> {
  const key = (collects ? searchedSortKeys : sortKeys)[sort.replace("-", "") as SortField];
  const [direction, beyond] = sort.startsWith("-") ? [sql`desc`, sql`<`] : [sql`asc`, sql`>`];
  // As a text an id has the same order, but no index has it.
  const order = key ? sql`${key} ${direction}, p.id ${direction}` : collects ? sql`p.id::text ${direction}` : sql`p.id ${direction}`;
  const [position, id] = after ?? [];
  const from = !after ? sql`` : key ? sql`and (${key}, p.id) ${beyond} (${position}, ${id})` : sql`and p.id ${beyond} ${id}`;
  const columns = sql.raw(patientColumns);
  if (!collects || access.seesFew)
    return sql`page as materialized (
      select ${columns}, ${key ?? sql`null`} as sort_key from patients p where ${condition} and ${access.read} ${from}
      order by ${order} limit ${limit + 1}
    )`;
  // A caller who sees many: whether a match is visible is checked from the first match on, until the page is full.
  return sql`matches as materialized (
      select p.id, p.registered_by, ${key ?? sql`null`} as sort_key from patients p where ${condition} ${from} order by ${order}
    ), page as materialized (
      select p.*, first.sort_key from (select p.id, p.sort_key from matches p where ${access.read} limit ${limit + 1}) first
      cross join lateral (select ${columns} from patients p where p.id = first.id offset 0) p
    )`;
}
