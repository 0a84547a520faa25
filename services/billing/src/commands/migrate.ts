import { join } from "node:path";
import { runMigrations } from "@pm/kit/postgres/migrate";

await runMigrations("billing", join(import.meta.dirname, "../migrations"));
