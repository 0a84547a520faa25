import { registerTrail } from "@pm/kit/auditor/rest";
import { createRestApp } from "@pm/kit/http/rest";
import { listenHttp } from "@pm/kit/http/server";
import { offsetsOf } from "@pm/kit/kafka/client";
import { startGroupConsumer } from "@pm/kit/kafka/consumer";
import { createDeadLetters } from "@pm/kit/kafka/dead-letters";
import { runAsLeader } from "@pm/kit/postgres/leader";
import { connectToAuth, startService } from "@pm/kit/service";
import { createCharts } from "./charts/renderer.ts";
import { readConfig } from "./config.ts";
import { registerDashboard } from "./dashboard/rest.ts";
import { createDashboardSessions } from "./dashboard/session.ts";
import { registerErasures } from "./erasure/rest.ts";
import { applyEvents } from "./ingest/ingest.ts";
import { startComparing } from "./operations/comparing.ts";
import { createConsistency } from "./operations/consistency.ts";
import { registerOperations } from "./operations/rest.ts";
import { createPublisher } from "./publications/publisher.ts";
import { createRebuilds } from "./rebuild/rebuild.ts";
import { createRebuilder } from "./rebuild/worker.ts";
import { createReports } from "./reports/reports.ts";
import { registerReports } from "./reports/rest.ts";
import { about } from "./reports/schemas.ts";
import { streams, type Tables } from "./tables.ts";

const config = readConfig();
const clinicTimeZone = config.CLINIC_TIME_ZONE;
const groupId = "analytics";
const parts = startService<Tables>({ service: "analytics", config });
const { log, lifecycle, settings, db, kafka, audit, relay } = parts;
const { verifier, serviceToken } = connectToAuth(parts, config);

const deadLetters = createDeadLetters({ db, groupId, apply: applyEvents });
const rebuilds = createRebuilds({ db, groupId, log });
const rebuilder = createRebuilder(db.kysely, { settings, groupId, logLevel: config.LOG_LEVEL });
const rebuildLeader = runAsLeader({
  name: "analytics_rebuild",
  settings,
  pool: db.pool,
  pollMs: 2_000,
  step: rebuilder.step,
  log,
  lifecycle,
});
lifecycle.onClose("rebuild", rebuilder.stop);
const publisher = createPublisher({ db, groupId, clinicTimeZone, now: Date.now, log });
runAsLeader({
  name: "analytics_publications",
  settings,
  pool: db.pool,
  pollMs: 60_000,
  step: publisher.step,
  log,
  lifecycle,
});
const consistency = createConsistency({
  db,
  deadLetters,
  patientUrl: config.PATIENT_URL,
  billingUrl: config.BILLING_URL,
  clinicTimeZone,
  serviceToken,
  offsets: () => offsetsOf(kafka, [...streams]),
});
startComparing({ consistency, settings, db, log, lifecycle });

const reports = createReports({ db, now: Date.now, clinicTimeZone });
const charts = createCharts(lifecycle);
const sessions = createDashboardSessions({ authUrl: config.AUTH_URL, verifier, secret: config.CLIENT_SECRET, now: Date.now });
const rest = createRestApp({ ...parts, ...about, verifier });
registerReports(rest, { reports, charts, audit });
registerOperations(rest, { audit, deadLetters, rebuilds, consistency, wakeRebuilder: rebuildLeader.wake });
registerErasures(rest, { db });
registerTrail(rest, parts);
registerDashboard(rest, { reports, charts, sessions, audit, clinicTimeZone, now: Date.now });
await listenHttp({ app: rest.app, host: config.HOST, port: config.PORT, log, lifecycle });

startGroupConsumer({ kafka, groupId, topics: [...streams], db, apply: applyEvents, relay, log, lifecycle });
