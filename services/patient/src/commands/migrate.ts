/** `node services/patient/src/commands/migrate.ts` */
import { join } from "node:path";
import { divideTrail } from "@pm/kit/audit/months";
import { clinicConfig, readEnvironment } from "@pm/kit/config";
import { grantToDoctor } from "@pm/kit/doctor/role";
import { runMigrations } from "@pm/kit/postgres/migrate";
import { assignEmailKeys } from "../patients/email-keys-store.ts";
import { createIndexes } from "../patients/indexes-store.ts";
import type { Tables } from "../tables.ts";

await runMigrations<Tables>("patient", join(import.meta.dirname, "../migrations"), async (db, log) => {
  await divideTrail(db, "patient", log);
  await grantToDoctor(db, "patient");
  await createIndexes(db, log);
  if (!readEnvironment({ EMAIL_UNIQUE: clinicConfig.EMAIL_UNIQUE }).EMAIL_UNIQUE) return;
  const patientIds = await assignEmailKeys(db);
  const message = "these patients have the e-mail address of another patient in another spelling; give one of them another address";
  if (patientIds.length > 0) log.warn({ patientIds }, message);
});
