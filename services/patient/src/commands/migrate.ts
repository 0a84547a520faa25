import { join } from "node:path";
import { runMigrations } from "@pm/kit/postgres/migrate";

await runMigrations("patient", join(import.meta.dirname, "../migrations"));
