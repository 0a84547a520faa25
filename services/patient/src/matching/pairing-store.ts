/** What the job that keeps the work list of duplicates reads and writes. */
import { defineBulkInput } from "@pm/kit/postgres/bulk";
import type { Queries } from "@pm/kit/postgres/transaction";
import { type RecordRow, recordColumns, toRecord } from "../patients/store.ts";
import type { Grade, PatientRecord } from "../tables.ts";

/** A place among the changes of patients: behind the change of a patient by a transaction, on a server. */
export type Place = { server: string; xid: string; id: string };

/**
 * Where the job is: in a pass over all patients, by the first patients of blocks, or behind it. It follows what changed
 * after `since`. `model` names the pass, and with it the model by which pairs are scored.
 */
export type Progress = { model: string; afterId: string | null; since: Place };

export async function readProgress(db: Queries): Promise<Progress | undefined> {
  const text = `select model, after_id as "afterId", server, xid, id from duplicate_progress`;
  const [row] = await db.query<Omit<Progress, "since"> & Place>({ name: "duplicate_progress_read", text }, []);
  if (!row) return undefined;
  const { model, afterId, ...since } = row;
  return { model, afterId, since };
}

export async function writeProgress(db: Queries, { model, afterId, since }: Progress): Promise<void> {
  const text = `insert into duplicate_progress (model, after_id, server, xid, id) values ($1, $2, $3, $4, $5)
    on conflict (one) do update set model = excluded.model, after_id = excluded.after_id, server = excluded.server, xid = excluded.xid,
      id = excluded.id`;
  await db.query({ name: "duplicate_progress_write", text }, [model, afterId, since.server, since.xid, since.id]);
}

/** A patient, and the keys by which others meet them. */
export type Keyed = { id: string; keys: number[] };

const keyed = "id, coalesce(match_keys, '{}') as keys";

/** The next patients who changed behind a place and before a transaction. */
export function readChanged(db: Queries, { xid, id }: Place, before: string, limit: number): Promise<(Keyed & { xid: string })[]> {
  const text = `select ${keyed}, changed_xid::text as xid from patients where changed_xid >= $1::text::xid8 and changed_xid < $2::text::xid8
    and (changed_xid, id) > ($1::text::xid8, $3::uuid) order by changed_xid, id limit $4`;
  return db.query({ name: "duplicates_changed", text }, [xid, before, id, limit]);
}

/** The number of the transaction that changed a patient last. */
export async function lastChange(db: Queries): Promise<string | undefined> {
  const text = "select max(changed_xid)::text as xid from patients";
  const [row] = await db.query<{ xid: string | null }>({ name: "duplicates_last_change", text }, []);
  return row?.xid ?? undefined;
}

/** Whether at least so many patients changed behind a place. */
export async function hasChanged(db: Queries, { xid, id }: Place, count: number): Promise<boolean> {
  const text = `select exists (select from patients where (changed_xid, id) > ($1::text::xid8, $2::uuid) offset $3) as are_many`;
  const [row] = await db.query<{ are_many: boolean }>({ name: "duplicates_are_many_changed", text }, [xid, id, count - 1]);
  return row?.are_many ?? false;
}

/** The records of those who are living. */
export async function readLiving(db: Queries, ids: string[]): Promise<Map<string, PatientRecord>> {
  const text = `select p.id, ${recordColumns} from unnest($1::uuid[]) as asked(id)
    cross join lateral (select * from patients where id = asked.id offset 0) p where p.deleted_at is null`;
  const rows = ids.length === 0 ? [] : await db.query<RecordRow & { id: string }>({ name: "duplicates_read", text }, [ids]);
  return new Map(rows.map((row) => [row.id, toRecord(row)]));
}

/** Two patients, the smaller id first. */
export type ScoredPair = { firstId: string; secondId: string; score: number; grade: Grade };

const stored = defineBulkInput<ScoredPair>({
  first_id: ["uuid", ({ firstId }) => firstId],
  second_id: ["uuid", ({ secondId }) => secondId],
  score: ["double precision", ({ score }) => score],
  grade: ["text", ({ grade }) => grade],
});

const storeStatement = {
  name: "duplicate_pairs_store",
  text: `
    with scored as materialized (
      select distinct on (first_id, second_id) * from ${stored.source("pair")} order by first_id, second_id
    ), outdated as (
      delete from duplicate_pairs d using unnest($${stored.count + 2}::uuid[]) as again(id)
      where d.state = 'open' and d.score is not null and (d.first_id = again.id or d.second_id = again.id)
      and not exists (select from scored s where s.first_id = d.first_id and s.second_id = d.second_id)
    )
    insert into duplicate_pairs (first_id, second_id, score, grade, model)
    select first_id, second_id, score, grade, $${stored.count + 1} from scored
    on conflict (first_id, second_id) do update set score = excluded.score, grade = excluded.grade, model = excluded.model`,
};

/**
 * Stores pairs with their scores, also if the same pair comes twice; what was decided about them stays. Of `again`,
 * open pairs that are none any more are removed.
 */
export async function storePairs(db: Queries, pairs: ScoredPair[], model: string, again: string[]): Promise<void> {
  if (pairs.length + again.length === 0) return;
  await db.query(storeStatement, [...stored.collect(pairs).values(), model, again]);
}

/** Removes the open pairs that an earlier pass scored: this one met all of them again, or they are none any more. */
export async function removeOlderPairs(db: Queries, model: string): Promise<void> {
  const text = "delete from duplicate_pairs where state = 'open' and model <> $1";
  await db.query({ name: "duplicate_pairs_remove_older", text }, [model]);
}
