/**
 * `node services/auth/src/commands/rotate-keys.ts`: creates the next signing key, and prints its id and when it starts
 * to sign. It needs DATABASE_URL and KEY_ENCRYPTION_KEY, and KEY_PUBLISH_SECONDS and ACCESS_TOKEN_SECONDS if they are
 * set for the service. Running replicas publish the key within seconds.
 */
import { createEncryptor } from "@pm/kit/encryption";
import { createLogger } from "@pm/kit/log";
import { databaseSettings, openDatabase } from "@pm/kit/postgres/database";
import { inCommand } from "@pm/kit/telemetry/command";
import { readKeyConfig } from "../config.ts";
import type { AuthTables } from "../tables.ts";
import { createSigningKeys } from "../tokens/signing-keys.ts";
import { createUnitOfWork, systemActor } from "../unit-of-work.ts";

const config = readKeyConfig();
const log = createLogger("auth", config.LOG_LEVEL);
const db = openDatabase<AuthTables>({ settings: databaseSettings(config), poolSize: 1, applicationName: "rotate-keys", log });
const parts = { db, tokenSeconds: config.ACCESS_TOKEN_SECONDS, now: Date.now };
const keys = createSigningKeys({
  ...parts,
  unitOfWork: createUnitOfWork({ ...parts, wake: () => undefined, onRevoked: () => undefined }),
  encryptor: createEncryptor(config.KEY_ENCRYPTION_KEY, "signing keys"),
  publishSeconds: config.KEY_PUBLISH_SECONDS,
  rotationSeconds: config.KEY_ROTATION_SECONDS,
});
const { kid, activeFrom } = await inCommand("auth", "rotate-keys", () => keys.rotate(systemActor()));
await db.kysely.destroy();
process.stdout.write(`${JSON.stringify({ kid, signsFrom: new Date(activeFrom).toISOString() })}\n`);
