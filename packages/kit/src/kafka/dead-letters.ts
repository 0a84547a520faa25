/**
 * Dead letters: events that could not be applied, kept in the consumer's database and told of on `<topic>.dead`. While an
 * event of a key waits here, later events of that key join it; an operator replays or discards them, first to last.
 */
import { randomUUIDv7 } from "node:crypto";
import { create, toBinary } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { DeadLetterSchema } from "@pm/proto/common/v1/dead_letter";
import { type Kysely, sql, type Transaction } from "kysely";
import { AppError } from "../errors.ts";
import { Gauge, metrics } from "../metrics.ts";
import type { Database } from "../postgres/database.ts";
import type { Apply, ConsumedEvent } from "./consumer.ts";

export type DeadLetterState = "waiting" | "replayed" | "discarded";

/** What an operator sees. `payload` only of a single letter. */
export type DeadLetter = {
  id: string;
  eventId: string;
  topic: string;
  partition: number;
  offset: string;
  key: string;
  type: string;
  eventTime: Date;
  reason: string;
  /** 0 where it only follows an earlier dead letter of its key. */
  tries: number;
  state: DeadLetterState;
  failedAt: Date;
  settledAt: Date | null;
};

type Row = {
  id: bigint;
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
  state: DeadLetterState;
  failed_at: Date;
  settled_at: Date | null;
};

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
 * One group applies one batch at a time, in all its replicas together: replicas take turns instead of deadlocking over
 * the same rows, and a replay cannot overtake the consumer. Held until the transaction ends.
 */
export async function lockGroup<Tables>(transaction: Transaction<Tables>, groupId: string): Promise<void> {
  await sql`select pg_advisory_xact_lock(hashtext('consumer group'), hashtext(${groupId}))`.execute(transaction);
}

/** Which keys of these events have a dead letter waiting, each as `<topic>/<key>`. */
export async function keysWithDeadLetters<Tables>(
  transaction: Transaction<Tables>,
  groupId: string,
  events: ConsumedEvent[],
): Promise<Set<string>> {
  const keys = [...new Set(events.map((event) => event.key))];
  const { rows } = await sql<{ topic: string; key: string }>`
    select distinct topic, key from dead_letters
    where consumer_group = ${groupId} and state = 'waiting' and topic = any(${[...new Set(events.map((event) => event.topic))]}) and key = any(${keys})
  `.execute(transaction);
  return new Set(rows.map((row) => `${row.topic}/${row.key}`));
}

/** Keeps an event as a dead letter and tells of it on `<topic>.dead`, once however often the event is delivered. */
export async function deadLetter<Tables>(
  transaction: Transaction<Tables>,
  letter: { groupId: string; event: ConsumedEvent; reason: string; tries: number },
): Promise<void> {
  const { groupId, event, reason, tries } = letter;
  const { rows } = await sql`
    insert into dead_letters
      (consumer_group, event_id, topic, partition, "offset", key, type, source, event_time, traceparent, payload, reason, tries)
    values (${groupId}, ${event.id}, ${event.topic}, ${event.partition}, ${event.offset}, ${event.key}, ${event.type}, ${event.source},
      ${event.time}, ${event.traceparent}, ${Buffer.from(event.value)}, ${reason}, ${tries})
    on conflict do nothing returning id`.execute(transaction);
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
  await sql`
    insert into outbox (event_id, topic, key, type, payload, traceparent)
    values (${randomUUIDv7()}, ${`${event.topic}.dead`}, ${event.key}, 'common.v1.DeadLetter',
      ${Buffer.from(toBinary(DeadLetterSchema, message))}, ${event.traceparent})`.execute(transaction);
}

/** Why an event failed, for operators: what stands in quotes in a message of Postgres may be somebody's data, so only its code is kept. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return "unknown";
  if ("severity" in error && "code" in error) {
    const constraint = "constraint" in error && error.constraint ? ` on ${error.constraint}` : "";
    return `Postgres refused it: SQLSTATE ${error.code}${constraint}`;
  }
  return error.message.slice(0, 500);
}

export type DeadLetters = {
  /** Newest first; `after` is the last id of the page before. */
  list(filter: {
    state?: DeadLetterState | undefined;
    topic?: string | undefined;
    before?: string | undefined;
    limit: number;
  }): Promise<DeadLetter[]>;
  /** @throws AppError not_found. */
  get(id: string): Promise<DeadLetter & { payload: Buffer }>;
  /**
   * Applies the waiting letters of this letter's key, first to last, and says how many. Stops at the first that fails again.
   * @throws AppError failed_precondition with the reason where one fails, not_found.
   */
  replay(id: string): Promise<number>;
  /** Replays every key that waits, and says how many letters were applied and how many still wait. */
  replayAll(topic?: string): Promise<{ replayed: number; waiting: number }>;
  /** How many wait. */
  waiting(): Promise<number>;
  /** Gives a letter up, so that those behind it can be replayed. @throws AppError not_found, failed_precondition where it does not wait. */
  discard(id: string): Promise<void>;
};

