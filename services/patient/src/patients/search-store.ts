/** What a search matches, as conditions on `patients p`. */
import { sql } from "kysely";
import type { Condition } from "./access-store.ts";
import type { LookedFor } from "./word-frequencies-store.ts";

/**
 * What Postgres looks for: as `tsquery`s, and, for words that may be misspelled, parts of the one that it makes itself.
 */
export type WordQuery = {
  /** Every word as it is. */
  whole: string;
  /** The required words by their beginnings. */
  beginning: string;
  /** The required words one by one. `asked` is a word that may be misspelled. */
  parts: { query: string; asked: string | null }[];
  /** The words of `whole` and of `beginning`. */
  looked: { whole: LookedFor[]; beginning: LookedFor[] };
};

/**
 * Days on one of which a patient was born: the first and the last of each span. `word`: what else it may be, a number.
 */
export type Born = { spans: [string, string][]; word?: string };

/** One id, or words and days of birth. */
export type Match = "everybody" | "nobody" | { id: string } | { words?: WordQuery | undefined; born?: Born | undefined };

/** How near a match is to what was asked: each word as it is, the beginnings of words, or words that are like them. */
export type Tier = "whole" | "beginning" | "similar";

/** How Postgres finds the matches of a tier: in the index of words, or by looking at one patient after the other. */
type HowFound = {
  by: "index" | "walk";
  /**
   * Whether Postgres does not see the words when it plans. So all plans of a first page have the same expected cost,
   * and after five of them each connection keeps one. Planning takes a third of a search. For later pages Postgres sees
   * the cursor, and may plan each.
   */
  isForAnyWords?: boolean;
  /** The tier before it: its matches are left out. */
  before?: Tier | undefined;
};

/** A misspelled word is taken for this many words at most, those most like it. Beside other words fewer will do. */
const maxMeanings = 10;
const maxMeaningsBesideOthers = 3;

/**
 * The search with each word also taken for the words of names that are like it. Null if there are none. Postgres makes
 * it when it needs it, which is after all other matches. A word that begins as it was asked is found without it.
 */
function similarQuery({ parts }: WordQuery): Condition {
  const asked = parts.map((part) => part.asked);
  const meanings = parts.length > 1 ? maxMeaningsBesideOthers : maxMeanings;
  return sql`(
  select case when count(meanings) > 0 then
    string_agg('(' || query || coalesce(' | ' || meanings, '') || ')', ' & ' order by n)::tsquery end
  from unnest((select ${parts.map(({ query }) => query)}::text[]), (select ${asked}::text[])) with ordinality
    as part(query, asked, n)
  left join lateral (
    select string_agg('''' || word || '''', ' | ') as meanings from (
      select word from patient_words where word % asked and not starts_with(word, asked)
      order by similarity(word, asked) desc, word limit ${sql.lit(meanings)}
    ) similar_words
  ) meaning on true)`;
}

function wordCondition(words: WordQuery, tier: Tier, { before, isForAnyWords }: HowFound): Condition {
  const hasWords = (query: string) => sql`p.words @@ ${isForAnyWords ? sql`(select ${query}::tsquery)` : sql`${query}::tsquery`}`;
  const [whole, beginning] = [hasWords(words.whole), hasWords(words.beginning)];
  if (tier === "whole") return whole;
  if (tier === "beginning") return before === "whole" ? sql`${beginning} and (${whole}) is not true` : beginning;
  return sql`p.words @@ ${similarQuery(words)} and (${beginning}) is not true`;
}

function bornCondition({ spans, word }: Born): Condition {
  const either = spans.map(([first, last]) => sql`p.date_of_birth between ${first} and ${last}`);
  if (word !== undefined) either.push(sql`p.words @@ ${`'${word}':*`}::tsquery`);
  return sql`(${sql.join(either, sql` or `)})`;
}

/** The matches of a tier. */
export function tierCondition(match: Match, tier: Tier, how: HowFound): Condition {
  if (match === "everybody") return sql`true`;
  if (match === "nobody") return sql`false`;
  if ("id" in match) return sql`p.id = ${match.id}`;
  const conditions = [sql`true`];
  if (match.words) conditions.push(wordCondition(match.words, tier, how));
  if (match.born) conditions.push(bornCondition(match.born));
  const condition = sql.join(conditions, sql` and `);
  return how.by === "walk" ? sql`(${condition}) is true` : condition;
}

/** The matches of all tiers. */
export function matchCondition(match: Match, tiers: Tier[]): Condition {
  if (typeof match === "string" || "id" in match || !match.words || !tiers.includes("similar"))
    return tierCondition(match, "beginning", { by: "index" });
  const { words, born } = match;
  const either = sql`p.words @@ (${words.beginning}::tsquery || coalesce(${similarQuery(words)}, ${words.beginning}::tsquery))`;
  return born ? sql`${either} and ${bornCondition(born)}` : either;
}
