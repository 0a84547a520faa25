import { startAuditSealer } from "@pm/kit/audit/audit";
import { followRevocations, snapshotFromAuth } from "@pm/kit/auth/revocations";
import { createServiceTokens } from "@pm/kit/auth/service-tokens";
import { createVerifier } from "@pm/kit/auth/verifier";
import { createRestApp } from "@pm/kit/http/rest";
import { listenHttp } from "@pm/kit/http/server";
import { createKafka, createSender, kafkaSettings, offsetsOf } from "@pm/kit/kafka/client";
import { startGroupConsumer } from "@pm/kit/kafka/consumer";
import { createDeadLetters } from "@pm/kit/kafka/dead-letters";
import { startRelay } from "@pm/kit/kafka/outbox";
import { createLifecycle } from "@pm/kit/lifecycle";
import { createLogger } from "@pm/kit/log";
import { databaseSettings, openDatabase } from "@pm/kit/postgres/database";
import { runAsLeader } from "@pm/kit/postgres/leader";
import { createCharts } from "./charts/renderer.ts";
import { readConfig } from "./config.ts";
import { registerDashboard } from "./dashboard/rest.ts";
import { createDashboardSessions } from "./dashboard/session.ts";
import { applyEvents } from "./ingest/ingest.ts";
import { createConsistency } from "./operations/consistency.ts";
import { createAudit, registerAdmin } from "./operations/rest.ts";
import { createRebuilds } from "./rebuild/rebuild.ts";
import { createRebuilder } from "./rebuild/worker.ts";
import { createReports } from "./reports/reports.ts";
import { registerReports } from "./reports/rest.ts";
import { about } from "./reports/schemas.ts";
import type { Tables } from "./rollups/store.ts";
import { streams } from "./rollups/types.ts";

const config = readConfig();
const log = createLogger("analytics", config.LOG_LEVEL);
const lifecycle = createLifecycle({ log, drainMs: config.SHUTDOWN_DRAIN_MS, graceMs: config.SHUTDOWN_GRACE_MS });
const settings = databaseSettings(config);
const database = openDatabase<Tables>({ settings, poolSize: config.DATABASE_POOL_SIZE, applicationName: "analytics", log, lifecycle });
const kafka = createKafka(kafkaSettings("analytics", config), log);
const serviceToken = createServiceTokens({ authUrl: config.AUTH_URL, clientId: "analytics", clientSecret: config.CLIENT_SECRET });
const fetchSnapshot = snapshotFromAuth({ authUrl: config.AUTH_URL, serviceToken });
const revocations = followRevocations({ service: "analytics", kafka, fetchSnapshot, log, lifecycle });
const verifier = createVerifier({ authUrl: config.AUTH_URL, issuer: config.AUTH_ISSUER, audience: config.AUTH_AUDIENCE, revocations });

const groupId = "analytics";
const relay = startRelay({ database, settings, sender: createSender(kafka), service: "analytics", log, lifecycle });
startAuditSealer({ database, settings, log, lifecycle });
const deadLetters = createDeadLetters({ database, groupId, apply: applyEvents });
const rebuilds = createRebuilds({ db: database.kysely, groupId, log });
const rebuilder = createRebuilder(database.kysely, { settings, groupId, logLevel: config.LOG_LEVEL });
const rebuildLeader = runAsLeader({
  name: "analytics_rebuild",
  settings,
  pool: database.pool,
  pollMs: 2_000,
  step: rebuilder.step,
  log,
  lifecycle,
});
lifecycle.onClose("rebuild", rebuilder.stop);
const consistency = createConsistency({
  database,
  deadLetters,
  patientUrl: config.PATIENT_URL,
  billingUrl: config.BILLING_URL,
  serviceToken,
  offsets: () => offsetsOf(kafka, [...streams]),
});

const reports = createReports({ database, now: Date.now });
const charts = createCharts(lifecycle);
const sessions = createDashboardSessions({ authUrl: config.AUTH_URL, verifier, secret: config.CLIENT_SECRET, now: Date.now });
const rest = createRestApp({ service: "analytics", ...about, log, lifecycle, verifier });
registerReports(rest, { reports, charts });
registerAdmin(rest, { deadLetters, rebuilds, consistency, audit: createAudit(database), wakeRebuilder: rebuildLeader.wake });
registerDashboard(rest, { reports, charts, sessions });
await listenHttp({ app: rest.app, host: config.HOST, port: config.PORT, log, lifecycle });

startGroupConsumer({ kafka, groupId, topics: [...streams], database, apply: applyEvents, relay, log, lifecycle });
