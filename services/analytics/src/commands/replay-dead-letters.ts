/**
 * `node services/analytics/src/commands/replay-dead-letters.ts [topic]`: counts the dead letters that wait, key by key
 * and first to last. It exits with 1 if some still wait; `GET /analytics/dead-letters` says why. The audit entry names
 * the service, because the cluster knows who may run commands in its pods, and this service does not.
 */
import { randomUUID } from "node:crypto";
import { insertAuditEntries } from "@pm/kit/audit/audit";
import { createDeadLetters } from "@pm/kit/kafka/dead-letters";
import { createLogger } from "@pm/kit/log";
import { databaseSettings, openDatabase } from "@pm/kit/postgres/database";
import { inCommand } from "@pm/kit/telemetry/command";
import { readConfig } from "../config.ts";
import { applyEvents } from "../ingest/ingest.ts";
import type { Tables } from "../tables.ts";

const config = readConfig();
const log = createLogger("analytics", "error");
const db = openDatabase<Tables>({ settings: databaseSettings(config), poolSize: 2, applicationName: "replay-dead-letters", log });
const [topic] = process.argv.slice(2);
const entry = { actorId: "service:analytics", action: "dead-letters.replayed", subject: topic ?? "all topics" };
await insertAuditEntries(db, [{ ...entry, requestId: `command-${randomUUID()}` }]);
const deadLetters = createDeadLetters({ db, groupId: "analytics", apply: applyEvents });
const exitCodeOf = ({ waiting }: { waiting: number }) => (waiting === 0 ? 0 : 1);
const result = await inCommand("analytics", "replay-dead-letters", () => deadLetters.replayAll(topic), exitCodeOf);
process.stdout.write(`${JSON.stringify(result)}\n`);
await db.kysely.destroy();
