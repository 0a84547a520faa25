/**
 * The outbox: an event is a row that is written in the transaction of the change that it describes. One relay per
 * service publishes the rows in order and deletes them. While Kafka is down, events are late, but no event and no
 * request is lost.
 */
import { randomUUIDv7 } from "node:crypto";
import { SpanKind } from "@opentelemetry/api";
import { type Generated, type GeneratedAlways, type Kysely, type Selectable, sql } from "kysely";
import type { Client, Pool } from "pg";
import type { Lifecycle } from "../lifecycle.ts";
import type { Logger } from "../log.ts";
import { Histogram, metrics, showAsked } from "../metrics.ts";
import { partsOfSize } from "../parts.ts";
import { defineBulkInput } from "../postgres/bulk.ts";
import type { Database, DatabaseSettings } from "../postgres/database.ts";
import { type Leader, runAsLeader, type Step } from "../postgres/leader.ts";
import type { Queries } from "../postgres/transaction.ts";
import { formatTraceparent, parseTraceparent } from "../telemetry/trace-context.ts";
import { inSpanOfMany } from "../telemetry/tracing.ts";
import type { Message, Sender } from "./client.ts";

/** An event that is to be published. */
export type OutboxEvent = {
  /** A UUID; `ce_id`. */
  eventId: string;
  topic: string;
  /** Events of one key are published in the order in which they were written. */
  key: string;
  /** `ce_type`; see `eventType`. */
  type: string;
  payload: Uint8Array;
  traceparent: string;
};

/** The table of `createOutboxTable` in the table types of a service. */
export type OutboxTables = {
  outbox: {
    /** Postgres assigns it after the changed row was locked, so ids rise per key. */
    id: GeneratedAlways<bigint>;
    event_id: string;
    topic: string;
    key: string;
    type: string;
    payload: Uint8Array;
    traceparent: string;
    created_at: Generated<Date>;
  };
};

/** The type of an event by its case in the message: `auth.v1` and `sessionRevoked` give `auth.v1.session_revoked`. */
export function eventType(topic: string, name: string): string {
  return `${topic}.${name.replace(/(?!^)[A-Z]/g, (letter) => `_${letter}`).toLowerCase()}`;
}

/** An event with a new id. */
export function createEvent(event: Omit<OutboxEvent, "eventId">): OutboxEvent {
  return { eventId: randomUUIDv7(), ...event };
}

/** The beginning of every insert into the outbox, for statements that write an event beside other rows. */
export const insertIntoOutbox = "insert into outbox (event_id, topic, key, type, payload, traceparent)";

const newEvents = defineBulkInput<OutboxEvent>({
  event_id: ["uuid", ({ eventId }) => eventId],
  topic: ["text", ({ topic }) => topic],
  key: ["text", ({ key }) => key],
  type: ["text", ({ type }) => type],
  payload: ["bytea", ({ payload }) => payload],
  traceparent: ["text", ({ traceparent }) => traceparent],
});

const insertStatement = {
  name: "outbox_insert",
  text: `${insertIntoOutbox} select event_id, topic, key, type, payload, traceparent from ${newEvents.source("input")}`,
};

/** Adds events to the outbox. Where each round trip counts, a statement writes them itself, by `insertIntoOutbox`. */
export async function insertOutboxEvents(db: Queries, events: OutboxEvent[]): Promise<void> {
  if (events.length > 0) await db.query(insertStatement, newEvents.collect(events).values());
}

/** Creates the table; part of a service's first migration. `role` is the runtime role. */
export async function createOutboxTable(db: Kysely<unknown>, role: string): Promise<void> {
  await sql`
    create table outbox (
      id bigint generated always as identity primary key,
      event_id uuid not null,
      topic text not null,
      key text not null,
      type text not null,
      payload bytea not null,
      traceparent text not null,
      created_at timestamptz not null default clock_timestamp()
    )`.execute(db);
  // Rows live for milliseconds. Vacuum by their number, not by the share of a table that is nearly always empty.
  await sql`alter table outbox set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000)`.execute(db);
  await sql`grant select, insert, delete on outbox to ${sql.ref(role)}`.execute(db);
}

type OutboxRow = Selectable<OutboxTables["outbox"]>;

const batchSize = 500;
/**
 * A broker takes at most 1 MiB in one batch of a partition, by default. The rest of it is for keys and headers, which
 * are less than 500 bytes for each event.
 */
const maxPayloadBytes = 750 * 1024;

