import { expectChecks } from "@pm/kit/checks";
import type { Kysely } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await expectChecks(db, ["audit_chain", "ledger"]);
}
