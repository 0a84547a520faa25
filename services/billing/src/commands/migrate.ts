import { join } from "node:path";
import { runMigrations } from "@pm/kit/postgres/migrate";
import { createIndexes } from "../invoices/indexes-store.ts";
import type { Tables } from "../tables.ts";

await runMigrations<Tables>("billing", join(import.meta.dirname, "../migrations"), createIndexes);
