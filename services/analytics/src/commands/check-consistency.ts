/**
 * `node services/analytics/src/commands/check-consistency.ts`: prints the answer of `GET /analytics/consistency`. It
 * waits up to a minute until all events are counted and all services answer. It exits with 1 if numbers differ or did
 * not stand still. `helm test` runs it.
 */
import { createServiceTokens } from "@pm/kit/auth/service-tokens";
import { createKafka, kafkaSettings, offsetsOf } from "@pm/kit/kafka/client";
import { createDeadLetters } from "@pm/kit/kafka/dead-letters";
import { createLogger } from "@pm/kit/log";
import { databaseSettings, openDatabase } from "@pm/kit/postgres/database";
import { inCommand } from "@pm/kit/telemetry/command";
import { readConfig } from "../config.ts";
import { applyEvents } from "../ingest/ingest.ts";
import { createConsistency } from "../operations/consistency.ts";
import { streams, type Tables } from "../tables.ts";

const config = readConfig();
const log = createLogger("analytics", "error");
const db = openDatabase<Tables>({ settings: databaseSettings(config), poolSize: 5, applicationName: "check-consistency", log });
const kafka = createKafka(kafkaSettings("analytics-check", config), log);
const { check } = createConsistency({
  db,
  deadLetters: createDeadLetters({ db, groupId: "analytics", apply: applyEvents }),
  patientUrl: config.PATIENT_URL,
  billingUrl: config.BILLING_URL,
  clinicTimeZone: config.CLINIC_TIME_ZONE,
  serviceToken: createServiceTokens({ authUrl: config.AUTH_URL, clientId: "analytics", clientSecret: config.CLIENT_SECRET }),
  offsets: () => offsetsOf(kafka, [...streams]),
});

const exitCodeOf = ({ drift, settled }: { drift: number; settled: boolean }) => (drift === 0 && settled ? 0 : 1);
const report = await inCommand("analytics", "check-consistency", () => check(60_000), exitCodeOf);
process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
await db.kysely.destroy();
