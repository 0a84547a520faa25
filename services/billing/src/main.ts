/** Billing: everything it is made of, in the order in which it is built; closed in the reverse one. */
import { randomUUIDv7 } from "node:crypto";
import { startAuditSealer } from "@pm/kit/audit/audit";
import { followRevocations, snapshotFromAuth } from "@pm/kit/auth/revocations";
import { createServiceTokens } from "@pm/kit/auth/service-tokens";
import { createVerifier } from "@pm/kit/auth/verifier";
import { createCursors } from "@pm/kit/cursor";
import { createRestApp } from "@pm/kit/http/rest";
import { createKafka, createSender, kafkaSettings } from "@pm/kit/kafka/client";
import { startRelay } from "@pm/kit/kafka/outbox";
import { createLifecycle } from "@pm/kit/lifecycle";
import { createLogger } from "@pm/kit/log";
import { databaseSettings, openDatabase } from "@pm/kit/postgres/database";
import { createGuard } from "@pm/kit/rpc/guard";
import { listenRpc } from "@pm/kit/rpc/server";
import { BillingService } from "@pm/proto/billing/v1/billing";
import { createAccounts } from "./accounts/accounts.ts";
import type { Tables } from "./accounts/store.ts";
import { config } from "./config.ts";
import { createPrinter } from "./documents/printer.ts";
import { about, registerPages } from "./documents/rest.ts";
import { createInvoices } from "./invoices/invoices.ts";
import { createHistory } from "./ledger/history.ts";
import { createLedger } from "./ledger/ledger.ts";
import { createTotals } from "./ledger/totals.ts";
import { createWatch } from "./ledger/watch.ts";
import { createPatients } from "./patient-client.ts";
import { createReconciliation, startReconciling } from "./reconciliation/reconciliation.ts";
import { registerBilling, secondScopes } from "./rpc.ts";

const service = "billing";
const log = createLogger(service, config.LOG_LEVEL);
const lifecycle = createLifecycle({ log, drainMs: config.SHUTDOWN_DRAIN_MS, graceMs: config.SHUTDOWN_GRACE_MS });
const settings = databaseSettings(config);
const database = openDatabase<Tables>({ settings, poolSize: config.DATABASE_POOL_SIZE, applicationName: service, log, lifecycle });
const kafka = createKafka(kafkaSettings(service, config), log);

const relay = startRelay({ database, settings, sender: createSender(kafka), service, log, lifecycle });
startAuditSealer({ database, settings, log, lifecycle });
const watch = createWatch({ db: database, log });
const committed = (accountIds: string[]) => {
  relay.wake();
  watch.changed(accountIds);
};

const serviceToken = createServiceTokens({ authUrl: config.AUTH_URL, clientId: service, clientSecret: config.CLIENT_SECRET });
const fetchSnapshot = snapshotFromAuth({ authUrl: config.AUTH_URL, serviceToken });
const revocations = followRevocations({ service, kafka, fetchSnapshot, log, lifecycle });
const verifier = createVerifier({ authUrl: config.AUTH_URL, issuer: config.AUTH_ISSUER, audience: config.AUTH_AUDIENCE, revocations });
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
lifecycle.onClose("printer", () => printer.close());
const rest = createRestApp({ service, ...about, log, lifecycle, verifier });
registerPages(rest, { accounts, invoices, history, totals: createTotals(shared), printer, clinic, now });
await listenRpc({
  routes: (router) => registerBilling(router, { accounts, ledger, invoices, history, watch, patients, verifier }),
  services: [BillingService],
  rest: rest.app,
  guard: createGuard({ log, verifier, secondScopes }),
  host: config.HOST,
  port: config.PORT,
  log,
  lifecycle,
});
// Streams never end by themselves: they end first, so that the server can close.
lifecycle.onClose("watchers", () => watch.close());

const reconciliation = createReconciliation({ ...shared, accounts, patients, log });
startReconciling({ reconciliation, everyMs: config.RECONCILE_EVERY_MS, settings, pool: database.pool, log, lifecycle });
