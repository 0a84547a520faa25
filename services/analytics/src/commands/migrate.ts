import { join } from "node:path";
import { divideTrail } from "@pm/kit/audit/months";
import { grantToDoctor } from "@pm/kit/doctor/role";
import { runMigrations } from "@pm/kit/postgres/migrate";

await runMigrations("analytics", join(import.meta.dirname, "../migrations"), async (db, log) => {
  await divideTrail(db, "analytics", log);
  await grantToDoctor(db, "analytics");
});
