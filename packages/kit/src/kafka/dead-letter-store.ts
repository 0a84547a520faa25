/** Dead letters in the database of the consumer, and the lock under which a group applies events. */
import { create, toBinary } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { DeadLetterSchema } from "@pm/proto/common/v1/dead_letter";
import { type Generated, type GeneratedAlways, type Kysely, type Selectable, sql } from "kysely";
import type { Transaction } from "../postgres/transaction.ts";
import type { ConsumedEvent } from "./event.ts";
import { createEvent, insertOutboxEvents } from "./outbox.ts";

export type DeadLetterState = "waiting" | "replayed" | "discarded";

/** The table of `createDeadLetterTable` in the table types of a service. */
export type DeadLetterTables = {
  dead_letters: {
    id: GeneratedAlways<bigint>;
    consumer_group: string;
    event_id: string;
    topic: string;
    partition: number;
    offset: bigint;
    key: string;
    type: string;
    source: string;
    event_time: Date;
    traceparent: string;
    payload: Buffer;
    reason: string;
    tries: number;
    state: Generated<DeadLetterState>;
    failed_at: Generated<Date>;
    settled_at: Date | null;
  };
};

export type DeadLetterRow = Selectable<DeadLetterTables["dead_letters"]>;

/** Creates the table; part of a consuming service's first migration, beside its outbox. `role` is the runtime role. */
export async function createDeadLetterTable(db: Kysely<unknown>, role: string): Promise<void> {
  await sql`
    create table dead_letters (
      id bigint generated always as identity primary key,
      consumer_group text not null,
      event_id uuid not null,
      topic text not null,
      partition integer not null,
      "offset" bigint not null,
      key text not null,
      type text not null,
      source text not null,
      event_time timestamptz not null,
      traceparent text not null,
      payload bytea not null,
      reason text not null,
      tries integer not null,
      state text not null default 'waiting' check (state in ('waiting', 'replayed', 'discarded')),
      failed_at timestamptz not null default clock_timestamp(),
      settled_at timestamptz,
      unique (consumer_group, topic, event_id)
    )`.execute(db);
  await sql`create index dead_letters_waiting on dead_letters (consumer_group, topic, key, "offset") where state = 'waiting'`.execute(db);
  await sql`grant select, insert, update on dead_letters to ${sql.ref(role)}`.execute(db);
}

/**
 * Until the transaction ends, no other replica of the group applies events: replicas take turns instead of deadlocking
 * over the same rows, and a replay cannot overtake the consumer.
 */
export async function lockGroup<Tables>(tx: Kysely<Tables>, groupId: string): Promise<void> {
  await sql`select pg_advisory_xact_lock(hashtext('consumer group'), hashtext(${groupId}))`.execute(tx);
}

/** Which keys of these events have a waiting dead letter, each as `<topic>/<key>`. */
export async function keysWithDeadLetters<Tables>(tx: Kysely<Tables>, groupId: string, events: ConsumedEvent[]): Promise<Set<string>> {
  const keys = [...new Set(events.map((event) => event.key))];
  const topics = [...new Set(events.map((event) => event.topic))];
  const { rows } = await sql<{ topic: string; key: string }>`
    select distinct topic, key from dead_letters
    where consumer_group = ${groupId} and state = 'waiting' and topic = any(${topics}) and key = any(${keys})`.execute(tx);
  return new Set(rows.map((row) => `${row.topic}/${row.key}`));
}

