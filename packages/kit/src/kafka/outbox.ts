/**
 * The outbox: a row written in the same transaction as the change that it tells of, and one relay per service that
 * publishes rows in order and deletes them. Kafka being down costs delay, never an event and never a request.
 */

import { type Kysely, sql } from "kysely";
import type { Client, Pool } from "pg";
import type { Lifecycle } from "../lifecycle.ts";
import type { Logger } from "../log.ts";
import { Gauge, Histogram, metrics } from "../metrics.ts";
import type { Database, DatabaseSettings } from "../postgres/database.ts";
import { type Leader, runAsLeader } from "../postgres/leader.ts";
import type { Message, Sender } from "./client.ts";

/** A row to be written. `type` becomes `ce_type`; `eventId` a UUID, `ce_id`. */
export type OutboxEvent = { eventId: string; topic: string; key: string; type: string; payload: Uint8Array; traceparent: string };

/** The outbox in a service's table types. Postgres gives `id` when the row is inserted, after the changed row was locked, so ids rise per key. */
export type OutboxTable = {
  event_id: string;
  topic: string;
  key: string;
  type: string;
  payload: Uint8Array;
  traceparent: string;
};

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
  // Rows live for milliseconds: vacuum by count, not by share of a table that is nearly always empty.
  await sql`alter table outbox set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000)`.execute(db);
  await sql`grant select, insert, delete on outbox to ${sql.ref(role)}`.execute(db);
}

const batchSize = 500;

const lag = new Histogram({
  name: "outbox_lag_seconds",
  help: "Time from writing an outbox row to Kafka's acknowledgement",
  buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300],
  registers: [metrics],
});

/** The pools of this process's relays: one, but in tests. */
const pools = new Set<Pool>();
new Gauge({
  name: "outbox_pending",
  help: "Outbox rows not yet published, counted up to 10,000",
  registers: [metrics],
  async collect() {
    const counted = "select count(*)::int as pending from (select 1 from outbox limit 10000) rows";
    const results = await Promise.all([...pools].map((pool) => pool.query(counted).catch(() => undefined)));
    this.set(results.reduce((sum, result) => sum + (result?.rows[0].pending ?? 0), 0));
  },
});

/**
 * Starts the relay of a service; call its `wake` after every commit that wrote an outbox row. Every replica runs one, and
 * one of them publishes, a batch at a time, because several sends in flight can overtake each other.
 */
export function startRelay<Tables>(options: {
  database: Database<Tables>;
  settings: DatabaseSettings;
  sender: Sender;
  service: string;
  /**
   * Milliseconds for which events gather before they are sent, 100 where it is not said: a send costs the broker and us about
   * as much for one event as for a hundred, and hardly anybody waits for an event.
   */
  lingerMs?: number;
  log: Logger;
  lifecycle: Lifecycle;
}): Leader {
  const { database, settings, sender, service, lingerMs = 100, log, lifecycle } = options;

  pools.add(database.pool);

  /** Publishes one batch. Rows are gone only when the transaction that took them commits, after Kafka's acknowledgement. */
  async function publishBatch(client: Client): Promise<"more" | "done"> {
    // Rows that a crash of Postgres brings back are sent twice, which every reader must bear anyway: no need to wait for the disk.
    await client.query("begin; set local synchronous_commit to off");
    const { rows } = await client.query<OutboxTable & { id: bigint; created_at: Date }>({
      name: "outbox_take",
      text: `delete from outbox where id = any(array(select id from outbox order by id limit ${batchSize}))
        returning id, event_id, topic, key, type, payload, traceparent, created_at`,
    });
    // Postgres gives deleted rows in any order; their ids are the order of the changes.
    rows.sort((a, b) => Number(a.id - b.id));
    if (rows.length > 0)
      await sender.send([...Map.groupBy(rows, (row) => row.topic)].map(([topic, events]) => ({ topic, messages: events.map(toMessage) })));
    await client.query("commit");
    const now = Date.now();
    for (const row of rows) lag.observe(Math.max(0, now - row.created_at.getTime()) / 1_000);
    return rows.length === batchSize ? "more" : "done";
  }

  function toMessage(event: OutboxTable & { created_at: Date }): Message {
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
  return runAsLeader({ name: "outbox_relay", settings, pool: database.pool, pollMs: 500, lingerMs, step: publishBatch, log, lifecycle });
}
