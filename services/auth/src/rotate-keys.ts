/**
 * `node services/auth/src/rotate-keys.ts`: makes the next signing key and prints which one it is and when it begins to sign.
 * It needs DATABASE_URL, KEY_ENCRYPTION_KEY and, where they are set for the service, KEY_PUBLISH_SECONDS and
 * ACCESS_TOKEN_SECONDS. Running replicas publish the key within seconds.
 */
import { commonConfig, databaseConfig, loadConfig } from "@pm/kit/config";
import { databaseSettings, openDatabase } from "@pm/kit/db";
import { createLogger } from "@pm/kit/log";
import { actingAlone, createChanges } from "./changes.ts";
import { keyConfig } from "./config.ts";
import { createSigningKeys } from "./keys.ts";
import type { AuthTables } from "./schema.ts";
import { createSealer } from "./seal.ts";

const config = loadConfig({ LOG_LEVEL: commonConfig.LOG_LEVEL, ...databaseConfig, ...keyConfig });
const log = createLogger("auth", config.LOG_LEVEL);
const database = openDatabase<AuthTables>({ settings: databaseSettings(config), poolSize: 1, applicationName: "rotate-keys", log });
const tokenSeconds = config.ACCESS_TOKEN_SECONDS;
const changes = createChanges({ database, tokenSeconds, now: Date.now, wake: () => undefined, revoked: () => undefined });
const keys = createSigningKeys({
  database,
  changes,
  sealer: createSealer(config.KEY_ENCRYPTION_KEY, "signing keys"),
  publishSeconds: config.KEY_PUBLISH_SECONDS,
  rotationSeconds: config.KEY_ROTATION_SECONDS,
  tokenSeconds,
  now: Date.now,
});
const { kid, activeFrom } = await keys.rotate(actingAlone());
await database.kysely.destroy();
process.stdout.write(`${JSON.stringify({ kid, signsFrom: new Date(activeFrom).toISOString() })}\n`);
