/** Pairs of records that may be one person, and what people decided about them. */
import { insertIntoAudit, insertPatientsOf, returningEntry } from "@pm/kit/audit/audit";
import type { Queries } from "@pm/kit/postgres/transaction";
import { type RawBuilder, sql } from "kysely";
import type { PatientDatabase } from "../database.ts";
import type { Access } from "../patients/access-store.ts";
import { accountColumn, type PatientRow, patientColumns, toPatient } from "../patients/store.ts";
import type { Grade, PairState, Patient } from "../tables.ts";

export type Pair = { id: string; score: number; grade: Grade; state: PairState; patients: [Patient, Patient] };

/** Where a page of the work list ends. */
type PairPosition = { score: number; id: string };

export type PairQuery = { state: PairState; limit: number; after: PairPosition | undefined; access: Access };

const settleStatement = {
  name: "duplicate_pairs_settle",
  text: `
    insert into duplicate_pairs (first_id, second_id, state, decided_by, decided_at)
    select least(one, other), greatest(one, other), $3, $4, now()
    from unnest($1::uuid[], $2::uuid[]) as pair(one, other) where one <> other group by 1, 2 order by 1, 2
    on conflict (first_id, second_id) do update set state = excluded.state, decided_by = excluded.decided_by, decided_at = excluded.decided_at`,
};

/**
 * Notes what somebody decided about pairs of patients: that both are one (`merged`) or are not (`not_the_same`), or
 * that it is to be decided again (`open`). The decision stays through every new score. Whoever may decide it has been
 * checked, and audits it.
 */
export async function settlePairs(db: Queries, pairs: (readonly [string, string])[], state: PairState, actor: string): Promise<void> {
  if (pairs.length === 0) return;
  await db.query(settleStatement, [pairs.map(([one]) => one), pairs.map(([, other]) => other), state, actor]);
}

/** Both patients of a pair `d` can be seen by the caller; of an open pair, both are living. */
function bothVisible(state: PairState, access: Access): RawBuilder<unknown> {
  const living = state === "open" ? sql`p.deleted_at is null` : sql`true`;
  const isVisible = (id: string) => sql`exists (select from patients p where p.id = ${sql.ref(id)} and ${living} and ${access.read})`;
  return sql`${isVisible("d.first_id")} and ${isVisible("d.second_id")}`;
}

type PairRow = PatientRow & { pair_id: string; score: number; grade: Grade; state_of_pair: PairState };

/** Two rows of patients for each pair. */
const withPatients = sql`select page.id as pair_id, page.score, page.grade, page.state as state_of_pair, ${sql.raw(`${patientColumns}, ${accountColumn}`)}
  from page cross join lateral (select * from patients p where p.id in (page.first_id, page.second_id) order by p.id offset 0) p
  order by page.score desc, page.id desc, p.id`;

function toPairs(rows: PairRow[]): Pair[] {
  const pairs: Pair[] = [];
  for (let at = 0; at + 1 < rows.length; at += 2) {
    const [one, other] = [rows[at], rows[at + 1]] as [PairRow, PairRow];
    const { pair_id: id, score, grade, state_of_pair: state } = one;
    pairs.push({ id, score, grade, state, patients: [toPatient(one), toPatient(other)] });
  }
  return pairs;
}

type Who = { actorId: string; requestId: string };

/** The pairs of a page and one more, the best first, and the audit entry that says who was shown whom. */
export async function listPairs(db: PatientDatabase, who: Who, { state, limit, after, access }: PairQuery): Promise<Pair[]> {
  const from = after ? sql`and (d.score, d.id) < (${after.score}::float8, ${after.id}::uuid)` : sql``;
  const { rows } = await sql<PairRow>`
    with page as materialized (
      select d.* from duplicate_pairs d where d.state = ${state} and d.score is not null ${from} and ${bothVisible(state, access)}
      order by d.score desc, d.id desc limit ${limit + 1}
    ), shown as materialized (
      select distinct unnest(array[first_id, second_id]) as id from (select * from page order by score desc, id desc limit ${limit}) pairs
    ), audited as (
      ${sql.raw(insertIntoAudit)}
      select ${who.actorId}, 'patient.duplicates_listed', 'patients', ${who.requestId},
        jsonb_build_object('ids', coalesce((select jsonb_agg(id) from shown), '[]'))
      ${sql.raw(returningEntry)}
    ), noted as (
      ${sql.raw(insertPatientsOf("audited", "select id from shown"))}
    )
    ${withPatients}`.execute(db.kysely);
  return toPairs(rows);
}

const readStatement = {
  name: "duplicate_pairs_read",
  text: `select id, first_id as "firstId", second_id as "secondId", state from duplicate_pairs where id = $1`,
};

/** A pair, whoever may see it. */
export async function findPair(
  db: Queries,
  id: string,
): Promise<{ id: string; firstId: string; secondId: string; state: PairState } | undefined> {
  const [row] = await db.query<{ id: string; firstId: string; secondId: string; state: PairState }>(readStatement, [id]);
  return row;
}

const dismissStatement = {
  name: "duplicate_pairs_dismiss",
  text: `
    with dismissed as (
      update duplicate_pairs set state = 'not_the_same', decided_by = $2, decided_at = now() where id = $1 and state = 'open'
      returning id, first_id, second_id
    ), audited as (
      ${insertIntoAudit}
      select $2, 'patient.duplicate_dismissed', id, $3, jsonb_build_object('ids', jsonb_build_array(first_id, second_id)) from dismissed
      ${returningEntry}
    ), noted as (
      ${insertPatientsOf("audited", "select unnest(array[first_id, second_id]) as id from dismissed")}
    )
    select id from dismissed`,
};

/** Notes that an open pair is of two people. False if it is not open. */
export async function dismissPair(db: Queries, id: string, { actorId, requestId }: Who): Promise<boolean> {
  return (await db.query(dismissStatement, [id, actorId, requestId])).length === 1;
}
