/**
 * `node services/patient/src/commands/apply-erasures.ts [--file erasures.ndjson]`: after a restore, erases everybody
 * again who was erased before it, from the topic `patient.erasures` or from a file of `export-erasures.ts`, and lets
 * the running service tell billing again whose accounts are linked (docs/privacy.md).
 */
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { createKafka, kafkaSettings, readTopic } from "@pm/kit/kafka/client";
import { createLogger } from "@pm/kit/log";
import { databaseSettings, openDatabase } from "@pm/kit/postgres/database";
import { inCommand } from "@pm/kit/telemetry/command";
import { resendLinks } from "../billing/links-store.ts";
import { readErasureConfig } from "../config.ts";
import { applyErasure } from "../erasure/applying.ts";
import { erasuresTopic, fromLine, readErasure } from "../erasure/events.ts";
import type { Tables } from "../tables.ts";

const config = readErasureConfig();
const log = createLogger("patient", "error");
const flag = process.argv.indexOf("--file");
const file = flag === -1 ? undefined : process.argv[flag + 1];
const kafka = () => createKafka(kafkaSettings("patient", config), log);
const db = openDatabase<Tables>({ settings: databaseSettings(config), poolSize: 2, applicationName: "apply-erasures", log });
const result = await inCommand("patient", "apply-erasures", async () => {
  const erasures =
    file === undefined
      ? (await readTopic(kafka(), erasuresTopic, `patient.erasures.${randomUUID()}`)).map(readErasure)
      : readFileSync(file, "utf8").split("\n").filter(Boolean).map(fromLine);
  const byPatient = new Map(erasures.map((erasure) => [erasure.patient_id, erasure]));
  for (const erasure of byPatient.values()) await applyErasure(db, erasure, config.RECORD_RETENTION_YEARS);
  return { applied: byPatient.size, links: await resendLinks(db) };
});
await db.kysely.destroy();
process.stdout.write(`${JSON.stringify(result)}\n`);
