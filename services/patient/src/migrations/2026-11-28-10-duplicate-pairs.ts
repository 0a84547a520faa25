/**
 * Pairs of records that may be one person: the work list of duplicates. A pair has one row for ever, whichever of the
 * two was registered first, so that what people decided about it outlives each new score. The score is null where a
 * pair was decided before it was scored.
 */
import { type Kysely, sql } from "kysely";

const role = sql.ref("patient");

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table duplicate_pairs (
      id uuid primary key default gen_random_uuid(),
      first_id uuid not null,
      second_id uuid not null,
      score float8,
      grade text,
      model text,
      state text not null default 'open',
      decided_by text,
      decided_at timestamptz,
      unique (first_id, second_id),
      check (first_id < second_id)
    )`.execute(db);
  await sql`create index duplicate_pairs_second on duplicate_pairs (second_id)`.execute(db);
  await sql`create index duplicate_pairs_best on duplicate_pairs (state, score desc, id) where score is not null`.execute(db);
  await sql`grant select, insert, update, delete on duplicate_pairs to ${role}`.execute(db);
}
