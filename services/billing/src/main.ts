/** Billing: everything that it consists of, in the order in which it starts. It closes in the reverse order. */
import { randomUUIDv7 } from "node:crypto";
import { registerTrail } from "@pm/kit/auditor/rest";
import { createCursors } from "@pm/kit/cursor";
import { createRestApp } from "@pm/kit/http/rest";
import { createGuard } from "@pm/kit/rpc/guard";
import { listenRpc } from "@pm/kit/rpc/server";
import { connectToAuth, startService } from "@pm/kit/service";
import { BillingService } from "@pm/proto/billing/v1/billing";
import { BillingInternalService } from "@pm/proto/billing/v1/internal";
import { createAccounts } from "./accounts/accounts.ts";
import { patientsOf, trailOf } from "./accounts/patients-store.ts";
import { createPayerBalance } from "./accounts/payer-balance.ts";
import { readConfig } from "./config.ts";
import { createPdfPool } from "./documents/pdf-pool.ts";
import { about, registerDocuments } from "./documents/rest.ts";
import { createConcealing } from "./erasure/concealing.ts";
import { createErasure } from "./erasure/erasure.ts";
import { createInvoices } from "./invoices/invoices.ts";
import { createReductions } from "./invoices/reductions.ts";
import { createHistory } from "./ledger/history.ts";
import { createBooks } from "./ledger/journal.ts";
import { registerBooks } from "./ledger/journal-rest.ts";
import { createLedger } from "./ledger/ledger.ts";
import { registerTotals } from "./ledger/rest.ts";
import { createStatements } from "./ledger/statements.ts";
import { createWatch } from "./ledger/watch.ts";
import { createLinks } from "./links/links.ts";
import { createPatients } from "./patient-client.ts";
import { createPayers } from "./payers/payers.ts";
import { createReconciliation, startReconciling } from "./reconciliation/reconciliation.ts";
import { registerBilling, secondScopes } from "./rpc.ts";
import type { Tables } from "./tables.ts";

const config = readConfig();
const parts = startService<Tables>({ service: "billing", config });
const { db, audit, relay, settings, log, lifecycle } = parts;
const { verifier, serviceToken } = connectToAuth(parts, config);

const watch = createWatch({ db, log });
const committed = (accountIds: string[]) => {
  relay.wake();
  watch.changed(accountIds);
};
const patients = createPatients({ patientUrl: config.PATIENT_URL, serviceToken });
const now = () => new Date();
const clinicTimeZone = config.CLINIC_TIME_ZONE;
const shared = {
  db,
  cursors: createCursors(config.CURSOR_KEY),
  now,
  newId: randomUUIDv7,
  committed,
  clinicTimeZone,
};
const accounts = createAccounts({ ...shared, defaultCurrency: config.CURRENCY });
const payers = createPayers(shared);
const payerBalance = createPayerBalance({ ...shared, payers });
const ledger = createLedger(shared);
const invoices = createInvoices(shared);
const reductions = createReductions(shared);
const history = createHistory(shared);
const statements = createStatements(shared);
const erasure = createErasure({ ...shared, retentionYears: config.BILLING_RETENTION_YEARS });
const concealing = createConcealing({ db });
const links = createLinks({ ...shared, statements });

const clinic = { name: config.CLINIC_NAME, address: config.CLINIC_ADDRESS, paymentDetails: config.CLINIC_PAYMENT_DETAILS };
const rest = createRestApp({ ...parts, ...about, verifier });
const pdfPool = createPdfPool({ log, lifecycle });
const trail = { audit, patientsOf: (accountIds: string[]) => patientsOf(db, accountIds) };
registerDocuments(rest, { ...trail, invoices, reductions, payers, statements, links, concealing, pdfPool, clinic, clinicTimeZone, now });
registerBooks(rest, { ...trail, books: createBooks(shared), concealed: concealing.concealed });
registerTotals(rest, shared);
registerTrail(rest, { ...parts, ofPatient: (patientId) => trailOf(db, patientId) });
await listenRpc({
  routes: (router) =>
    registerBilling(router, {
      accounts,
      links,
      payers,
      payerBalance,
      ledger,
      invoices,
      reductions,
      history,
      erasure,
      concealing,
      watch,
      patients,
      verifier,
      ...trail,
    }),
  services: [BillingService, BillingInternalService],
  rest: rest.app,
  guard: createGuard({ log, verifier, audit, secondScopes }),
  host: config.HOST,
  port: config.PORT,
  log,
  lifecycle,
});
// Streams never end by themselves. They are closed before the server, or it would wait for them.
lifecycle.onClose("watchers", () => watch.close());

const reconciliation = createReconciliation({ ...shared, accounts, patients, log });
startReconciling({ reconciliation, everyMs: config.RECONCILE_EVERY_MS, settings, pool: db.pool, log, lifecycle });
