/** Indexes of patients that came after the first release: a million patients may be in use while they are created. */

import type { Logger } from "@pm/kit/log";
import { createIndexesConcurrently } from "@pm/kit/postgres/indexes";
import type { Kysely } from "kysely";
import type { Tables } from "../tables.ts";

const indexes = {
  patients_email_key: "unique on patients (email_key) where deleted_at is null and email_key is not null",
  patients_changed: "on patients (changed_xid)",
};

export async function createIndexes(db: Kysely<Tables>, log: Logger): Promise<void> {
  await createIndexesConcurrently(db, indexes, log);
}