const lag = new Histogram({
  name: "outbox_lag_seconds",
  help: "Time from writing an outbox row to Kafka's acknowledgement",
  buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300],
  registers: [metrics],
});

const messaging = { "messaging.system": "kafka" };

/** Only tests have relays of several databases in a process, and show the last one. */
let shown: Pool | undefined;
const waitingRows = `select count(*)::int as pending, coalesce(extract(epoch from clock_timestamp() - min(created_at)), 0)::float8 as oldest
  from (select created_at from outbox order by id limit 10000) rows`;
showAsked(
  async () => (await shown?.query<{ pending: number; oldest: number }>(waitingRows))?.rows[0],
  [
    {
      name: "outbox_oldest_seconds",
      help: "Age of the oldest outbox row that is not yet published; 0 if there is none",
      samples: ({ oldest }) => [{ value: Math.max(0, oldest) }],
    },
    {
      name: "outbox_pending",
      help: "Outbox rows not yet published, counted up to 10,000",
      samples: ({ pending }) => [{ value: pending }],
    },
  ],
);

/**
 * Starts the relay of a service; call its `wake` after every commit that wrote an outbox row. Every replica starts one.
 * One of them publishes, one batch at a time, because several sends in flight could overtake each other.
 */
export function startRelay<Tables>(options: {
  db: Database<Tables>;
  settings: DatabaseSettings;
  sender: Sender;
  service: string;
  /**
   * How long events are collected before they are sent, in milliseconds; 100 by default. A send costs the broker and us
   * about as much for one event as for a hundred, and hardly anybody waits for an event.
   */
  lingerMs?: number;
  log: Logger;
  lifecycle: Lifecycle;
}): Leader {
  const { db, settings, sender, service, lingerMs = 100, log, lifecycle } = options;

  shown = db.pool;

  /** Publishes one batch. Its rows are deleted when the transaction commits, after Kafka's acknowledgement. */
  async function publishBatch(client: Client): Promise<Step> {
    // Do not wait for the disk: rows that a crash of Postgres brings back are sent twice, which consumers handle.
    await client.query("begin; set local synchronous_commit to off");
    const { rows } = await client.query<OutboxRow>({
      name: "outbox_take",
      text: `delete from outbox where id = any(array(select id from outbox order by id limit ${batchSize}))
        returning id, event_id, topic, key, type, payload, traceparent, created_at`,
    });
    // Postgres returns deleted rows in any order. Their ids have the order of the changes.
    rows.sort((a, b) => Number(a.id - b.id));
    for (const part of partsOfSize(rows, maxPayloadBytes, ({ payload }) => payload.byteLength)) await send(part);
    await client.query("commit");
    const now = Date.now();
    for (const row of rows) lag.observe(Math.max(0, now - row.created_at.getTime()) / 1_000);
    return rows.length === batchSize ? "more" : rows.length > 0 ? "done" : "idle";
  }

  /** What consumers do for an event of the same trace comes below the sending of it. Other events keep their own. */
  function send(rows: OutboxRow[]): Promise<void> {
    const attributes = { ...messaging, "messaging.operation.name": "send", "messaging.operation.type": "send" };
    const details = { kind: SpanKind.PRODUCER, attributes: { ...attributes, "messaging.batch.message_count": rows.length } };
    return inSpanOfMany("send outbox", { ...details, carried: rows.map((row) => parseTraceparent(row.traceparent)) }, (span) => {
      const ofTrace = span && formatTraceparent(span.context);
      const isSame = (row: OutboxRow) => ofTrace !== undefined && row.traceparent.slice(0, 35) === ofTrace.slice(0, 35);
      const toTraced = (row: OutboxRow) => toMessage(isSame(row) ? { ...row, traceparent: String(ofTrace) } : row);
      return sender.send([...Map.groupBy(rows, (row) => row.topic)].map(([topic, of]) => ({ topic, messages: of.map(toTraced) })));
    });
  }

  function toMessage(event: OutboxRow): Message {
    return {
      key: event.key,
      value: Buffer.from(event.payload),
      headers: {
        ce_specversion: "1.0",
        ce_id: event.event_id,
        ce_type: event.type,
        ce_source: `/${service}`,
        ce_time: event.created_at.toISOString(),
        "content-type": "application/protobuf",
        traceparent: event.traceparent,
      },
    };
  }

  lifecycle.onClose("kafka producer", () => sender.close());
  return runAsLeader({ name: "outbox_relay", settings, pool: db.pool, pollMs: 500, lingerMs, step: publishBatch, log, lifecycle });
}
