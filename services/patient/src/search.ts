/** What `q` means: an id, a phone number, or words of a name or an e-mail, from their beginning; where nothing has them, nearly right. */
import { type RawBuilder, sql } from "kysely";
import { isUuid } from "./ids.ts";

/** `exact`: words by their beginning. `fuzzy`: the whole of `q` with typing errors. */
export type Match = "exact" | "fuzzy";

/** How similar (0 to 1) is similar enough; of pg_trgm's word similarity. "cathrine" and "catherine" have 0.6. */
export const similarEnough = "0.45";

const escaped = (text: string) => text.replace(/[\\%_]/g, "\\$&");

/** However a phone number was typed: the stored one has only digits after its plus. */
function digitsOf(text: string): string | undefined {
  const digits = /^[+\d\s()./-]{4,}$/.test(text) ? text.replace(/\D/g, "") : "";
  return digits.length >= 3 ? digits : undefined;
}

/** Whether nearly right makes sense: not for ids and numbers, which are right or wrong, nor for what is too short to be similar to anything. */
export function allowsFuzzy(q: string): boolean {
  const text = q.trim();
  return text.length >= 4 && !isUuid(text) && digitsOf(text) === undefined;
}

/** `q` as a condition on `patients p`. */
export function searchCondition(q: string, match: Match): RawBuilder<unknown> {
  const text = q.trim().toLowerCase();
  if (isUuid(text)) return sql`p.id = ${text}`;
  if (match === "fuzzy") return sql`${text} <% p.search`;
  const digits = digitsOf(text);
  if (digits) return sql`p.search like ${`%${digits}%`}`;
  const words = text.split(/\s+/).map((word) => sql`p.search like ${`% ${escaped(word)}%`}`);
  return sql`(${sql.join(words.slice(0, 8), sql` and `)})`;
}
