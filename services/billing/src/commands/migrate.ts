import { join } from "node:path";
import { createAuditIndexes } from "@pm/kit/audit/migrations";
import { runMigrations } from "@pm/kit/postgres/migrate";

await runMigrations("billing", join(import.meta.dirname, "../migrations"), createAuditIndexes);
