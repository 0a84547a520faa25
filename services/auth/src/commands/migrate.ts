/** `node services/auth/src/commands/migrate.ts` */
import { join } from "node:path";
import { runMigrations } from "@pm/kit/postgres/migrate";

await runMigrations("auth", join(import.meta.dirname, "../migrations"));
