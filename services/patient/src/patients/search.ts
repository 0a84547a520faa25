/**
 * Search words. This service splits and simplifies words itself, so that "ångström", "Angstrom" and "O'Neill" are found however
 * they are typed and whatever locale the database server has. Postgres finds words by their beginning in an index. If no word begins
 * like one of the search, that word may be misspelled, and similar words of names are searched for instead.
 */

import { isUuid } from "@pm/kit/uuid";
import type { PatientDatabase } from "../database.ts";
import type { PatientRecord, SearchWords } from "../tables.ts";
import type { Match } from "./list-store.ts";
import { phoneWords } from "./phone.ts";
import { similarWords } from "./search-store.ts";

/** Letters that Unicode does not take apart into a base and marks. */
const letters: Record<string, string> = { ß: "ss", ø: "o", ł: "l", đ: "d", ð: "d", þ: "th", æ: "ae", œ: "oe", ı: "i" };

/** Lower case without marks. */
function fold(text: string): string {
  // Most names are ASCII, and this runs for every patient that is written.
  if (/^[\x20-\x7e]*$/.test(text)) return text.toLowerCase();
  return text
    .toLowerCase()
    .normalize("NFKD")
    .replace(/\p{M}/gu, "")
    .replace(/[ßøłđðþæœı]/g, (letter) => letters[letter] ?? letter);
}

const separators = /[^\p{L}\p{N}]+/u;
/** Scripts that write names without spaces: what stands in the middle of a name is looked for too. */
const unspaced = /^[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Hangul}]{2,}$/u;

function nameWords(name: string): string[] {
  const words: string[] = [];
  for (const word of fold(name).split(/\s+/)) {
    const parts = word.split(separators).filter(Boolean);
    words.push(...parts);
    if (parts.length > 1) words.push(parts.join(""));
    for (const part of parts) if (unspaced.test(part)) words.push(...Array.from(part, (_, index) => part.slice(index)).filter(Boolean));
  }
  return [...new Set(words)];
}

/** The words of a record: of all its names, e-mails, phone numbers and identifiers. */
export function searchWords(record: PatientRecord): SearchWords {
  const { name, names: all, email, emails, phoneNumber, phones, identifiers = [] } = record;
  const names = all ? [...new Set(all.flatMap(({ text }) => nameWords(text)))] : nameWords(name);
  const words = [...names];
  if (email !== undefined) words.push(...emailWords(email));
  for (const { value } of emails?.slice(1) ?? []) words.push(...emailWords(value));
  if (phoneNumber !== undefined) words.push(...phoneWords(phoneNumber));
  for (const { value } of phones?.slice(1) ?? []) words.push(...phoneWords(value));
  for (const { value } of identifiers) words.push(...identifierWords(value));
  return { all: [...new Set(words)], names };
}

/** The address as a whole, and what is before its @. */
function emailWords(email: string): string[] {
  const address = fold(email);
  return [address, ...address.slice(0, address.indexOf("@")).split(separators).filter(Boolean)];
}

/** An identifier as a whole and in parts, however it is separated, and without the zeros at its beginning if it is a number. */
function identifierWords(value: string): string[] {
  const parts = fold(value).split(separators).filter(Boolean);
  const whole = parts.join("");
  return [...parts, whole, ...(/^0\d+$/.test(whole) ? [whole.replace(/^0+/, "")] : [])].filter(Boolean);
}

/** A search: an id, or words that all have to be there. */
export type Search = { id: string } | { words: string[] };

const maxWords = 8;

/** Reads `q`. Undefined where there is nothing in it that could be looked for. */
export function readSearch(q: string): Search | undefined {
  const text = q.trim();
  if (isUuid(text)) return { id: text };
  // However a number was typed, also with the zero that is dialled before it inside a country.
  const digits = /^[+\d\s()./-]{4,}$/.test(text) ? text.replace(/\D/g, "").replace(/^0+/, "") : "";
  if (digits.length >= 3) return { words: [digits] };
  const tokens = fold(text).split(/\s+/);
  const words = tokens.flatMap((token) => (token.includes("@") ? [token] : token.split(separators).filter(Boolean)));
  return words.length === 0 ? undefined : { words: words.slice(0, maxWords) };
}

const quote = (word: string) => `'${word.replace(/['\\]/g, "$&$&")}'`;
/** Fewer letters or digits begin too many words: alone they are a whole word, such as the names Bo and Li. */
const minLetters = 3;
/** But in scripts without letters one character is already a word. */
const inCharacters = /[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Hangul}]/u;

/** Words as a `tsquery`: each by its beginning, or as one of its meanings. */
export function toTsquery(words: string[], meanings?: Map<string, string[]>): string {
  const isAlone = words.every((word) => word.length < minLetters);
  // Beside another word two letters narrow a search, but two digits begin a million phone numbers.
  const isTooShort = (word: string) => word.length < (isAlone || /^\d/.test(word) ? minLetters : 2) && !inCharacters.test(word);
  const beginning = (word: string) => (isTooShort(word) ? quote(word) : `${quote(word)}:*`);
  return words.map((word) => `(${[beginning(word), ...(meanings?.get(word) ?? []).map(quote)].join(" | ")})`).join(" & ");
}

/** What a search matches. */
export function matchOf(search: Search | undefined): Match {
  if (search === undefined) return "nobody";
  return "id" in search ? search : { tsquery: toTsquery(search.words) };
}

/** The search as a `tsquery`, with each word also taken for the words of names that are like it. Undefined if none is. */
export async function correctSpelling(db: PatientDatabase, search: Search | undefined): Promise<string | undefined> {
  if (!search || "id" in search) return undefined;
  // Three letters are like too many words. Numbers and addresses are either right or wrong.
  const asked = search.words.filter((word) => /^\D{4,}$/.test(word) && !word.includes("@"));
  const rows = await similarWords(db, asked);
  if (rows.length === 0) return undefined;
  const meanings = new Map(asked.map((word) => [word, rows.filter((row) => row.asked === word).map((row) => row.word)]));
  return toTsquery(search.words, meanings);
}
