/**
 * The whole platform with two more replicas of analytics. Services and Kafka are killed while people work. Each event
 * still counts once, and in the end the numbers of analytics match patient-service and billing's ledger.
 */
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { createKafka, createSender, type Message, runConsumer } from "@pm/kit/kafka/client";
import { createLogger } from "@pm/kit/log";
import { environmentFor } from "@pm/stack/environment";
import { query } from "@pm/stack/native/postgres";
import { type Platform, startPlatform } from "@pm/stack/platform";
import { freePort } from "@pm/stack/programs/ports";
import { type Service, startService } from "@pm/stack/services";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Client, logIn, type PatientAnswer, person } from "../e2e/client.ts";

const log = createLogger("test", "silent");
const dataDir = mkdtempSync(join(tmpdir(), "pm-chaos-"));
let platform: Platform;
let admin: Client;
const more: Service[] = [];
const closers: (() => unknown)[] = [];

beforeAll(async () => {
  platform = await startPlatform({ dataDir, durable: false, env: { auth: { ACCESS_TOKEN_SECONDS: "3600" } } });
  admin = await logIn(platform);
  const env = environmentFor({ ...platform, host: "127.0.0.1", brokers: platform.kafka.brokers }).analytics;
  for (let count = 0; count < 2; count++) more.push(await startService({ name: "analytics", env, port: await freePort() }));
});
afterAll(async () => {
  for (const close of closers) await close();
  await Promise.all(more.map((consumer) => consumer.stop()));
  await platform?.stop();
  rmSync(dataDir, { recursive: true, force: true });
});

const patients = 600;
const workers = 6;

/** Repeats a request until its answer has this status. A killed process swallows answers, so each request has an id. */
async function certainly(method: string, path: string, body: object | undefined, status: number): Promise<unknown> {
  const headers = { "idempotency-key": randomUUID() };
  for (let tries = 0; ; tries++) {
    const answer = await admin.send(method, path, body, headers).catch(() => undefined);
    if (answer?.status === status) return answer.body;
    if (tries > 50) throw new Error(`${method} ${path} answered ${answer?.status}: ${answer?.text}`);
    await delay(200);
  }
}
const billing = (operation: string, body: object) =>
  certainly("POST", `/billing.v1.BillingService/${operation}`, { ...body, requestId: randomUUID() }, 200);
const euros = (minorUnits: number) => ({ currencyCode: "EUR", minorUnits: String(minorUnits) });

/** The life of one patient: two charges, a payment, and for some a refund, a void, a deletion or a restoration. */
async function live(index: number): Promise<void> {
  const { id, billing: account } = (await certainly("POST", "/patients", person(), 201)) as PatientAnswer;
  let accountId = account.accountId;
  while (accountId === undefined) {
    await delay(200);
    accountId = ((await certainly("GET", `/patients/${id}`, undefined, 200)) as PatientAnswer).billing.accountId;
  }
  const charge = async (cents: number, more = {}) => {
    const made = await billing("CreateCharge", { accountId, amount: euros(cents), description: "Visit", ...more });
    return (made as { charge: { chargeId: string } }).charge;
  };
  await charge(5_000 + index);
  const second = await charge(1_250, { tax: { code: "VAT", rateBasisPoints: 1_900, mode: "TAX_MODE_EXCLUSIVE" } });
  const paid = (await billing("RecordPayment", {
    accountId,
    amount: euros(3_000 + 10 * (index % 500)),
    method: "PAYMENT_METHOD_CARD",
  })) as {
    payment: { paymentId: string };
  };
  if (index % 4 === 0) await billing("RefundPayment", { paymentId: paid.payment.paymentId, amount: euros(700), reason: "Too much" });
  if (index % 5 === 0) await billing("VoidCharge", { chargeId: second.chargeId, reason: "Not done" });
  if (index % 3 === 0) await certainly("DELETE", `/patients/${id}`, undefined, 204);
  if (index % 6 === 0) await certainly("POST", `/patients/${id}:restore`, undefined, 200);
}

