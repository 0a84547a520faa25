/** Accounts of records that were merged in patient-service: they keep their ledgers, and lead to the survivor's. */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  // link_revision: that of the last link or unlink, so that an earlier one that arrives late changes nothing.
  // had_links: whether an account was ever linked to this one. Only then it is asked which ones are.
  await sql`
    alter table accounts add column merged_into uuid references accounts, add column link_revision bigint not null default 0,
      add column had_links boolean not null default false`.execute(db);
  await sql`create index accounts_by_survivor on accounts (merged_into) where merged_into is not null`.execute(db);
}