/** The groups of this process, each with how many of its letters wait. */
const groups = new Map<string, () => Promise<number>>();
new Gauge({
  name: "consumer_dead_letters_waiting",
  help: "Dead letters that nobody has replayed or discarded",
  labelNames: ["group"],
  registers: [metrics],
  async collect() {
    for (const [group, waiting] of groups) {
      const count = await waiting().catch(() => undefined);
      if (count !== undefined) this.set({ group }, count);
    }
  },
});

/** The operator's side of a group's dead letters. */
export function createDeadLetters<Tables>(options: { database: Database<Tables>; groupId: string; apply: Apply<Tables> }): DeadLetters {
  const { database, groupId, apply } = options;
  const db = database.kysely;
  groups.set(groupId, waiting);

  async function waiting(): Promise<number> {
    const { rows } = await sql<{ count: bigint }>`
      select count(*) from dead_letters where consumer_group = ${groupId} and state = 'waiting'`.execute(db);
    return Number(rows[0]?.count ?? 0);
  }

  async function find(id: string): Promise<Row> {
    const { rows } = await sql<Row>`select * from dead_letters where id = ${BigInt(id)} and consumer_group = ${groupId}`.execute(db);
    const row = rows[0];
    if (!row) throw new AppError("not_found", "There is no dead letter with this id.");
    return row;
  }

  async function replay(id: string): Promise<number> {
    const { topic, key } = await find(id);
    let applied = 0;
    for (;;) {
      let failing: Row | undefined;
      try {
        const done = await db.transaction().execute(async (transaction) => {
          await lockGroup(transaction, groupId);
          const { rows } = await sql<Row>`
            select * from dead_letters where consumer_group = ${groupId} and topic = ${topic} and key = ${key} and state = 'waiting'
            order by "offset" limit 1`.execute(transaction);
          failing = rows[0];
          if (!failing) return true;
          await apply([toConsumed(failing)], transaction);
          await sql`update dead_letters set state = 'replayed', settled_at = clock_timestamp() where id = ${failing.id}`.execute(
            transaction,
          );
          return false;
        });
        if (done) return applied;
        applied++;
      } catch (error) {
        if (!failing) throw error;
        const reason = reasonOf(error);
        await sql`update dead_letters set tries = tries + 1, reason = ${reason} where id = ${failing.id}`.execute(db);
        throw new AppError("failed_precondition", `Dead letter ${failing.id} fails again: ${reason}. ${applied} before it were applied.`, {
          cause: error,
        });
      }
    }
  }

  return {
    replay,
    waiting,
    async list({ state, topic, before, limit }) {
      const { rows } = await sql<Row>`
        select * from dead_letters
        where consumer_group = ${groupId} and (${state ?? null}::text is null or state = ${state ?? null})
          and (${topic ?? null}::text is null or topic = ${topic ?? null}) and (${before ?? null}::bigint is null or id < ${before ?? null})
        order by id desc limit ${limit}`.execute(db);
      return rows.map(toDeadLetter);
    },
    async get(id) {
      const row = await find(id);
      return { ...toDeadLetter(row), payload: row.payload };
    },
    async replayAll(topic) {
      const { rows } = await sql<{ id: bigint }>`
        select min(id) as id from dead_letters
        where consumer_group = ${groupId} and state = 'waiting' and (${topic ?? null}::text is null or topic = ${topic ?? null})
        group by topic, key order by 1`.execute(db);
      let replayed = 0;
      for (const { id } of rows) {
        try {
          replayed += await replay(String(id));
        } catch (error) {
          // A key that fails again must not keep the others waiting; its letters stay and say why.
          if (!(error instanceof AppError)) throw error;
        }
      }
      return { replayed, waiting: await waiting() };
    },
    async discard(id) {
      const { state } = await find(id);
      if (state !== "waiting") throw new AppError("failed_precondition", `This dead letter was ${state} already.`);
      await sql`update dead_letters set state = 'discarded', settled_at = clock_timestamp()
        where id = ${BigInt(id)} and state = 'waiting'`.execute(db);
    },
  };
}

function toConsumed(row: Row): ConsumedEvent {
  const { event_id: id, event_time: time, payload: value, type, source, traceparent, topic, partition, offset, key } = row;
  return { id, type, source, time, traceparent, topic, partition, offset, key, value };
}

function toDeadLetter(row: Row): DeadLetter {
  const { topic, partition, key, type, reason, tries, state } = row;
  return {
    id: String(row.id),
    eventId: row.event_id,
    topic,
    partition,
    offset: String(row.offset),
    key,
    type,
    eventTime: row.event_time,
    reason,
    tries,
    state,
    failedAt: row.failed_at,
    settledAt: row.settled_at,
  };
}
