/** `node services/auth/src/migrate.ts` */
import { join } from "node:path";
import { runMigrations } from "@pm/kit/migration";

await runMigrations("auth", join(import.meta.dirname, "migrations"));
