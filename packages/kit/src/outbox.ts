/**
 * The outbox: a row written in the same transaction as the change that it tells of, and one relay per service that
 * publishes rows in order and deletes them. Kafka being down costs delay, never an event and never a request.
 */

import { type Kysely, sql } from "kysely";
import type { Client } from "pg";
import { connectClient, type Database, type DatabaseSettings } from "./db.ts";
import type { Sender } from "./kafka.ts";
import type { Lifetime } from "./lifetime.ts";
import type { Logger } from "./log.ts";
import { Gauge, Histogram, metrics } from "./telemetry.ts";

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
  await sql`grant select, insert, delete, update on outbox to ${sql.ref(role)}`.execute(db);
}

export type Relay = {
  /** Says that rows were committed. Cheap; call it after every commit. */
  wake(): void;
};

const batchSize = 500;
const pollMs = 500;
const notifyEveryMs = 20;
/** The advisory lock that makes one process of a service the relay: "outbox" in ASCII. */
const lockId = 0x6f7574626f78n;

const published = new Histogram({
  name: "outbox_lag_seconds",
  help: "Time from writing an outbox row to Kafka's acknowledgement",
  buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300],
  registers: [metrics],
});

/**
 * Starts the relay of a service. Every replica runs one; the holder of the advisory lock publishes, the others wait for it.
 * A commit in the publishing process wakes it at once, a commit elsewhere by a notification (at most one every 20 ms,
 * since a NOTIFY in every transaction would serialise commits), and it looks twice a second as the safety net.
 */
export function startRelay<Tables>(options: {
  database: Database<Tables>;
  settings: DatabaseSettings;
  sender: Sender;
  service: string;
  log: Logger;
  lifetime: Lifetime;
}): Relay {
  const { database, settings, sender, service, log, lifetime } = options;
  let stopped = false;
  let leading = false;
  let awake: () => void = () => undefined;
  let woken = false;
  let notifiedAt = 0;
  let failures = 0;

  new Gauge({
    name: "outbox_pending",
    help: "Outbox rows not yet published, counted up to 10,000",
    registers: [metrics],
    async collect() {
      const result = await database.pool
        .query("select count(*)::int as pending from (select 1 from outbox limit 10000) rows")
        .catch(() => undefined);
      if (result) this.set(result.rows[0].pending);
    },
  });

  const wait = (milliseconds: number): Promise<void> =>
    new Promise((resolve) => {
      if (woken) {
        resolve();
        return;
      }
      const timer = setTimeout(resolve, milliseconds);
      awake = () => {
        clearTimeout(timer);
        resolve();
      };
    });

  /** Publishes one batch and says how many rows it had. Rows are deleted in the transaction that locked them, after the acknowledgement. */
  async function publishBatch(client: Client): Promise<number> {
    await client.query("begin");
    const { rows } = await client.query<OutboxTable & { id: bigint; created_at: Date }>({
      name: "outbox_claim",
      text: `select id, event_id, topic, key, type, payload, traceparent, created_at from outbox order by id limit ${batchSize} for update skip locked`,
    });
    if (rows.length > 0) {
      const topics = Map.groupBy(rows, (row) => row.topic);
      await sender.send(
        [...topics].map(([topic, events]) => ({
          topic,
          messages: events.map((event) => ({
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
          })),
        })),
      );
      await client.query({ name: "outbox_done", text: "delete from outbox where id = any($1)", values: [rows.map((row) => row.id)] });
    }
    await client.query("commit");
    const now = Date.now();
    for (const row of rows) published.observe(Math.max(0, now - row.created_at.getTime()) / 1_000);
    return rows.length;
  }

  async function lead(client: Client): Promise<void> {
    await client.query("select pg_advisory_lock($1)", [lockId]);
    leading = true;
    await client.query("listen outbox");
    client.on("notification", () => {
      woken = true;
      awake();
    });
    while (!stopped) {
      woken = false;
      const count = await publishBatch(client);
      if (failures > 0) log.info({ failures }, "events are published again");
      failures = 0;
      if (count < batchSize) await wait(pollMs);
    }
  }

  async function run(): Promise<void> {
    while (!stopped) {
      let client: Client | undefined;
      try {
        client = await connectClient(settings, `${service}-relay`);
        current = client;
        client.on("error", () => undefined);
        await lead(client);
      } catch (error) {
        if (failures++ === 0 && !stopped) log.warn({ err: error }, "events cannot be published; they stay in the outbox");
      } finally {
        leading = false;
        // Ending the connection rolls back and frees the lock.
        await client?.end().catch(() => undefined);
      }
      if (!stopped) await new Promise((resolve) => setTimeout(resolve, Math.min(200 * 2 ** Math.min(failures, 5), 5_000)));
    }
  }
  let current: Client | undefined;
  const running = run();
  lifetime.onClose("outbox relay", async () => {
    stopped = true;
    awake();
    // A follower sits in the queue for the lock; its connection is cut.
    if (!leading) await current?.end().catch(() => undefined);
    await running;
    await sender.close();
  });

  return {
    wake() {
      woken = true;
      if (leading) awake();
      else if (Date.now() - notifiedAt > notifyEveryMs) {
        notifiedAt = Date.now();
        database.pool.query("notify outbox").catch(() => undefined);
      }
    },
  };
}
