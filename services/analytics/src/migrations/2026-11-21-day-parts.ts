import { type Kysely, sql } from "kysely";

/**
 * Days say how much of them there was by each quarter of an hour, in place of rows for hours and quarters: a year of local
 * days is then two parts of each day to read, and not up to 24 hours.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  // Right from the start; then all is made anew from the log, because the release before may still be adding to the old rows.
  // Added up before the column is there, because from then on nobody else can read a report until this is committed. Every
  // day of every measure takes a look at its quarters: it costs by days, not by patients, about 15 s for two years in two sets.
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
