import { join } from "node:path";
import { divideTrail } from "@pm/kit/audit/months";
import { runMigrations } from "@pm/kit/postgres/migrate";

await runMigrations("analytics", join(import.meta.dirname, "../migrations"), (db, log) => divideTrail(db, "analytics", log));
