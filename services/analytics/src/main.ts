import { startSealer } from "@pm/kit/audit";
import { createServiceTokens, createVerifier } from "@pm/kit/auth";
import { startGroupConsumer } from "@pm/kit/consumer";
import { databaseSettings, openDatabase } from "@pm/kit/db";
import { createDeadLetters } from "@pm/kit/dead-letters";
import { createKafka, createSender, kafkaSettings, offsetsOf } from "@pm/kit/kafka";
import { runAsLeader } from "@pm/kit/leader";
import { createLifetime } from "@pm/kit/lifetime";
import { createLogger } from "@pm/kit/log";
import { startRelay } from "@pm/kit/outbox";
import { createRestApp, listenHttp } from "@pm/kit/rest";
import { followRevocations, snapshotFromAuth } from "@pm/kit/revocations";
import { createAudit, registerAdmin } from "./admin.ts";
import { createCharts } from "./charts.ts";
import { readConfig } from "./config.ts";
import { createConsistency } from "./consistency.ts";
import { registerDashboard } from "./dashboard.ts";
import { createDashboardSessions } from "./dashboard-session.ts";
import { about } from "./documents.ts";
import { applyEvents } from "./ingest.ts";
import { createRebuilds } from "./rebuild.ts";
import { createRebuilder } from "./rebuild-worker.ts";
import { createReports } from "./reports.ts";
import { registerReports } from "./rest.ts";
import { streams } from "./schema.ts";
import type { Tables } from "./store.ts";

const config = readConfig();
const log = createLogger("analytics", config.LOG_LEVEL);
const lifetime = createLifetime({ log, drainMs: config.SHUTDOWN_DRAIN_MS, graceMs: config.SHUTDOWN_GRACE_MS });
const settings = databaseSettings(config);
const database = openDatabase<Tables>({ settings, poolSize: config.DATABASE_POOL_SIZE, applicationName: "analytics", log, lifetime });
const kafka = createKafka(kafkaSettings("analytics", config), log);
const serviceToken = createServiceTokens({ authUrl: config.AUTH_URL, clientId: "analytics", clientSecret: config.CLIENT_SECRET });
const fetchSnapshot = snapshotFromAuth({ authUrl: config.AUTH_URL, serviceToken });
const { isRevoked } = followRevocations({ service: "analytics", kafka, fetchSnapshot, log, lifetime });
const verifier = createVerifier({ authUrl: config.AUTH_URL, issuer: config.AUTH_ISSUER, audience: config.AUTH_AUDIENCE, isRevoked });

const groupId = "analytics";
const relay = startRelay({ database, settings, sender: createSender(kafka), service: "analytics", log, lifetime });
startSealer({ database, settings, log, lifetime });
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
  lifetime,
});
lifetime.onClose("rebuild", rebuilder.stop);
const consistency = createConsistency({
  database,
  deadLetters,
  patientUrl: config.PATIENT_URL,
  billingUrl: config.BILLING_URL,
  serviceToken,
  offsets: () => offsetsOf(kafka, [...streams]),
});

const reports = createReports({ database, now: Date.now });
const charts = createCharts(lifetime);
const sessions = createDashboardSessions({ authUrl: config.AUTH_URL, verifier, secret: config.CLIENT_SECRET, now: Date.now });
const rest = createRestApp({ service: "analytics", ...about, log, lifetime, verifier });
registerReports(rest, { reports, charts });
registerAdmin(rest, { deadLetters, rebuilds, consistency, audit: createAudit(database), wakeRebuilder: rebuildLeader.wake });
registerDashboard(rest, { reports, charts, sessions });
await listenHttp({ app: rest.app, host: config.HOST, port: config.PORT, log, lifetime });

startGroupConsumer({ kafka, groupId, topics: [...streams], database, apply: applyEvents, relay, log, lifetime });
