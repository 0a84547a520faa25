/** `node services/billing/src/commands/verify-ledger.ts`: prints what was found as JSON and exits 1 where the ledger does not hold. Needs DATABASE_URL only. */
import { commonConfig, databaseConfig, readEnvironment } from "@pm/kit/config";
import { createLogger } from "@pm/kit/log";
import { databaseSettings, openDatabase } from "@pm/kit/postgres/database";
import type { Tables } from "../accounts/store.ts";
import { verifyLedger } from "../ledger/verification.ts";

const config = readEnvironment({ LOG_LEVEL: commonConfig.LOG_LEVEL, ...databaseConfig });
const log = createLogger("billing", config.LOG_LEVEL);
const database = openDatabase<Tables>({ settings: databaseSettings(config), poolSize: 1, applicationName: "billing-verify", log });
const verification = await verifyLedger(database.pool);
await database.kysely.destroy();
process.stdout.write(`${JSON.stringify(verification)}\n`);
process.exitCode = verification.holds ? 0 : 1;
