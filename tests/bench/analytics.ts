/**
 * Reports over the events of one million patients and five million of billing, and ingestion. The log is filled straight by
 * COPY and the roll-ups by a rebuild, which is a row of its own: it says how long it takes from the first to the last event.
 * `BENCH_PATIENTS` makes it smaller. Where `BENCH_DATA_DIR` has been filled before, neither is done again.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { create, toBinary } from "@bufbuild/protobuf";
import { timestampNow } from "@bufbuild/protobuf/wkt";
import { createKafka, createSender } from "@pm/kit/kafka/client";
import { createLogger } from "@pm/kit/log";
import { PatientEventSchema } from "@pm/proto/patient/v1/events";
import pg from "pg";
import { seedAnalytics } from "./analytics-seed.ts";
import type { Rows } from "./context.ts";
import { residentMiB } from "./measure.ts";

const patients = Number(process.env.BENCH_PATIENTS ?? 1_000_000);

/** Events of which each measurement of the ingest publishes so many. */
const eventsAtOnce = 20_000;

export const rows: Rows = async ({ platform, processes, http }) => {
  const base = platform.services.analytics.url;
  let isReady: Promise<void> | undefined;
  let cookie = "";

  /** Seeds and rebuilds, once. @throws Error where the rebuild takes longer than five minutes. */
  const prepare = (): Promise<void> => {
    isReady ??= (async () => {
      if ((await pool.query("select from rebuilds where state = 'done'")).rowCount) return;
      const started = performance.now();
      const events = await seedAnalytics(platform.databases.analytics.databaseUrl, patients, Date.now());
      process.stdout.write(`      seeded ${events} events in ${((performance.now() - started) / 1_000).toFixed(0)} s\n`);
      const rebuilding = performance.now();
      const { id } = JSON.parse(await http(base, "POST", "/analytics:rebuild", { status: 202 })) as { id: string };
      let largest = 0;
      for (;;) {
        const { state, eventsDone } = JSON.parse(await http(base, "GET", `/analytics/rebuilds/${id}`)) as {
          state: string;
          eventsDone: number;
        };
        largest = Math.max(largest, residentMiB(processes).analytics ?? 0);
        if (state === "done") {
          const seconds = (performance.now() - rebuilding) / 1_000;
          process.stdout.write(
            `      rebuilt ${eventsDone} events in ${seconds.toFixed(0)} s, at most ${largest.toFixed(0)} MiB resident\n`,
          );
          if (seconds > 300) throw new Error(`the rebuild took ${seconds.toFixed(0)} s; it must not take more than 300`);
          return;
        }
        await delay(1_000);
      }
    })();
    return isReady;
  };

  async function signIn(): Promise<void> {
    const response = await fetch(`${base}/analytics/dashboard/login`, {
      method: "POST",
      headers: { origin: base },
      body: new URLSearchParams(platform.admin),
      redirect: "manual",
    });
    cookie = response.headers.get("set-cookie")?.split(";")[0] ?? "";
    if (response.status !== 303) throw new Error(`signing in to the dashboard answered ${response.status}`);
  }

  /** Publishes registrations and waits until they are counted. */
  const sender = createSender(createKafka({ brokers: platform.kafka.brokers, clientId: "bench" }, createLogger("bench", "silent")));
  const pool = new pg.Pool({ connectionString: platform.databases.analytics.databaseUrl, max: 1 });
  // The platform is stopped while this connection is open.
  pool.on("error", () => undefined);
  const read = async (): Promise<number> => {
    const { rows } = await pool.query("select coalesce(sum(next_offset), 0)::int as read from watermarks where topic = 'patient.v1'");
    return rows[0].read;
  };
  async function ingest(): Promise<void> {
    const before = await read();
    const messages = Array.from({ length: eventsAtOnce }, (_, index) => {
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
    });
    // As many at a time as a relay sends.
    while (messages.length > 0) await sender.send([{ topic: "patient.v1", messages: messages.splice(0, 500) }]);
    while ((await read()) < before + eventsAtOnce) await delay(5);
  }

  // Every request asks for another period, so that no answer comes from the cache.
  const today = Date.now();
  const day = (ago: number) => new Date(today - ago * 86_400_000).toISOString().slice(0, 10);
  const report = (name: string, query: (n: number) => string) => ({
    name: `analytics: ${name}`,
    concurrency: 2,
    seconds: 8,
    prepare,
    limits: { p99Ms: 50 },
    request: (_worker: number, n: number) => http(base, "GET", `/analytics/${query(n)}`),
  });
  const month = (n: number) => `from=${day((n % 600) + 30 + Math.floor(n / 600))}&to=${day(n % 600)}`;
  const year = (n: number) => `from=${day((n % 300) + 364 - Math.floor(n / 300))}&to=${day(n % 300)}`;
  return [
    // A rate, so enough of them that the half second for which events may gather is little; CPU of Kafka and Postgres is in it.
    {
      name: `analytics: ingest events, ${eventsAtOnce} at once`,
      concurrency: 1,
      things: eventsAtOnce,
      limits: { cpuMs: 0.2, perSecond: 5_000 },
      request: ingest,
    },
    report("patients, 30 days by day, Berlin", (n) => `patients?${month(n)}&timeZone=Europe/Berlin`),
    report("patients, a year by week, Kolkata", (n) => `patients?${year(n)}&interval=week&timeZone=Asia/Kolkata`),
    report("patients, a year by city, Berlin", (n) => `patients?${year(n)}&interval=month&by=city&timeZone=Europe/Berlin`),
    report("patients, age pyramid", (n) => `patients?${year(n)}&interval=month&by=ageBand`),
    report("billing, 30 days by day, Berlin", (n) => `billing?${month(n)}&timeZone=Europe/Berlin`),
    report("billing, a year by month", (n) => `billing?${year(n)}&interval=month`),
    report("patients, a year by day, New York", (n) => `patients?${year(n)}&timeZone=America/New_York`),
    report("billing, a year by day, Kolkata", (n) => `billing?${year(n)}&timeZone=Asia/Kolkata`),
    report("billing, a year by day, Kolkata, chart", (n) => `billing?${year(n)}&timeZone=Asia/Kolkata&format=svg`),
    report("summary, 30 days, Berlin", (n) => `summary?${month(n)}&timeZone=Europe/Berlin`),
    {
      ...report("dashboard", () => ""),
      limits: { p99Ms: 200 },
      prepare: async () => {
        await prepare();
        await signIn();
      },
      request: async (_worker: number, n: number) => {
        const response = await fetch(`${base}/analytics/dashboard?${month(n)}&timeZone=Europe/Berlin`, { headers: { cookie } });
        if (response.status !== 200) throw new Error(`the dashboard answered ${response.status}`);
        return response.text();
      },
    },
  ];
};
