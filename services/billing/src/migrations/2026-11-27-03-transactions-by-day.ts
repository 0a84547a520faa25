/** The journal reads transactions of all accounts in the order of time. Rows come in that order, so BRIN fits and stays small. */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`create index transactions_of_all_by_time on transactions using brin (created_at)`.execute(db);
}
