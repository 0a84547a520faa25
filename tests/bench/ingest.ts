/** How events become numbers: ingest as they come, and a rebuild of all roll-ups from a log of six million. */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { create, toBinary } from "@bufbuild/protobuf";
import { timestampNow } from "@bufbuild/protobuf/wkt";
import { createKafka, createSender } from "@pm/kit/kafka/client";
import { createLogger } from "@pm/kit/log";
import { PatientEventSchema } from "@pm/proto/patient/v1/events";
import pg from "pg";
import { seedAnalytics } from "./analytics-seed.ts";
import type { BenchContext } from "./context.ts";
import type { Row } from "./measure.ts";
import { residentMiB } from "./processes.ts";

const patients = Number(process.env.BENCH_PATIENTS || 1_000_000);
/** A request of the ingest row publishes so many events that half a second of lingering hardly counts. */
const eventsAtOnce = 20_000;
/** A relay sends at most so many at a time. */
const eventsPerSend = 500;

function openAnalytics({ platform }: BenchContext): pg.Pool {
  const pool = new pg.Pool({ connectionString: platform.databases.analytics.databaseUrl, max: 1 });
  // The platform stops while this connection is open.
  pool.on("error", () => undefined);
  return pool;
}

function registration(index: number) {
  const patientId = randomUUID();
  const demographics = {
    dateOfBirth: `19${10 + (index % 90)}-05-05`,
    sex: "female",
    city: `City ${index % 100}`,
    state: `S${index % 20}`,
  };
  const value = { demographics, registeredDate: new Date().toISOString().slice(0, 10), registeredAt: timestampNow() };
  const event = create(PatientEventSchema, {
    patientId,
    version: 1n,
    occurredAt: timestampNow(),
    event: { case: "registered", value },
  });
  const headers = { ce_id: randomUUID(), ce_type: "patient.v1.registered", ce_source: "/bench", ce_time: new Date().toISOString() };
  return { key: patientId, value: Buffer.from(toBinary(PatientEventSchema, event)), headers };
}

/** Publishes registrations and waits until they are counted. CPU of Kafka and Postgres is part of it. */
export function ingestRow(context: BenchContext): Row {
  const { platform, baselines } = context;
  const sender = createSender(createKafka({ brokers: platform.kafka.brokers, clientId: "bench" }, createLogger("bench", "silent")));
  const pool = openAnalytics(context);
  const countRead = async (): Promise<number> => {
    const { rows } = await pool.query("select coalesce(sum(next_offset), 0)::int as read from watermarks where topic = 'patient.v1'");
    return rows[0].read;
  };
  return {
    name: `analytics: ingest events, ${eventsAtOnce} at once`,
    concurrency: 1,
    things: eventsAtOnce,
    async request() {
      const before = await countRead();
      const messages = Array.from({ length: eventsAtOnce }, (_, index) => registration(index));
      while (messages.length > 0) await sender.send([{ topic: "patient.v1", messages: messages.splice(0, eventsPerSend) }]);
      while ((await countRead()) < before + eventsAtOnce) await delay(5);
    },
    baseline: baselines.copy,
    aims: { maxCpu: 18, minRate: 0.07 },
  };
}

/**
 * Rebuilds the roll-ups from the log, after a COPY has filled it. `fill` does the same unmeasured, if no row has done
 * it yet. A database of an earlier run (`BENCH_DATA_DIR`) is used as it is.
 */
export function createRebuild(context: BenchContext): { row: Row; fill: () => Promise<void> } {
  const { platform, processes, baselines, http } = context;
  const { url } = platform.services.analytics;
  const pool = openAnalytics(context);
  let seeded: Promise<number> | undefined;
  let rebuilt: Promise<void> | undefined;
  const seed = async () => {
    const started = performance.now();
    const events = await seedAnalytics(platform.databases.analytics.databaseUrl, patients, Date.now());
    process.stdout.write(`      seeded ${events} events in ${((performance.now() - started) / 1_000).toFixed(0)} s\n`);
    return events;
  };
  const rebuild = async () => {
    const { id } = JSON.parse(await http(url, "POST", "/analytics:rebuild", { status: 202 })) as { id: string };
    let largestMiB = 0;
    for (let state = ""; state !== "done"; await delay(1_000)) {
      ({ state } = JSON.parse(await http(url, "GET", `/analytics/rebuilds/${id}`)) as { state: string });
      largestMiB = Math.max(largestMiB, residentMiB(processes).analytics ?? 0);
    }
    process.stdout.write(`      analytics held at most ${largestMiB.toFixed(0)} MiB during the rebuild\n`);
  };
  const fill = async () => {
    if ((await pool.query("select from rebuilds where state = 'done'")).rowCount) return;
    seeded ??= seed();
    await seeded;
    rebuilt ??= rebuild();
    await rebuilt;
  };
  const row: Row = {
    name: "analytics: rebuild from the log, events",
    concurrency: 1,
    seconds: 0,
    async prepare() {
      seeded ??= seed();
      row.things = await seeded;
    },
    request: fill,
    baseline: baselines.copy,
    aims: { minRate: 0.08 },
  };
  return { row, fill };
}
