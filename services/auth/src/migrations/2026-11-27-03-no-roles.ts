/** An account that somebody signed up for may have no role until an administrator gives it one. */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`alter table users drop constraint users_have_roles`.execute(db);
}
