/**
 * Blocks: patients who share a key, whom the job compares with each other. To look up the keys of a million patients
 * one by one takes more than an hour; to sort all of them once takes seconds. The sorted blocks are a cursor of the
 * job's connection, which holds ids and no snapshot.
 */
import type { Queries } from "@pm/kit/postgres/transaction";
import { maxSharers } from "./candidates-store.ts";

/**
 * Opens the blocks whose first patient is none of those before `fromId`, in the order of their first patients. Of a key
 * that too many share, those who have another such key too are a block, if they are few enough.
 */
export async function openBlocks(db: Queries, fromId: string): Promise<void> {
  const run = (name: string, text: string, values: unknown[] = []) => db.query({ name: `duplicate_blocks_${name}`, text }, values);
  await run("begin", "begin");
  await run("read_all", "set local enable_seqscan to on");
  // Most keys are of one patient, so to sort them takes less memory than to hash them.
  await run("sort", "set local enable_hashagg to off");
  await run("memory", "set local work_mem to '64MB'");
  await run("declare", declaration, [fromId]);
  await run("commit", "commit");
}

const declaration = `
  declare duplicate_blocks no scroll cursor with hold for
  with shared as materialized (
    select key, count(*) as size, array_agg(id order by id) as ids from patients cross join unnest(match_keys) as key
    where deleted_at is null group by key having count(*) > 1
  ), common as materialized (
    select key, id from shared cross join unnest(ids) as id where size > ${maxSharers}
  ), together as (
    select array_agg(one.id order by one.id) as ids from common one join common other on other.id = one.id and other.key > one.key
    group by one.key, other.key having count(*) between 2 and ${maxSharers}
  ), blocks as (
    select ids from shared where size <= ${maxSharers} union all select ids from together
  )
  select ids from blocks where ids[1] >= $1 order by ids[1]`;

const fetchStatement = { name: "duplicate_blocks_fetch", text: "fetch 200 from duplicate_blocks" };

/** The next blocks: the ids of their patients. So many at a time keep requests waiting for some milliseconds. */
export async function nextBlocks(db: Queries): Promise<string[][]> {
  const rows = await db.query<{ ids: string[] }>(fetchStatement, []);
  return rows.map(({ ids }) => ids);
}

export async function closeBlocks(db: Queries): Promise<void> {
  await db.query({ name: "duplicate_blocks_close", text: "close duplicate_blocks" }, []);
}
