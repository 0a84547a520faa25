/**
 * `node services/auth/src/commands/rotate-keys.ts`: makes the next signing key and prints which one it is and when it begins to sign.
 * It needs DATABASE_URL, KEY_ENCRYPTION_KEY and, where they are set for the service, KEY_PUBLISH_SECONDS and
 * ACCESS_TOKEN_SECONDS. Running replicas publish the key within seconds.
 */
import { commonConfig, databaseConfig, readEnvironment } from "@pm/kit/config";
import { createLogger } from "@pm/kit/log";
import { databaseSettings, openDatabase } from "@pm/kit/postgres/database";
import { keyConfig } from "../config.ts";
import { createSealer } from "../seal.ts";
import type { AuthTables } from "../tables.ts";
import { createSigningKeys } from "../tokens/signing-keys.ts";
import { actingAlone, createChanges } from "../unit-of-work.ts";

const config = readEnvironment({ LOG_LEVEL: commonConfig.LOG_LEVEL, ...databaseConfig, ...keyConfig });
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
