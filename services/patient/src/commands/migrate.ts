import { join } from "node:path";
import { runMigrations } from "@pm/kit/postgres/migrate";
import { createIndexes } from "../patients/indexes-store.ts";

await runMigrations("patient", join(import.meta.dirname, "../migrations"), createIndexes);
