import { join } from "node:path";
import { runMigrations } from "@pm/kit/migration";

await runMigrations("patient", join(import.meta.dirname, "migrations"));
