import { type Kysely, sql } from "kysely";

/**
 * Days say how much of them there was by each quarter of an hour, in place of rows for hours and quarters: a year of local
 * days is then two parts of each day to read, and not up to 24 hours.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`alter table rollups add column by_quarter bigint[]`.execute(db);
  // Right from the start; then all is made anew from the log, because the release before may still be adding to the old rows.
  await sql`
    update rollups d set by_quarter = array(
      select sum(coalesce(q.amount, 0)) over (order by quarter)::bigint from generate_series(d.slot, d.slot + 95) as quarter
      left join (
        select slot, amount from rollups
        where generation = d.generation and measure = d.measure and grain = 0 and slot >= d.slot and slot < d.slot + 96 and value = d.value
        offset 0
      ) q on q.slot = quarter
      order by quarter)
    where d.grain = 2 and d.measure not in ('patients.registered.sex', 'patients.registered.ageBand', 'patients.registered.city',
      'patients.registered.state')`.execute(db);
  await sql`insert into rebuilds (state) select 'waiting' where exists (select from events) on conflict do nothing`.execute(db);
}
