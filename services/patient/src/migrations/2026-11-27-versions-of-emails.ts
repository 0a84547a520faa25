/**
 * The trigger that gives the e-mails of the version before their keys leaves those of this version alone: it writes the
 * key itself, also where an address changes to another spelling and the key stays. Only the version before leaves
 * `words_version` as it is.
 */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create or replace trigger changed_email before update of email on patients for each row
    when (new.email_key = old.email_key and new.email <> old.email and new.words_version is not distinct from old.words_version)
    execute function set_email_key()`.execute(db);
}
