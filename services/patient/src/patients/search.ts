/**
 * Search words. This service splits and folds words itself, so that "ångström", "Angstrom" and "O'Neill" are found
 * however they are typed. Postgres finds words, and beginnings of words, in an index. A word may also be misspelled:
 * then it stands for the words of names that are like it.
 */

import { isUuid } from "@pm/kit/uuid";
import type { DateOrder, RecordSettings } from "../config.ts";
import type { PatientRecord, SearchWords } from "../tables.ts";
import { readBirthDate } from "./birth-date.ts";
import { matchKeys } from "./blocking-keys.ts";
import { featuresOf } from "./features.ts";
import { fold, split, splitAsBefore } from "./folding.ts";
import { phoneSearch, phoneWords } from "./phone.ts";
import type { Born, WordQuery } from "./search-store.ts";
import { sortName } from "./sort-name.ts";
import { endsName, isInitial, isTitle } from "./titles.ts";

/** Scripts that write names without spaces: what stands in the middle of a name is looked for too. */
const unspaced = /^[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Hangul}\p{M}]{2,}$/u;

function nameWords(name: string): string[] {
  const words: string[] = [];
  for (const token of new Set(fold(name).split(/\s+/))) {
    const parts = split(token);
    words.push(...parts);
    if (parts.length > 1) words.push(parts.join(""));
    for (const part of parts) if (unspaced.test(part)) words.push(...Array.from(part, (_, index) => part.slice(index)).filter(Boolean));
  }
  return words;
}

/** Every name of a patient. */
const namesOf = ({ name, firstName, lastName, names = [] }: PatientRecord): string[] => [
  ...[name, firstName ?? "", lastName ?? ""],
  ...names.slice(1).flatMap(({ text, given, family }) => [text, given ?? "", family ?? ""]),
];

/** The words of a record (names, e-mails, phone numbers, identifiers), and the keys by which it is compared. */
export function searchWords(record: PatientRecord): SearchWords {
  const { email, emails, phoneNumber, phones, identifiers = [] } = record;
  const names = [...new Set(nameWords(namesOf(record).join(" ")))];
  const words = [...names];
  if (email !== undefined) words.push(...emailWords(email));
  for (const { value } of emails?.slice(1) ?? []) words.push(...emailWords(value));
  if (phoneNumber !== undefined) words.push(...phoneWords(phoneNumber));
  for (const { value } of phones?.slice(1) ?? []) words.push(...phoneWords(value));
  for (const { value } of identifiers) words.push(...identifierWords(value));
  const city = record.address?.city;
  return {
    ...{ all: [...new Set(words)], names, sortName: sortName(record), cityKey: city === undefined ? undefined : fold(city) },
    ...matchKeys(featuresOf(record)),
  };
}

/** The address as a whole, and what is before its @. */
function emailWords(email: string): string[] {
  const address = fold(email);
  return [address, ...split(address.slice(0, address.indexOf("@")))];
}

/** An identifier as a whole and in parts, however it is separated, and without leading zeros if it is a number. */
function identifierWords(value: string): string[] {
  const parts = split(fold(value));
  const whole = parts.join("");
  return [...parts, whole, ...(/^0\d+$/.test(whole) ? [whole.replace(/^0+/, "")] : [])].filter(Boolean);
}

/**
 * Words that stand together in a search, and what they were in the words of the version before, if they were others.
 * One of `or` is enough too.
 */
type Term = { words: string[]; before?: string[]; or?: string[] };

/**
 * `nobody`: there is nothing to look for. `required` is what has to be there; `all` also has titles and initials, which
 * are only looked for as whole words.
 */
export type Search = "nobody" | { id: string } | { all: Term[]; required: Term[]; born?: Born | undefined };

const maxWords = 8;

/** Titles in front of a name, what follows it, and initials may be missing in the record. */
function isOptional(token: string, index: number, tokens: string[]): boolean {
  return isInitial(token) || tokens.slice(0, index + 1).every(isTitle) || tokens.slice(index).every(endsName);
}

