/** Three consumers of one group, a real broker and a real database, and everything dies now and then: each event counts once. */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { createKafka, createSender, type Message } from "@pm/kit/kafka";
import { createLogger } from "@pm/kit/log";
import { PatientEventSchema } from "@pm/proto/patient/v1/events";
import { type Kafka, startKafka } from "@pm/stack/kafka";
import { freePort } from "@pm/stack/ports";
import { type Postgres, query, startPostgres } from "@pm/stack/postgres";
import { type Service, startService } from "@pm/stack/services";
import { afterAll, beforeAll, expect, test } from "vitest";

const log = createLogger("test", "silent");
let postgres: Postgres;
let broker: Kafka;
let databaseUrl: string;
const consumers: Service[] = [];

beforeAll(async () => {
  [postgres, broker] = await Promise.all([startPostgres({ durable: false }), startKafka()]);
  await broker.createTopics(
    ["patient.v1", "billing.v1", "auth.v1", "patient.v1.dead", "billing.v1.dead", "auth.v1.dead"].map((topic) => ({ topic })),
  );
  const urls = await postgres.createDatabase("analytics");
  databaseUrl = urls.databaseUrl;
  const env = {
    DATABASE_URL: databaseUrl,
    KAFKA_BROKERS: broker.brokers.join(","),
    // Nobody is there: this test asks for nothing that takes a token.
    AUTH_URL: "http://127.0.0.1:9",
    PATIENT_URL: "http://127.0.0.1:9",
    BILLING_URL: "http://127.0.0.1:9",
    CLIENT_SECRET: "not-a-secret-but-long-enough",
    LOG_LEVEL: "warn",
  };
  for (let index = 0; index < 3; index++) {
    const migration = index === 0 ? { MIGRATION_DATABASE_URL: urls.migrationDatabaseUrl } : {};
    consumers.push(await startService({ name: "analytics", env: { ...env, ...migration }, port: await freePort() }));
  }
});
afterAll(async () => {
  await Promise.all(consumers.map((consumer) => consumer.stop()));
  await Promise.all([postgres?.stop(), broker?.stop()]);
});

const patients = 6_000;
const registeredAt = Date.parse("2026-11-20T10:00:00Z");

/** What happens to one patient, in order. Every third is deleted, every sixth comes back. */
function eventsOf(index: number): Message[] {
  const patientId = randomUUID();
  const demographics = { dateOfBirth: "1990-01-01", sex: "female", city: `City ${index % 7}`, state: "" };
  const changes: NonNullable<MessageInitShape<typeof PatientEventSchema>["event"]>[] = [
    { case: "registered" as const, value: { demographics, registeredDate: "2026-11-20", registeredAt: timestampFromMs(registeredAt) } },
    ...(index % 3 === 0 ? [{ case: "deleted" as const, value: {} }] : []),
    ...(index % 6 === 0 ? [{ case: "restored" as const, value: { demographics } }] : []),
  ];
  return changes.map((event, version) => ({
    key: patientId,
    value: Buffer.from(
      toBinary(
        PatientEventSchema,
        create(PatientEventSchema, { patientId, version: BigInt(version + 1), occurredAt: timestampFromMs(registeredAt + version), event }),
      ),
    ),
    headers: { ce_id: randomUUID(), ce_type: `patient.v1.${event.case}`, ce_source: "/chaos", ce_time: new Date().toISOString() },
  }));
}

type Counted = { seen: string; registered: string; deleted: string; restored: string };
const count = (): Promise<Counted | undefined> =>
  query(databaseUrl, async (client) => {
    const sum = (measure: string) =>
      `(select coalesce(sum(amount), 0)::text from rollups r join rollup_state using (generation) where measure = 'patients.${measure}' and grain = 3)`;
    const text = `select (select count(*)::text from events) as seen, ${sum("registered")} as registered, ${sum("deleted")} as deleted, ${sum("restored")} as restored`;
    return (await client.query<Counted>(text)).rows[0];
  });

test("consumers killed with -9, a broker that restarts, rebalances and redeliveries: each event is counted once", {
  timeout: 300_000,
}, async () => {
  const sender = createSender(createKafka({ brokers: broker.brokers, clientId: "chaos" }, log));
  let unique = 0;
  let sent = 0;
  let sending = true;
  const send = async () => {
    for (let index = 0; index < patients; index += 100) {
      const messages = Array.from({ length: 100 }, (_, offset) => eventsOf(index + offset)).flat();
      unique += messages.length;
      // Some batches arrive twice, as from a relay that died between Kafka's acknowledgement and its own note of it.
      for (let copy = 0; copy < (index % 1_000 === 0 ? 2 : 1); copy++) {
        for (;;) {
          try {
            await sender.send([{ topic: "patient.v1", messages }]);
            sent += messages.length;
            break;
          } catch {
            await delay(200);
          }
        }
      }
      await delay(60);
    }
    sending = false;
  };
  const disturb = async () => {
    for (let round = 0; sending; round++) {
      const victim = consumers[round % consumers.length];
      await victim?.kill("SIGKILL");
      if (round % 3 === 1) {
        await broker.kill();
        await broker.start();
      }
      await victim?.restart();
      await delay(500);
    }
  };
  await Promise.all([send(), disturb()]);
  const expected = { seen: String(unique), registered: String(patients), deleted: String(patients / 3), restored: String(patients / 6) };
  await expect.poll(count, { timeout: 120_000, interval: 500 }).toEqual(expected);
  const counted = await count();
  process.stdout.write(
    `events sent ${sent} (${unique} different), seen ${counted?.seen}, counted ${Number(counted?.registered) + Number(counted?.deleted) + Number(counted?.restored)}\n`,
  );
  await sender.close();
  // Nothing comes later either.
  await delay(2_000);
  expect(await count()).toEqual(expected);
  const dead = await query(databaseUrl, (client) => client.query("select reason from dead_letters"));
  expect(dead.rows).toEqual([]);
});
