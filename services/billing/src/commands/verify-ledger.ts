/**
 * `node services/billing/src/commands/verify-ledger.ts`: verifies the ledger, prints the findings as JSON, and exits 1
 * if there are any. It needs DATABASE_URL only.
 */
import { noted } from "@pm/kit/checks";
import { commonConfig, databaseConfig, readEnvironment } from "@pm/kit/config";
import { createLogger } from "@pm/kit/log";
import { databaseSettings, openDatabase } from "@pm/kit/postgres/database";
import { inCommand } from "@pm/kit/telemetry/command";
import { verifyLedger } from "../ledger/verification-store.ts";
import type { Tables } from "../tables.ts";

const config = readEnvironment({ LOG_LEVEL: commonConfig.LOG_LEVEL, ...databaseConfig });
const log = createLogger("billing", config.LOG_LEVEL);
const database = openDatabase<Tables>({ settings: databaseSettings(config), poolSize: 1, applicationName: "billing-verify", log });
const verification = await inCommand("billing", "verify-ledger", () =>
  noted(
    { pool: database.pool, check: "ledger", log },
    () => verifyLedger(database.pool),
    ({ holds }) => holds,
  ),
);
await database.pool.end();
process.stdout.write(`${JSON.stringify(verification)}\n`);
process.exitCode = verification.holds ? 0 : 1;
