import { runMigrations } from "@pm/kit/migration";

await runMigrations("billing", new URL("migrations", import.meta.url).pathname);
