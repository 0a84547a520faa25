import { join } from "node:path";
import { runMigrations } from "@pm/kit/migration";

await runMigrations("analytics", join(import.meta.dirname, "migrations"));