test("consumers killed with -9, a broker that restarts, rebalances and redeliveries: each event is counted once, and nothing drifts", {
  timeout: 400_000,
}, async () => {
  // Publish every other batch again, like a relay killed between Kafka's acknowledgement and its own commit.
  const kafka = createKafka({ brokers: platform.kafka.brokers, clientId: "chaos" }, log);
  const sender = createSender(kafka);
  closers.push(() => sender.close());
  const ids = new Set<string>();
  let again = 0;
  let batches = 0;
  const lifecycle = {
    onClose: (_: string, close: () => unknown) => closers.unshift(close),
    onReady: () => undefined,
    notReady: async () => [],
    shutdown: async () => undefined,
  };
  await runConsumer({
    ...{ kafka, groupId: "chaos", topics: ["patient.v1", "billing.v1"], fromBeginning: true, log, lifecycle },
    async eachBatch({ batch, resolveOffset, commitOffsetsIfNecessary, uncommittedOffsets }) {
      const firsts = batch.messages.filter(({ headers }) => headers?.chaos_copy === undefined);
      for (const { headers } of firsts) ids.add(String(headers?.ce_id));
      if (firsts.length > 0 && batches++ % 2 === 0) {
        const messages = firsts.map(({ key, value, headers }): Message => {
          const texts = Object.entries(headers ?? {}).map(([name, text]) => [name, String(text)]);
          return { key: String(key), value: value ?? Buffer.alloc(0), headers: { ...Object.fromEntries(texts), chaos_copy: "1" } };
        });
        await sender.send([{ topic: batch.topic, messages }]);
        again += messages.length;
      }
      resolveOffset(batch.messages.at(-1)?.offset ?? batch.firstOffset() ?? "0");
      await commitOffsetsIfNecessary(uncommittedOffsets());
    },
  });

  let working = true;
  const disturb = async () => {
    const consumers = [platform.services.analytics, ...more];
    for (let round = 0; working; round++) {
      const victim = consumers[round % consumers.length];
      await victim?.kill("SIGKILL");
      if (round % 3 === 1) {
        await platform.kafka.kill();
        await platform.kafka.start();
      }
      await victim?.restart();
      await delay(500);
    }
    return Promise.all(consumers.map((consumer) => consumer.running() || consumer.restart()));
  };
  let next = 0;
  const work = async () => {
    while (next < patients) await live(next++);
  };
  await Promise.all([
    Promise.all(Array.from({ length: workers }, work)).finally(() => {
      working = false;
    }),
    disturb(),
  ]);

  const consistency = async () => (await admin.get("/analytics/consistency")).body;
  const quiet = {
    drift: 0,
    settled: true,
    lag: 0,
    deadLetters: 0,
    patientsWithoutAccount: { count: 0 },
    accountsWithoutPatient: { count: 0 },
  };
  await expect.poll(consistency, { timeout: 120_000, interval: 1_000 }).toMatchObject(quiet);
  expect(again).toBeGreaterThan(0);

  const [counted] = await query(platform.databases.analytics.databaseUrl, async (client) => {
    return (await client.query<{ seen: string }>("select count(*)::text as seen from events where stream <> 'auth.v1'")).rows;
  });
  const seen = Number(counted?.seen);
  await expect.poll(() => ids.size, { timeout: 30_000 }).toBe(seen);
  const report = (await admin.get("/analytics/patients?interval=month")).body as {
    totals: { registered: number; deleted: number; restored: number };
  };
  const { registered, deleted, restored } = report.totals;
  process.stdout.write(
    `events sent ${ids.size + again} (${ids.size} different), seen ${seen}, counted: ${registered} registered, ${deleted} deleted, ${restored} restored\n`,
  );
  expect(report.totals).toMatchObject({ registered: patients, deleted: patients / 3, restored: patients / 6 });
  // A rebuild from the log gives the same numbers.
  const location = (await admin.send("POST", "/analytics:rebuild")).headers.get("location") ?? "";
  await expect.poll(async () => (await admin.get(location)).body, { timeout: 60_000 }).toMatchObject({ state: "done" });
  await expect.poll(consistency, { timeout: 30_000, interval: 1_000 }).toMatchObject(quiet);
});
