import { createAuditPatients } from "@pm/kit/audit/migrations";
import type { Kysely } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await createAuditPatients(db, "analytics");
}
