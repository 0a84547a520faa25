/** `node services/billing/src/commands/reconcile.ts [--report]`: reconciles patients and accounts now, prints the report as JSON; `--report` repairs nothing. */
import { randomUUIDv7 } from "node:crypto";
import { createServiceTokens } from "@pm/kit/auth/service-tokens";
import { createCursors } from "@pm/kit/cursor";
import { createLogger } from "@pm/kit/log";
import { databaseSettings, openDatabase } from "@pm/kit/postgres/database";
import { createAccounts } from "../accounts/accounts.ts";
import type { Tables } from "../accounts/store.ts";
import { config } from "../config.ts";
import { createPatients } from "../patient-client.ts";
import { createReconciliation } from "../reconciliation/reconciliation.ts";

const log = createLogger("billing", "warn");
const db = openDatabase<Tables>({ settings: databaseSettings(config), poolSize: 2, applicationName: "billing-reconcile", log });
const now = () => new Date();
const serviceToken = createServiceTokens({ authUrl: config.AUTH_URL, clientId: "billing", clientSecret: config.CLIENT_SECRET });
const patients = createPatients({ patientUrl: config.PATIENT_URL, serviceToken });
// The running service publishes what is written here: its relay looks twice a second.
const shared = { db, cursors: createCursors(config.CURSOR_KEY), now, newId: randomUUIDv7, committed: () => undefined };
const accounts = createAccounts({ ...shared, defaultCurrency: config.CURRENCY });
const report = await createReconciliation({ db, accounts, patients, now, log }).run({ repair: !process.argv.includes("--report") });
await db.kysely.destroy();
process.stdout.write(`${JSON.stringify(report)}\n`);
