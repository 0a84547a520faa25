/** The journal reads transactions of all accounts in the order of time, page by page. */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`create index transactions_of_all_by_time on transactions (created_at, id)`.execute(db);
}
