/** The patient service: everything it is made of, in reading order. */

import { startAuditSealer } from "@pm/kit/audit/audit";
import { followRevocations, snapshotFromAuth } from "@pm/kit/auth/revocations";
import { createServiceTokens } from "@pm/kit/auth/service-tokens";
import { createVerifier } from "@pm/kit/auth/verifier";
import { readEnvironment } from "@pm/kit/config";
import { createCursors } from "@pm/kit/cursor";
import { createRestApp } from "@pm/kit/http/rest";
import { listenHttp } from "@pm/kit/http/server";
import { createKafka, createSender, kafkaSettings } from "@pm/kit/kafka/client";
import { startRelay } from "@pm/kit/kafka/outbox";
import { createLifecycle } from "@pm/kit/lifecycle";
import { createLogger } from "@pm/kit/log";
import { databaseSettings, openDatabase } from "@pm/kit/postgres/database";
import { createAskBilling, createBillingAccounts } from "./billing/accounts.ts";
import { startHousekeeping } from "./cleanup.ts";
import { patientConfig } from "./config.ts";
import { createImports } from "./files/import.ts";
import { registerFiles } from "./files/rest.ts";
import { createHistory } from "./patients/history.ts";
import { createLists } from "./patients/list.ts";
import { createPatients } from "./patients/patients.ts";
import { registerPatients } from "./patients/rest.ts";
import { about } from "./patients/schemas.ts";
import { createSharing } from "./patients/sharing.ts";
import { createTotals } from "./patients/totals.ts";
import { registerDocs } from "./swagger-ui.ts";
import type { Tables } from "./tables.ts";

const config = readEnvironment(patientConfig);
const log = createLogger("patient", config.LOG_LEVEL);
const lifecycle = createLifecycle({ log, drainMs: config.SHUTDOWN_DRAIN_MS, graceMs: config.SHUTDOWN_GRACE_MS });

const settings = databaseSettings(config);
const db = openDatabase<Tables>({ settings, poolSize: config.DATABASE_POOL_SIZE, applicationName: "patient", log, lifecycle });
const kafka = createKafka(kafkaSettings("patient", config), log);
const relay = startRelay({ database: db, settings, sender: createSender(kafka), service: "patient", log, lifecycle });
startAuditSealer({ database: db, settings, log, lifecycle });

const serviceToken = createServiceTokens({ authUrl: config.AUTH_URL, clientId: "patient", clientSecret: config.CLIENT_SECRET });
const fetchSnapshot = snapshotFromAuth({ authUrl: config.AUTH_URL, serviceToken });
const revocations = followRevocations({ service: "patient", kafka, fetchSnapshot, log, lifecycle });
const verifier = createVerifier({ authUrl: config.AUTH_URL, issuer: config.AUTH_ISSUER, audience: config.AUTH_AUDIENCE, revocations });
const billing = createBillingAccounts({ db, log, ask: createAskBilling({ billingUrl: config.BILLING_URL, serviceToken }) });
startHousekeeping({ db, log, lifecycle });

const now = () => new Date();
const cursors = createCursors(config.CURSOR_KEY);
const committed = relay.wake;
const lists = createLists({ db, cursors });
const imports = createImports({ db, committed, now });
billing.startWorker(lifecycle, imports.isRunning);
const rules = {
  patients: createPatients({ db, billing, committed, now }),
  lists,
  history: createHistory({ db, cursors }),
  sharing: createSharing({ db }),
  totals: createTotals({ db, cursors, now }),
};

const rest = createRestApp({ service: "patient", ...about, log, lifecycle, verifier });
registerDocs(rest);
registerFiles(rest, { lists, imports });
registerPatients(rest, rules);
await listenHttp({ app: rest.app, host: config.HOST, port: config.PORT, log, lifecycle });
