/**
 * `node services/analytics/src/check-consistency.ts`: prints what `GET /analytics/consistency` answers, and exits 1 where
 * something drifts, or where nothing stands still or somebody does not answer for a minute. `helm test` runs it.
 */
import { createServiceTokens } from "@pm/kit/auth";
import { databaseSettings, openDatabase } from "@pm/kit/db";
import { createDeadLetters } from "@pm/kit/dead-letters";
import { createKafka, kafkaSettings, offsetsOf } from "@pm/kit/kafka";
import { createLogger } from "@pm/kit/log";
import { readConfig } from "./config.ts";
import { createConsistency } from "./consistency.ts";
import { applyEvents } from "./ingest.ts";
import { streams } from "./schema.ts";
import type { Tables } from "./store.ts";

const config = readConfig();
const log = createLogger("analytics", "error");
const database = openDatabase<Tables>({ settings: databaseSettings(config), poolSize: 5, applicationName: "check-consistency", log });
const kafka = createKafka(kafkaSettings("analytics-check", config), log);
const { check } = createConsistency({
  database,
  deadLetters: createDeadLetters({ database, groupId: "analytics", apply: applyEvents }),
  patientUrl: config.PATIENT_URL,
  billingUrl: config.BILLING_URL,
  serviceToken: createServiceTokens({ authUrl: config.AUTH_URL, clientId: "analytics", clientSecret: config.CLIENT_SECRET }),
  offsets: () => offsetsOf(kafka, [...streams]),
});

const report = await check(60_000);
process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
await database.kysely.destroy();
process.exitCode = report.drift === 0 && report.settled ? 0 : 1;
