/**
 * `node services/analytics/src/commands/replay-dead-letters.ts [topic]`: counts the events that waited, key by key and first to
 * last, and exits 1 where some wait still. `GET /analytics/dead-letters` says why. It leaves the audit entry that the operation
 * of the same name leaves, in the service's name: whoever may run commands in its pod is known to the cluster, not to us.
 */
import { randomUUID } from "node:crypto";
import { createDeadLetters } from "@pm/kit/kafka/dead-letters";
import { createLogger } from "@pm/kit/log";
import { databaseSettings, openDatabase } from "@pm/kit/postgres/database";
import { readConfig } from "../config.ts";
import { applyEvents } from "../ingest/ingest.ts";
import { insertAuditEntry, type Tables } from "../rollups/store.ts";

const config = readConfig();
const log = createLogger("analytics", "error");
const database = openDatabase<Tables>({ settings: databaseSettings(config), poolSize: 2, applicationName: "replay-dead-letters", log });
const [topic] = process.argv.slice(2);
const subject = topic ?? "all topics";
await insertAuditEntry(database, ["service:analytics", "dead-letters.replayed", subject, `command-${randomUUID()}`, {}]);
const result = await createDeadLetters({ database, groupId: "analytics", apply: applyEvents }).replayAll(topic);
process.stdout.write(`${JSON.stringify(result)}\n`);
await database.kysely.destroy();
process.exitCode = result.waiting === 0 ? 0 : 1;
