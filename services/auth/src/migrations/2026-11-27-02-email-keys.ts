/**
 * The key by which accounts are found (packages/kit/src/email.ts). The migrate command computes the keys of accounts
 * that exist. Where two of them would have the same key, both stay without one and are found by `email`, as before.
 *
 * While this version is rolled out, the one before it still writes addresses without keys, all of them ASCII. The
 * triggers give those their keys: the key of an ASCII address is its lower case.
 */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`alter table users add column email_key text constraint users_email_key_unique unique`.execute(db);
  await sql`
    create function set_email_key() returns trigger language plpgsql as $$ begin
      new.email_key := case when octet_length(new.email::text) = length(new.email::text) then lower(new.email::text collate "C") end;
      return new;
    end $$`.execute(db);
  await sql`
    create trigger new_email_key before insert on users for each row
    when (new.email_key is null) execute function set_email_key()`.execute(db);
  await sql`
    create trigger changed_email_key before update of email on users for each row
    when (new.email_key is not distinct from old.email_key and new.email::text <> old.email::text)
    execute function set_email_key()`.execute(db);
}
