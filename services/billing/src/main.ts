/** Billing: everything it is made of, in the order in which it is built; closed in the reverse one. */
import { randomUUIDv7 } from "node:crypto";
import { startSealer } from "@pm/kit/audit";
import { createServiceTokens, createVerifier } from "@pm/kit/auth";
import { createCursors } from "@pm/kit/cursor";
import { databaseSettings, openDatabase } from "@pm/kit/db";
import { createKafka, createSender, kafkaSettings } from "@pm/kit/kafka";
import { createLifetime } from "@pm/kit/lifetime";
import { createLogger } from "@pm/kit/log";
import { startRelay } from "@pm/kit/outbox";
import { createRestApp } from "@pm/kit/rest";
import { followRevocations, snapshotFromAuth } from "@pm/kit/revocations";
import { createGuard, listenRpc } from "@pm/kit/rpc";
import { BillingService } from "@pm/proto/billing/v1/billing";
import { createAccounts } from "./accounts.ts";
import { config } from "./config.ts";
import { createHistory } from "./history.ts";
import { createInvoices } from "./invoices.ts";
import { createLedger } from "./ledger.ts";
import { createPatients } from "./patients.ts";
import { createPrinter } from "./printer.ts";
import { createReconciliation, startReconciling } from "./reconciliation.ts";
import { about, registerPages } from "./rest.ts";
import { registerBilling, secondScopes } from "./rpc.ts";
import type { Tables } from "./store.ts";
import { createTotals } from "./totals.ts";
import { createWatch } from "./watch.ts";

const service = "billing";
const log = createLogger(service, config.LOG_LEVEL);
const lifetime = createLifetime({ log, drainMs: config.SHUTDOWN_DRAIN_MS, graceMs: config.SHUTDOWN_GRACE_MS });
const settings = databaseSettings(config);
const database = openDatabase<Tables>({ settings, poolSize: config.DATABASE_POOL_SIZE, applicationName: service, log, lifetime });
const kafka = createKafka(kafkaSettings(service, config), log);

const relay = startRelay({ database, settings, sender: createSender(kafka), service, log, lifetime });
startSealer({ database, settings, log, lifetime });
const watch = createWatch({ db: database, log });
const committed = (accountIds: string[]) => {
  relay.wake();
  watch.changed(accountIds);
};

const serviceToken = createServiceTokens({ authUrl: config.AUTH_URL, clientId: service, clientSecret: config.CLIENT_SECRET });
const fetchSnapshot = snapshotFromAuth({ authUrl: config.AUTH_URL, serviceToken });
const { isRevoked } = followRevocations({ service, kafka, fetchSnapshot, log, lifetime });
const verifier = createVerifier({ authUrl: config.AUTH_URL, issuer: config.AUTH_ISSUER, audience: config.AUTH_AUDIENCE, isRevoked });
const patients = createPatients({
  patientUrl: config.PATIENT_URL,
  serviceToken,
});
const now = () => new Date();
const shared = { db: database, cursors: createCursors(config.CURSOR_KEY), now, newId: randomUUIDv7, committed };
const accounts = createAccounts({ ...shared, defaultCurrency: config.CURRENCY });
const ledger = createLedger(shared);
const invoices = createInvoices(shared);
const history = createHistory(shared);

const clinic = { name: config.CLINIC_NAME, address: config.CLINIC_ADDRESS, paymentDetails: config.CLINIC_PAYMENT_DETAILS };
const printer = createPrinter();
lifetime.onClose("printer", () => printer.close());
const rest = createRestApp({ service, ...about, log, lifetime, verifier });
registerPages(rest, { accounts, invoices, history, totals: createTotals(shared), printer, clinic, now });
await listenRpc({
  routes: (router) => registerBilling(router, { accounts, ledger, invoices, history, watch, patients, verifier }),
  services: [BillingService],
  rest: rest.app,
  guard: createGuard({ log, verifier, secondScopes }),
  host: config.HOST,
  port: config.PORT,
  log,
  lifetime,
});
// Streams never end by themselves: they end first, so that the server can close.
lifetime.onClose("watchers", () => watch.close());

const reconciliation = createReconciliation({ ...shared, accounts, patients, log });
startReconciling({ reconciliation, everyMs: config.RECONCILE_EVERY_MS, settings, pool: database.pool, log, lifetime });
