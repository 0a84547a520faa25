import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  // What callers without analytics:detail get: the figures of whole weeks, made once. The runtime role may only add
  // them, so none ever changes. A publication has the events that happened before `until` and were in the log up to
  // `seq`. Weeks are named by their Monday.
  await sql`
    create table publications (
      week date primary key,
      until timestamptz not null,
      seq bigint not null,
      published_at timestamptz not null default clock_timestamp()
    )`.execute(db);
  await sql`grant select, insert on publications to analytics`.execute(db);

  // What was counted after the week `since` (null is the beginning). If it is not shown, it is still waiting, and the
  // figure of the next week goes on from it.
  await sql`
    create table publication_figures (
      week date not null references publications,
      measure text not null,
      value text not null,
      amount numeric not null,
      since date,
      shown boolean not null,
      primary key (measure, week, value)
    )`.execute(db);
  await sql`create index publication_figures_waiting on publication_figures (week) where not shown`.execute(db);
  await sql`grant select, insert on publication_figures to analytics`.execute(db);

  // The accounts behind amounts that are waiting.
  await sql`
    create table publication_accounts (
      measure text not null,
      value text not null,
      account uuid not null,
      amount numeric not null,
      primary key (measure, value, account)
    )`.execute(db);
  await sql`grant select, insert, update, delete on publication_accounts to analytics`.execute(db);

  // A publication reads the events of its week, and late ones. The index takes seconds for millions of events.
  await sql`create index events_by_time on events (occurred_at, seq)`.execute(db);
}
