/**
 * What a search by fields compares: the folding of `folding.ts` in SQL, for candidates that an index has found already.
 * It is the same in every locale of a server. A test compares both.
 */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  // Marks of Latin, Greek and Cyrillic, of Hebrew, and of Arabic. One expression, and not strict, so that Postgres
  // inlines it; ASCII takes the short way.
  await sql`
    create function folded(text text) returns text language sql immutable parallel safe as $$
      select case when octet_length(text) = length(text) then lower(text collate "C") collate "C" else
        normalize(replace(replace(replace(replace(translate(
          regexp_replace(normalize(lower(text collate "und-x-icu"), NFKD),
            '[\\u0300-\\u036f\\u0591-\\u05bd\\u05bf\\u05c1\\u05c2\\u05c4\\u05c5\\u05c7\\u0610-\\u061a\\u064b-\\u065f\\u0670\\u06d6-\\u06dc\\u06df-\\u06e4\\u06e7\\u06e8\\u06ea-\\u06ed]+', '', 'g'),
          'øłđðıς', 'olddiσ'), 'ß', 'ss'), 'þ', 'th'), 'æ', 'ae'), 'œ', 'oe'), NFC) collate "C"
      end $$`.execute(db);
}
