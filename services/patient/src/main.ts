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
import { createAskBilling, createBillingAccounts } from "./billing.ts";
import { patientConfig } from "./config.ts";
import { createLists } from "./lists.ts";
import { createPatients } from "./patients.ts";
import { registerPatients } from "./rest.ts";
import type { Tables } from "./schema.ts";

const config = loadConfig(patientConfig);
const log = createLogger("patient", config.LOG_LEVEL);
const lifetime = createLifetime({ log, drainMs: config.SHUTDOWN_DRAIN_MS, graceMs: config.SHUTDOWN_GRACE_MS });

const settings = databaseSettings(config);
const db = openDatabase<Tables>({ settings, poolSize: config.DATABASE_POOL_SIZE, applicationName: "patient", log, lifetime });
const sender = createSender(createKafka(kafkaSettings("patient", config), log));
const relay = startRelay({ database: db, settings, sender, service: "patient", log, lifetime });
startSealer({ database: db, settings, log, lifetime });

const verifier = createVerifier({
  authUrl: config.AUTH_URL,
  issuer: config.AUTH_ISSUER,
  audience: config.AUTH_AUDIENCE,
  isRevoked: () => false,
});
const serviceToken = createServiceTokens({ authUrl: config.AUTH_URL, clientId: "patient", clientSecret: config.CLIENT_SECRET });
const billing = createBillingAccounts({ db, log, ask: createAskBilling({ billingUrl: config.BILLING_URL, serviceToken }) });
billing.startWorker(lifetime);

const patients = createPatients({ db, billing, committed: relay.wake, now: () => new Date() });
const lists = createLists({ db, cursors: createCursors(config.CURSOR_KEY) });

const rest = createRestApp({
  service: "patient",
  title: "Patients",
  description: "Records of patients.",
  log,
  lifetime,
  verifier,
});
registerPatients(rest, { patients, lists });
await listenHttp({ app: rest.app, host: config.HOST, port: config.PORT, log, lifetime });
