/** The patient service: everything it is made of, in reading order. */

import { startSealer } from "@pm/kit/audit";
import { createServiceTokens, createVerifier } from "@pm/kit/auth";
import { loadConfig } from "@pm/kit/config";
import { createCursors } from "@pm/kit/cursor";
import { databaseSettings, openDatabase } from "@pm/kit/db";
import { createKafka, createSender, kafkaSettings } from "@pm/kit/kafka";
import { createLifetime } from "@pm/kit/lifetime";
import { createLogger } from "@pm/kit/log";
import { startRelay } from "@pm/kit/outbox";
import { createRestApp, listenHttp } from "@pm/kit/rest";
import { followRevocations, snapshotFromAuth } from "@pm/kit/revocations";
import { createAskBilling, createBillingAccounts } from "./billing.ts";
import { patientConfig } from "./config.ts";
import { registerDocs } from "./docs.ts";
import { about } from "./documents.ts";
import { createHistory } from "./history.ts";
import { startHousekeeping } from "./housekeeping.ts";
import { createImports } from "./imports.ts";
import { createLists } from "./lists.ts";
import { createPatients } from "./patients.ts";
import { registerPatients } from "./rest.ts";
import { registerFiles } from "./rest-files.ts";
import type { Tables } from "./schema.ts";
import { createSharing } from "./sharing.ts";
import { createTotals } from "./totals.ts";

const config = loadConfig(patientConfig);
const log = createLogger("patient", config.LOG_LEVEL);
const lifetime = createLifetime({ log, drainMs: config.SHUTDOWN_DRAIN_MS, graceMs: config.SHUTDOWN_GRACE_MS });

const settings = databaseSettings(config);
const db = openDatabase<Tables>({ settings, poolSize: config.DATABASE_POOL_SIZE, applicationName: "patient", log, lifetime });
const kafka = createKafka(kafkaSettings("patient", config), log);
const relay = startRelay({ database: db, settings, sender: createSender(kafka), service: "patient", log, lifetime });
startSealer({ database: db, settings, log, lifetime });

const serviceToken = createServiceTokens({ authUrl: config.AUTH_URL, clientId: "patient", clientSecret: config.CLIENT_SECRET });
const fetchSnapshot = snapshotFromAuth({ authUrl: config.AUTH_URL, serviceToken });
const { isRevoked } = followRevocations({ service: "patient", kafka, fetchSnapshot, log, lifetime });
const verifier = createVerifier({ authUrl: config.AUTH_URL, issuer: config.AUTH_ISSUER, audience: config.AUTH_AUDIENCE, isRevoked });
const billing = createBillingAccounts({ db, log, ask: createAskBilling({ billingUrl: config.BILLING_URL, serviceToken }) });
startHousekeeping({ db, log, lifetime });

const now = () => new Date();
const cursors = createCursors(config.CURSOR_KEY);
const committed = relay.wake;
const lists = createLists({ db, cursors });
const imports = createImports({ db, committed, now });
billing.startWorker(lifetime, imports.isRunning);
const rules = {
  patients: createPatients({ db, billing, committed, now }),
  lists,
  history: createHistory({ db, cursors }),
  sharing: createSharing({ db }),
  totals: createTotals({ db, cursors, now }),
};

const rest = createRestApp({ service: "patient", ...about, log, lifetime, verifier });
registerDocs(rest);
registerFiles(rest, { lists, imports });
registerPatients(rest, rules);
await listenHttp({ app: rest.app, host: config.HOST, port: config.PORT, log, lifetime });