/** Stores an event as a dead letter and publishes it on `<topic>.dead`, once, however often the event is delivered. */
export async function deadLetter<Tables>(
  tx: Transaction<Tables>,
  letter: { groupId: string; event: ConsumedEvent; reason: string; tries: number },
): Promise<void> {
  const { groupId, event, reason, tries } = letter;
  const { rows } = await sql`
    insert into dead_letters
      (consumer_group, event_id, topic, partition, "offset", key, type, source, event_time, traceparent, payload, reason, tries)
    values (${groupId}, ${event.id}, ${event.topic}, ${event.partition}, ${event.offset}, ${event.key}, ${event.type}, ${event.source},
      ${event.time}, ${event.traceparent}, ${Buffer.from(event.value)}, ${reason}, ${tries})
    on conflict do nothing returning id`.execute(tx.kysely);
  if (rows.length === 0) return;
  const message = create(DeadLetterSchema, {
    consumerGroup: groupId,
    topic: event.topic,
    partition: event.partition,
    offset: event.offset,
    key: event.key,
    eventId: event.id,
    eventType: event.type,
    eventSource: event.source,
    eventTime: timestampFromDate(event.time),
    payload: event.value,
    reason,
    tries,
  });
  const { key, traceparent } = event;
  const payload = toBinary(DeadLetterSchema, message);
  await insertOutboxEvents(tx, [createEvent({ topic: `${event.topic}.dead`, type: "common.v1.dead_letter", key, payload, traceparent })]);
}

export async function findDeadLetter<Tables>(db: Kysely<Tables>, groupId: string, id: string): Promise<DeadLetterRow | undefined> {
  const { rows } = await sql<DeadLetterRow>`
    select * from dead_letters where id = ${BigInt(id)} and consumer_group = ${groupId}`.execute(db);
  return rows[0];
}

/** The waiting dead letter of a key that is to be replayed next. */
export async function firstWaitingOf<Tables>(
  db: Kysely<Tables>,
  groupId: string,
  { topic, key }: { topic: string; key: string },
): Promise<DeadLetterRow | undefined> {
  const { rows } = await sql<DeadLetterRow>`
    select * from dead_letters where consumer_group = ${groupId} and topic = ${topic} and key = ${key} and state = 'waiting'
    order by "offset" limit 1`.execute(db);
  return rows[0];
}

/** One waiting dead letter of each key. */
export async function waitingKeys<Tables>(db: Kysely<Tables>, groupId: string, topic: string | undefined): Promise<string[]> {
  const { rows } = await sql<{ id: bigint }>`
    select min(id) as id from dead_letters
    where consumer_group = ${groupId} and state = 'waiting' and (${topic ?? null}::text is null or topic = ${topic ?? null})
    group by topic, key order by 1`.execute(db);
  return rows.map(({ id }) => String(id));
}

export async function countWaiting<Tables>(db: Kysely<Tables>, groupId: string): Promise<number> {
  const { rows } = await sql<{ count: bigint }>`
    select count(*) from dead_letters where consumer_group = ${groupId} and state = 'waiting'`.execute(db);
  return Number(rows[0]?.count ?? 0);
}

/** What a list shows: newest first, from the one after `before`. */
export type DeadLetterFilter = {
  state?: DeadLetterState | undefined;
  topic?: string | undefined;
  before?: string | undefined;
  limit: number;
};

export async function listDeadLetters<Tables>(
  db: Kysely<Tables>,
  groupId: string,
  { state, topic, before, limit }: DeadLetterFilter,
): Promise<DeadLetterRow[]> {
  const { rows } = await sql<DeadLetterRow>`
    select * from dead_letters
    where consumer_group = ${groupId} and (${state ?? null}::text is null or state = ${state ?? null})
      and (${topic ?? null}::text is null or topic = ${topic ?? null}) and (${before ?? null}::bigint is null or id < ${before ?? null})
    order by id desc limit ${limit}`.execute(db);
  return rows;
}

/** Replays or discards a waiting dead letter. */
export async function settleDeadLetter<Tables>(db: Kysely<Tables>, id: bigint, state: "replayed" | "discarded"): Promise<void> {
  await sql`
    update dead_letters set state = ${state}, settled_at = clock_timestamp() where id = ${id} and state = 'waiting'`.execute(db);
}

/** Notes that a dead letter has failed once more. */
export async function noteFailure<Tables>(db: Kysely<Tables>, id: bigint, reason: string): Promise<void> {
  await sql`update dead_letters set tries = tries + 1, reason = ${reason} where id = ${id}`.execute(db);
}
