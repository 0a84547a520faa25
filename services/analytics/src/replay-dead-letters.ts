/**
 * `node services/analytics/src/replay-dead-letters.ts [topic]`: counts the events that waited, key by key and first to
 * last, and exits 1 where some wait still. `GET /analytics/dead-letters` says why.
 */
import { databaseSettings, openDatabase } from "@pm/kit/db";
import { createDeadLetters } from "@pm/kit/dead-letters";
import { createLogger } from "@pm/kit/log";
import { readConfig } from "./config.ts";
import { applyEvents } from "./ingest.ts";
import type { Tables } from "./store.ts";

const config = readConfig();
const log = createLogger("analytics", "error");
const database = openDatabase<Tables>({ settings: databaseSettings(config), poolSize: 2, applicationName: "replay-dead-letters", log });
const result = await createDeadLetters({ database, groupId: "analytics", apply: applyEvents }).replayAll(process.argv[2]);
process.stdout.write(`${JSON.stringify(result)}\n`);
await database.kysely.destroy();
process.exitCode = result.waiting === 0 ? 0 : 1;
