/** Payments have a day of their own, and settle other charges later by transactions that leave the balance as it is. */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`alter table payments add payment_date date`.execute(db);
  // Not valid: the check before was stricter, so no row has to be read.
  await sql`
    alter table transactions
      drop constraint transactions_type_check,
      drop constraint transactions_amount_check,
      add constraint transactions_type_check
        check (type in ('CHARGE', 'VOID', 'PAYMENT', 'REFUND', 'REALLOCATION')) not valid,
      add constraint transactions_amount_check check ((amount = 0) = (type = 'REALLOCATION')) not valid`.execute(db);
}
