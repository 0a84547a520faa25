/** `node services/patient/src/commands/export-erasures.ts`: prints who was erased, one per line (docs/privacy.md). */
import { databaseConfig, readEnvironment } from "@pm/kit/config";
import { createLogger } from "@pm/kit/log";
import { databaseSettings, openDatabase } from "@pm/kit/postgres/database";
import { inCommand } from "@pm/kit/telemetry/command";
import { toLine } from "../erasure/events.ts";
import { allErasures } from "../erasure/store.ts";
import type { Tables } from "../tables.ts";

const settings = databaseSettings(readEnvironment(databaseConfig));
const db = openDatabase<Tables>({ settings, poolSize: 1, applicationName: "export-erasures", log: createLogger("patient", "error") });
await inCommand("patient", "export-erasures", async () => {
  for await (const erasure of allErasures(db)) process.stdout.write(toLine(erasure));
});
await db.kysely.destroy();
