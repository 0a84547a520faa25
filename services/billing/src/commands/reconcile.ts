/**
 * `node services/billing/src/commands/reconcile.ts [--report]`: reconciles patients and accounts now, and prints the
 * report as JSON. With `--report` it repairs nothing.
 */
import { randomUUIDv7 } from "node:crypto";
import { createServiceTokens } from "@pm/kit/auth/service-tokens";
import { createCursors } from "@pm/kit/cursor";
import { createLogger } from "@pm/kit/log";
import { databaseSettings, openDatabase } from "@pm/kit/postgres/database";
import { inCommand } from "@pm/kit/telemetry/command";
import { createAccounts } from "../accounts/accounts.ts";
import { readConfig } from "../config.ts";
import { createPatients } from "../patient-client.ts";
import { createReconciliation } from "../reconciliation/reconciliation.ts";
import type { Tables } from "../tables.ts";

const config = readConfig();
const log = createLogger("billing", "warn");
const db = openDatabase<Tables>({ settings: databaseSettings(config), poolSize: 2, applicationName: "billing-reconcile", log });
const now = () => new Date();
const serviceToken = createServiceTokens({ authUrl: config.AUTH_URL, clientId: "billing", clientSecret: config.CLIENT_SECRET });
const patients = createPatients({ patientUrl: config.PATIENT_URL, serviceToken });
// Nobody is to be woken: the relay of the running service finds these events within half a second.
const shared = { db, cursors: createCursors(config.CURSOR_KEY), now, newId: randomUUIDv7, committed: () => undefined };
const accounts = createAccounts({ ...shared, defaultCurrency: config.CURRENCY });
const reconciliation = createReconciliation({ db, accounts, patients, now, log });
const repair = !process.argv.includes("--report");
const report = await inCommand("billing", "reconcile", () => reconciliation.run({ repair }));
await db.pool.end();
process.stdout.write(`${JSON.stringify(report)}\n`);
