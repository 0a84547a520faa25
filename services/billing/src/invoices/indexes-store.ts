/** Indexes on invoices that are created while invoices are issued. */
import type { Logger } from "@pm/kit/log";
import { createIndexesConcurrently } from "@pm/kit/postgres/indexes";
import type { Kysely } from "kysely";
import type { Tables } from "../tables.ts";

/** To find the invoices of a payer: those that are addressed to them, and those without a number on accounts that they pay for. */
const indexes = {
  invoices_by_payer: "on invoices ((addressee ->> 'payerId'), id)",
  invoices_without_number: "on invoices (account_id, id) where number is null",
};

export async function createIndexes(db: Kysely<Tables>, log: Logger): Promise<void> {
  await createIndexesConcurrently(db, indexes, log);
}
