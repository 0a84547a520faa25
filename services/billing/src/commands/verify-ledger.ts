/**
 * `node services/billing/src/commands/verify-ledger.ts`: verifies the ledger, prints the findings as JSON, and exits 1
 * if there are any. It needs DATABASE_URL only.
 */
import { noted } from "@pm/kit/checks";
import { commonConfig, databaseConfig, readEnvironment } from "@pm/kit/config";
import { createLogger } from "@pm/kit/log";
import { connectionConfig, databaseSettings } from "@pm/kit/postgres/database";
import { inCommand } from "@pm/kit/telemetry/command";
import { Pool } from "pg";
import { verifyLedger } from "../ledger/verification-store.ts";

const config = readEnvironment({ LOG_LEVEL: commonConfig.LOG_LEVEL, ...databaseConfig });
const log = createLogger("billing", config.LOG_LEVEL);
const pool = new Pool({ ...connectionConfig(databaseSettings(config)), max: 1 });
const holds = (found: { holds: boolean }) => found.holds;
const verify = () => noted({ pool, check: "ledger", log }, () => verifyLedger(pool), holds);
const verification = await inCommand("billing", "verify-ledger", verify, (found) => (holds(found) ? 0 : 1));
await pool.end();
process.stdout.write(`${JSON.stringify(verification)}\n`);
