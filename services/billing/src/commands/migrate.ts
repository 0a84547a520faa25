import { join } from "node:path";
import { divideTrail } from "@pm/kit/audit/months";
import { runMigrations } from "@pm/kit/postgres/migrate";

await runMigrations("billing", join(import.meta.dirname, "../migrations"), (db, log) => divideTrail(db, "billing", log));