function termsOf(token: string, asBefore: boolean): Term[] {
  if (token.includes("@")) return [{ words: [fold(token)] }];
  const words = split(fold(token));
  const before = asBefore ? splitAsBefore(token) : words;
  if (before.join(" ") !== words.join(" ")) return [{ words, before }];
  return words.map((word) => ({ words: [word] }));
}

/** `asBefore`: whether there may still be rows with the words of the version before. */
export type SearchSettings = { dateOrder: DateOrder; phoneRegion: RecordSettings["phoneRegion"]; asBefore: boolean };

/** Reads `q`. */
export function readSearch(q: string, { dateOrder, phoneRegion, asBefore }: SearchSettings): Search {
  const text = q.trim();
  if (isUuid(text)) return { id: text };
  const tokens = text.split(/\s+/);
  const isBesideName = tokens.some((token) => /\p{L}/u.test(token));
  const dates = tokens.map((token) => readBirthDate(token, dateOrder, isBesideName));
  const dateAt = dates.findIndex((date) => date !== undefined);
  const born = dates[dateAt];
  const rest = tokens.filter((_, index) => index !== dateAt);
  const [number, ...or] = (!born && phoneSearch(text, phoneRegion)) || [];
  if (number !== undefined) return { all: [{ words: [number], or }], required: [{ words: [number], or }] };
  const terms = rest.map((token, index) => ({ optional: isOptional(token, index, rest), terms: termsOf(token, asBefore) }));
  const all = terms.flatMap((each) => each.terms).slice(0, maxWords);
  const required = terms.flatMap((each) => (each.optional ? [] : each.terms)).slice(0, maxWords);
  if (all.length === 0 && !born) return "nobody";
  return { all, required: required.length > 0 ? required : all, born };
}

const quote = (word: string) => `'${word.replace(/['\\]/g, "$&$&")}'`;
/** Fewer letters or digits begin too many words: alone they are a whole word, such as the names Bo and Li. */
const minLetters = 3;
/** But in scripts without letters one character is already a word. */
const inCharacters = /[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Hangul}]/u;

/** How a word is looked for. */
type Form = (word: string) => string;

function beginningIn(terms: Term[]): Form {
  const isAlone = terms.every(({ words }) => words.every((word) => word.length < minLetters));
  // Beside another word two letters narrow a search, but two digits begin a million phone numbers.
  const isTooShort = (word: string) => word.length < (isAlone || /^\d/.test(word) ? minLetters : 2) && !inCharacters.test(word);
  return (word) => (isTooShort(word) ? quote(word) : `${quote(word)}:*`);
}

function termQuery({ words, before = [], or = [] }: Term, form: Form): string {
  const ways = [words, before, ...or.map((word) => [word])].filter((way) => way.length > 0);
  const all = ways.map((way) => way.map(form).join(" & "));
  return all.length > 1 ? all.map((each) => `(${each})`).join(" | ") : all.join();
}

export function toWordQuery({ all, required }: { all: Term[]; required: Term[] }): WordQuery | undefined {
  if (all.length === 0) return undefined;
  const form = beginningIn(required);
  const join = (queries: string[]) => queries.map((query) => `(${query})`).join(" & ");
  const parts = required.map((term) => {
    const [word = ""] = term.words;
    // Three letters are like too many words. Numbers and addresses are either right or wrong.
    const mayBeMisspelled = term.words.length === 1 && /^\D{4,}$/.test(word) && !word.includes("@");
    // Looking for the beginning of such a word again would cost more than all words that are like it.
    return mayBeMisspelled ? { query: quote(word), asked: word } : { query: termQuery(term, form), asked: null };
  });
  const wordsOf = (terms: Term[]) => terms.flatMap(({ words }) => words);
  return {
    whole: join(all.map((term) => termQuery(term, quote))),
    beginning: join(required.map((term) => termQuery(term, form))),
    parts,
    looked: {
      whole: wordsOf(all).map((word) => ({ word, isBeginning: false })),
      beginning: wordsOf(required).map((word) => ({ word, isBeginning: form(word) !== quote(word) })),
    },
  };
}
