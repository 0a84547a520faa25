/**
 * `npm run erasures:apply [-- --file erasures.ndjson]` erases everybody again who was erased before a backup was
 * restored, and `npm run erasures:export > erasures.ndjson` writes who they are: in the database `DATABASE_URL`, or in
 * that of `npm start`.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { localBrokers, localDatabaseUrl } from "./local.ts";

const [what = "", ...options] = process.argv.slice(2);
const path = join(import.meta.dirname, "../services/patient/src/commands", `${what}-erasures.ts`);
const { DATABASE_URL, KAFKA_BROKERS } = process.env;
const env = { ...process.env, DATABASE_URL: DATABASE_URL || localDatabaseUrl("patient"), KAFKA_BROKERS: KAFKA_BROKERS || localBrokers() };
process.exitCode = spawnSync(process.execPath, [path, ...options], { env, stdio: "inherit" }).status ?? 1;
