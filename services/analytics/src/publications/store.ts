/** Publications: the events that they count, their figures, and the accounts behind amounts that wait. */
import type { LocalDate } from "@pm/kit/calendar";
import { type Selectable, sql } from "kysely";
import type { NumberedEvent } from "../ingest/store.ts";
import type { AnalyticsDatabase, Db, Tables } from "../tables.ts";
import type { AccountAmount, Figure } from "./types.ts";

export type Publication = Pick<Selectable<Tables["publications"]>, "week" | "until" | "seq">;

export async function lastPublication(db: Db): Promise<Publication | undefined> {
  return await db.selectFrom("publications").select(["week", "until", "seq"]).orderBy("week", "desc").limit(1).executeTakeFirst();
}

/** Returns false if the week is published already. Waits while another process publishes it. */
export async function insertPublication(db: Db, publication: Publication): Promise<boolean> {
  const inserted = await db
    .insertInto("publications")
    .values(publication)
    .onConflict((conflict) => conflict.doNothing())
    .returning("week")
    .executeTakeFirst();
  return inserted !== undefined;
}

/** When the first event of the log happened. */
export async function earliestEvent(db: Db): Promise<Date | undefined> {
  const row = await db.selectFrom("events").select("occurred_at").orderBy("occurred_at").limit(1).executeTakeFirst();
  return row?.occurred_at;
}

/** Events in the order of their times. Events of one time are in the order of the log. */
type Place = { occurred_at: Date; seq: bigint };
/** The part of the log that a publication has: events before `until`, up to the number `seq`. */
type Extent = { until: Date; seq: bigint };

/** The next events after a place, in the order of their times. */
export async function nextEvents(db: Db, after: Place, { until, seq }: Extent, limit: number): Promise<(NumberedEvent & Place)[]> {
  const { rows } = await sql<NumberedEvent & Place>`
    select seq, event_id, stream, payload, occurred_at from events
    where (occurred_at, seq) > (${after.occurred_at}, ${after.seq}) and occurred_at < ${until} and seq <= ${seq}
    order by occurred_at, seq limit ${limit}`.execute(db);
  return rows;
}

/** The next events after a number of the log, in the order of the log. */
export async function nextLateEvents(db: Db, after: bigint, { until, seq }: Extent, limit: number): Promise<NumberedEvent[]> {
  return await db
    .selectFrom("events")
    .select(["seq", "event_id", "stream", "payload"])
    .where("seq", ">", after)
    .where("seq", "<=", seq)
    .where("occurred_at", "<", until)
    .orderBy("seq")
    .limit(limit)
    .execute();
}

/** What waits since each of some weeks. */
export async function waitingFigures(db: Db, weeks: LocalDate[]): Promise<(Figure & { week: LocalDate })[]> {
  if (weeks.length === 0) return [];
  const rows = await db.selectFrom("publication_figures").selectAll().where("week", "in", weeks).where("shown", "=", false).execute();
  return rows.map((row) => ({ ...row, amount: BigInt(row.amount) }));
}

/** The weeks in which values of some measures were shown last. */
export async function lastShownParts(db: Db, measures: string[]): Promise<{ measure: string; value: string; week: LocalDate }[]> {
  return await db
    .selectFrom("publication_figures")
    .select(({ fn }) => ["measure", "value", fn.max("week").as("week")])
    .where("measure", "in", measures)
    .where("shown", "=", true)
    .groupBy(["measure", "value"])
    .execute();
}

export async function insertFigures(db: Db, week: LocalDate, figures: Figure[]): Promise<void> {
  await sql`
    insert into publication_figures (week, measure, value, amount, since, shown)
    select ${week}::date, * from unnest(${figures.map((f) => f.measure)}::text[], ${figures.map((f) => f.value)}::text[],
      ${figures.map((f) => String(f.amount))}::numeric[], ${figures.map((f) => f.since)}::date[],
      ${figures.map((f) => f.shown)}::boolean[])`.execute(db);
}

export async function addAccountAmounts(db: Db, amounts: AccountAmount[]): Promise<void> {
  if (amounts.length === 0) return;
  await sql`
    insert into publication_accounts (measure, value, account, amount)
    select * from unnest(${amounts.map((a) => a.measure)}::text[], ${amounts.map((a) => a.value)}::text[],
      ${amounts.map((a) => a.account)}::uuid[], ${amounts.map((a) => String(a.amount))}::numeric[])
    on conflict (measure, value, account) do update set amount = publication_accounts.amount + excluded.amount`.execute(db);
}

/** How many accounts stand behind each amount that waits, and what the largest of them is. */
export async function countAccounts(db: Db): Promise<{ measure: string; value: string; number: number; largest: bigint }[]> {
  const rows = await db
    .selectFrom("publication_accounts")
    .select(({ fn }) => ["measure", "value", fn.countAll<bigint>().as("number"), sql<string>`max(abs(amount))`.as("largest")])
    .where("amount", "<>", "0")
    .groupBy(["measure", "value"])
    .execute();
  return rows.map(({ number, largest, ...row }) => ({ ...row, number: Number(number), largest: BigInt(largest) }));
}

export async function clearAccounts(db: Db, figures: Figure[]): Promise<void> {
  for (const { measure, value } of figures)
    await db.deleteFrom("publication_accounts").where("measure", "=", measure).where("value", "=", value).execute();
}

/** The first and the last week that is published. */
export type PublishedWeeks = { first: LocalDate; last: LocalDate };

export async function publishedWeeks(db: AnalyticsDatabase): Promise<PublishedWeeks | undefined> {
  const rows = await db.query<{ first: LocalDate | null; last: LocalDate | null }>(
    { name: "published_weeks", text: "select min(week) as first, max(week) as last from publications" },
    [],
  );
  const { first = null, last = null } = rows[0] ?? {};
  return first === null || last === null ? undefined : { first, last };
}

/** What a week has published of a measure and value; null if it waits. Weeks in which nothing was counted have none. */
export type PublishedFigure = { week: LocalDate; measure: string; value: string; amount: bigint | null };

/** The figures of some measures, up to a week. */
export async function readFigures(db: AnalyticsDatabase, measures: string[], upTo: LocalDate): Promise<PublishedFigure[]> {
  const rows = await db.query<Omit<PublishedFigure, "amount"> & { amount: string | null }>(
    {
      name: "published_figures",
      text: `select week, measure, value, case when shown then amount::text end as amount from publication_figures
        where measure = any($1) and week <= $2`,
    },
    [measures, upTo],
  );
  return rows.map((row) => ({ ...row, amount: row.amount === null ? null : BigInt(row.amount) }));
}

/** What some weeks have shown of each value of a measure, added up. */
export async function readSums(
  db: AnalyticsDatabase,
  measure: string,
  weeks: { from: LocalDate; to: LocalDate },
): Promise<{ value: string; amount: bigint }[]> {
  const rows = await db.query<{ value: string; amount: string }>(
    {
      name: "published_sums",
      text: `select value, sum(amount)::text as amount from publication_figures
        where measure = $1 and week >= $2 and week <= $3 and shown group by value`,
    },
    [measure, weeks.from, weeks.to],
  );
  return rows.map(({ value, amount }) => ({ value, amount: BigInt(amount) }));
}
