/** `node services/<name>/src/commands/migrate.ts`: the migration Job of a service. */
import { z } from "zod";
import { commonConfig, databaseConfig, readEnvironment } from "../config.ts";
import { createLogger } from "../log.ts";
import { migrate } from "./database.ts";

/** Migrates by `MIGRATION_DATABASE_URL`, waits up to a minute for Postgres to answer, exits 1 with a logged reason where it fails. */
export async function runMigrations(service: string, folder: string): Promise<void> {
  const config = readEnvironment({
    LOG_LEVEL: commonConfig.LOG_LEVEL,
    MIGRATION_DATABASE_URL: databaseConfig.DATABASE_URL,
    MIGRATION_DATABASE_PASSWORD_FILE: z.string().optional(),
    DATABASE_CA_FILE: databaseConfig.DATABASE_CA_FILE,
  });
  const log = createLogger(service, config.LOG_LEVEL);
  const settings = {
    url: config.MIGRATION_DATABASE_URL,
    passwordFile: config.MIGRATION_DATABASE_PASSWORD_FILE,
    caFile: config.DATABASE_CA_FILE,
  };
  const deadline = Date.now() + 60_000;
  for (;;) {
    try {
      await migrate(settings, folder, log);
      return;
    } catch (error) {
      const unreachable = error instanceof Error && "code" in error && /^(ECONN|ENOTFOUND|EAI_AGAIN|57P03)/.test(String(error.code));
      if (!unreachable || Date.now() > deadline) {
        log.fatal({ err: error }, "migration failed");
        process.exitCode = 1;
        return;
      }
      log.warn("Postgres does not answer yet");
      await new Promise((resolve) => setTimeout(resolve, 1_000));
    }
  }
}
