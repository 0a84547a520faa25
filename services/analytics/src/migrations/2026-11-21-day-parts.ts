import { type Kysely, sql } from "kysely";

/**
 * A day has the amount by the end of each of its quarters of an hour, instead of rows for hours and quarters. A local
 * day is then read from two rows, and not from up to 24.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  // The numbers are right at once. Then a rebuild computes them again from the log, because the release before may
  // still add to the old rows. The sums are computed before the column is added, because that locks out all reports
  // until the commit. It takes about 15 s for two years in two generations, however many patients there are.
  await sql`
    create temporary table day_parts on commit drop as
    select d.generation, d.measure, d.slot, d.value, array(
      select sum(coalesce(q.amount, 0)) over (order by quarter)::bigint from generate_series(d.slot, d.slot + 95) as quarter
      left join (
        select slot, amount from rollups
        where generation = d.generation and measure = d.measure and grain = 0 and slot >= d.slot and slot < d.slot + 96 and value = d.value
        offset 0
      ) q on q.slot = quarter
      order by quarter) as by_quarter
    from rollups d
    where d.grain = 2 and d.measure not in ('patients.registered.sex', 'patients.registered.ageBand', 'patients.registered.city',
      'patients.registered.state')`.execute(db);
  await sql`analyze day_parts`.execute(db);
  await sql`alter table rollups add column by_quarter bigint[]`.execute(db);
  await sql`
    update rollups d set by_quarter = p.by_quarter from day_parts p
    where d.generation = p.generation and d.measure = p.measure and d.grain = 2 and d.slot = p.slot and d.value = p.value`.execute(db);
  await sql`insert into rebuilds (state) select 'waiting' where exists (select from events) on conflict do nothing`.execute(db);
}
