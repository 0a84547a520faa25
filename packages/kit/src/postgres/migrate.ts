/** Migrations, and the command `node services/<name>/src/commands/migrate.ts` that applies them. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Kysely, PostgresDialect, sql } from "kysely";
import { type Migration, Migrator } from "kysely/migration";
import { Pool } from "pg";
import { z } from "zod";
import { commonConfig, databaseConfig, readEnvironment } from "../config.ts";
import { createLogger, type Logger } from "../log.ts";
import { inCommand } from "../telemetry/command.ts";
import { connectionConfig, type DatabaseSettings } from "./database.ts";

/** What a service does with its rows once the schema is the newest. It runs each time, so it must be repeatable. */
type AfterMigrations<Tables> = (db: Kysely<Tables>, log: Logger) => Promise<void>;

/**
 * Brings a database to the newest schema: applies every file of a folder, in order of names. Each file exports `up` and
 * no `down`, because schemas only go forward. A lock makes two Jobs at once safe. Runs as the owner role.
 * @throws the error of the migration that failed; its transaction is rolled back
 */
async function migrate<Tables>(
  settings: DatabaseSettings,
  folder: string,
  log: Logger,
  afterwards?: AfterMigrations<Tables>,
): Promise<void> {
  const pool = new Pool({ ...connectionConfig(settings), max: 1 });
  const db = new Kysely<Tables>({ dialect: new PostgresDialect({ pool }) });
  try {
    const provider = {
      async getMigrations() {
        const files = existsSync(folder) ? readdirSync(folder).filter((file) => /^\d.*\.ts$/.test(file)) : [];
        const entries = files.map(async (file) => {
          const migration = (await import(join(folder, file))) as Migration;
          return [file.replace(/\.ts$/, ""), { up: (db: Kysely<unknown>) => withShortWaits(db, migration) }] as const;
        });
        return Object.fromEntries(await Promise.all(entries));
      },
    };
    const { error, results } = await new Migrator({ db, provider }).migrateToLatest();
    for (const result of results ?? []) log.info({ migration: result.migrationName, status: result.status }, "migration");
    if (error) throw error;
    await afterwards?.(db, log);
  } finally {
    await db.destroy();
  }
}

/**
 * Applies a migration. While it waits for a lock, everybody else waits behind it. So it gives up after a second, and
 * `runMigrations` tries again.
 */
async function withShortWaits(db: Kysely<unknown>, { up }: Migration): Promise<void> {
  await sql`set local lock_timeout = '1s'`.execute(db);
  await up(db);
}

/** What programs need that work as the owner role. */
const ownerConfig = {
  MIGRATION_DATABASE_URL: databaseConfig.DATABASE_URL,
  MIGRATION_DATABASE_PASSWORD_FILE: z.string().optional(),
  DATABASE_CA_FILE: databaseConfig.DATABASE_CA_FILE,
};

/** The connection of the owner role, from the environment of migrations. */
export function readOwnerSettings(): DatabaseSettings {
  return ownerSettings(readEnvironment(ownerConfig));
}

const ownerSettings = (config: z.infer<z.ZodObject<typeof ownerConfig>>): DatabaseSettings => ({
  url: config.MIGRATION_DATABASE_URL,
  passwordFile: config.MIGRATION_DATABASE_PASSWORD_FILE,
  caFile: config.DATABASE_CA_FILE,
});

/**
 * Migrates the database of `MIGRATION_DATABASE_URL`. Waits up to a minute for Postgres to answer, and for those who
 * hold locks. If a migration fails, it logs the reason and exits with 1.
 */
export async function runMigrations<Tables>(service: string, folder: string, afterwards?: AfterMigrations<Tables>): Promise<void> {
  const config = readEnvironment({ LOG_LEVEL: commonConfig.LOG_LEVEL, ...ownerConfig });
  const log = createLogger(service, config.LOG_LEVEL);
  const settings = ownerSettings(config);
  const deadline = Date.now() + 60_000;
  for (;;) {
    try {
      await inCommand(service, "migrate", () => migrate(settings, folder, log, afterwards));
      return;
    } catch (error) {
      const code = error instanceof Error && "code" in error ? String(error.code) : "";
      const isLocked = code === "55P03";
      if ((!isLocked && !/^(ECONN|ENOTFOUND|EAI_AGAIN|57P03)/.test(code)) || Date.now() > deadline) {
        log.fatal({ err: error }, "migration failed");
        process.exitCode = 1;
        return;
      }
      log.warn(isLocked ? "somebody holds a lock that a migration needs" : "Postgres does not answer yet");
      await delay(1_000);
    }
  }
}
