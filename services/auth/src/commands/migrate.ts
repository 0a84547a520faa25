/** `node services/auth/src/commands/migrate.ts` */
import { join } from "node:path";
import { divideTrail } from "@pm/kit/audit/months";
import { grantToDoctor } from "@pm/kit/doctor/role";
import { runMigrations } from "@pm/kit/postgres/migrate";
import type { AuthTables } from "../tables.ts";
import { assignEmailKeys } from "../users/email-keys-store.ts";

await runMigrations<AuthTables>("auth", join(import.meta.dirname, "../migrations"), async (db, log) => {
  await divideTrail(db, "auth", log);
  await grantToDoctor(db, "auth");
  const userIds = await assignEmailKeys(db);
  const message = "these accounts have the e-mail address of another account in another spelling; give one of them another address";
  if (userIds.length > 0) log.warn({ userIds }, message);
});
