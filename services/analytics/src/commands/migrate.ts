import { join } from "node:path";
import { runMigrations } from "@pm/kit/postgres/migrate";

await runMigrations("analytics", join(import.meta.dirname, "../migrations"));
