/**
 * A patient can be without e-mail and address, and patients can share an e-mail.
 *
 * `email_key` decides whether an e-mail is another patient's (packages/kit/src/email.ts), where the clinic wants it to
 * be one patient's (`EMAIL_UNIQUE`). The migrate command builds its unique index and computes missing keys.
 *
 * The version before finds conflicts by `patients_email` and cannot create patients without that index. So an e-mail
 * that others may have too is in `shared_email`, where that index does not see it. When no such version runs, the index
 * can go, and one column is enough.
 */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    alter table patients alter email drop not null, alter address_text drop not null,
      add column shared_email text, add column email_key text`.execute(db);
  // The version before changes e-mails without their keys. The key of an ASCII address is its lower case.
  await sql`
    create function set_email_key() returns trigger language plpgsql as $$ begin
      new.email_key := case
        when lower(new.email) = lower(old.email) then old.email_key
        when octet_length(new.email) = length(new.email) then lower(new.email collate "C")
      end;
      return new;
    end $$`.execute(db);
  await sql`
    create trigger changed_email before update of email on patients for each row
    when (new.email_key = old.email_key and new.email <> old.email)
    execute function set_email_key()`.execute(db);
}
