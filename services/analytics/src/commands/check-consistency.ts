/**
 * `node services/analytics/src/commands/check-consistency.ts`: prints what `GET /analytics/consistency` answers, and exits 1 where
 * something drifts, or where nothing stands still or somebody does not answer for a minute. `helm test` runs it.
 */
import { createServiceTokens } from "@pm/kit/auth/service-tokens";
import { createKafka, kafkaSettings, offsetsOf } from "@pm/kit/kafka/client";
import { createDeadLetters } from "@pm/kit/kafka/dead-letters";
import { createLogger } from "@pm/kit/log";
import { databaseSettings, openDatabase } from "@pm/kit/postgres/database";
import { readConfig } from "../config.ts";
import { applyEvents } from "../ingest/ingest.ts";
import { createConsistency } from "../operations/consistency.ts";
import type { Tables } from "../rollups/store.ts";
import { streams } from "../rollups/types.ts";

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
