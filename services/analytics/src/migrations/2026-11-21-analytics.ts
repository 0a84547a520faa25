import { createAuditTables } from "@pm/kit/audit/audit";
import { createDeadLetterTable } from "@pm/kit/kafka/dead-letter-store";
import { createOutboxTable } from "@pm/kit/kafka/outbox";
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  // Every event that was ever received, once. The runtime role may only add and read events. `subject` is the patient
  // whose numbers the event changes, `related` the other patient of a merge.
  await sql`
    create table events (
      event_id uuid primary key,
      seq bigint generated always as identity,
      stream text not null,
      subject uuid,
      related uuid,
      version bigint not null,
      occurred_at timestamptz not null,
      payload bytea not null,
      topic text not null,
      partition integer not null,
      "offset" bigint not null,
      received_at timestamptz not null default clock_timestamp()
    )`.execute(db);
  await sql`create unique index events_by_seq on events (seq)`.execute(db);
  // The numbers of a patient are computed from all events of the patient.
  await sql`create index events_by_subject on events (subject) where subject is not null`.execute(db);
  await sql`create index events_by_related on events (related) where related is not null`.execute(db);
  await sql`create index events_without_subject on events (seq) where subject is null`.execute(db);
  await sql`grant select, insert on events to analytics`.execute(db);

  // Sums of facts, see rollups/aggregate.ts. There are two generations. Reports read the one that rollup_state names,
  // and a rebuild fills the other one.
  await sql`
    create table rollups (
      generation smallint not null,
      measure text not null,
      grain smallint not null,
      slot integer not null,
      value text not null,
      amount bigint not null,
      primary key (generation, measure, grain, slot, value)
    ) partition by list (generation)`.execute(db);
  for (const generation of [0, 1]) {
    // Some rows change with every batch. Free space in their pages, and a vacuum after few changes, keep updates cheap.
    await sql`create table ${sql.table(`rollups_${generation}`)} partition of rollups for values in (${sql.lit(generation)})
      with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05)`.execute(db);
    await sql`grant truncate on ${sql.table(`rollups_${generation}`)} to analytics`.execute(db);
  }
  await sql`grant select, insert, update, delete on rollups to analytics`.execute(db);
  await sql`
    create table rollup_state (
      only_one boolean primary key default true check (only_one),
      generation smallint not null,
      rebuilt_at timestamptz
    )`.execute(db);
  await sql`insert into rollup_state (generation) values (0)`.execute(db);
  await sql`grant select, update on rollup_state to analytics`.execute(db);

  // Requests to rebuild the roll-ups. If a process ends during a rebuild, the next process begins it again.
  await sql`
    create table rebuilds (
      id bigint generated always as identity primary key,
      state text not null default 'waiting' check (state in ('waiting', 'running', 'done')),
      events_done bigint not null default 0,
      events_total bigint not null default 0,
      requested_at timestamptz not null default clock_timestamp(),
      started_at timestamptz,
      finished_at timestamptz
    )`.execute(db);
  await sql`create unique index rebuilds_one_at_a_time on rebuilds ((true)) where state <> 'done'`.execute(db);
  await sql`grant select, insert, update on rebuilds to analytics`.execute(db);

  // How far each partition was read, written in the transaction of its events: a report calls it "as of".
  await sql`
    create table watermarks (
      topic text not null,
      partition integer not null,
      next_offset bigint not null,
      event_time timestamptz not null,
      primary key (topic, partition)
    )`.execute(db);
  await sql`grant select, insert, update on watermarks to analytics`.execute(db);

  await createOutboxTable(db, "analytics");
  await createDeadLetterTable(db, "analytics");
  await createAuditTables(db, "analytics");
}
