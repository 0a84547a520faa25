/** `node services/billing/src/commands/migrate.ts` */
import { join } from "node:path";
import { divideTrail } from "@pm/kit/audit/months";
import { grantToDoctor } from "@pm/kit/doctor/role";
import { createIndexesConcurrently } from "@pm/kit/postgres/indexes";
import { runMigrations } from "@pm/kit/postgres/migrate";
import { verificationReads } from "../ledger/verification-store.ts";

/** Of tables that may be large and in use while they are created. */
const indexes = {
  accounts_restricted: "on accounts (id) where restricted_at is not null",
  // The invoices of a payer: those addressed to them, and those without a number on accounts that they pay for.
  invoices_by_payer: "on invoices ((addressee ->> 'payerId'), id)",
  invoices_without_number: "on invoices (account_id, id) where number is null",
  // What is open on the invoices of a payer, who may have very many that are paid.
  charges_open_on_invoices:
    "on charges (invoice_id) where invoice_id is not null and voided_at is null and settled + reduced + written_off < amount",
  requests_of_subject: "on requests (subject) where subject is not null",
  // Those of the release before, which an erasure has to look through.
  requests_without_subject: "on requests (id) where subject is null",
};

await runMigrations("billing", join(import.meta.dirname, "../migrations"), async (db, log) => {
  await createIndexesConcurrently(db, indexes, log);
  await divideTrail(db, "billing", log);
  await grantToDoctor(db, "billing", verificationReads);
});
