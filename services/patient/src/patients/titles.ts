/** Words that people write before and behind a name, and leave out again. */
import { fold } from "./folding.ts";

const before = new Set(
  (
    "mr mrs ms miss mx sir rev dr doctor prof professor med dipl herr frau mme mlle monsieur madame mademoiselle " +
    "sr sra srta senor senora senorita dott signor signora"
  ).split(" "),
);
const behind = new Set("jr sr ii iii iv md phd dds rn esq".split(" "));

const plain = (token: string) => fold(token).replaceAll(".", "");

/** Whether a token stands before a name, such as `Mrs` or `Dr.`. */
export const isTitle = (token: string): boolean => before.has(plain(token));

/** Whether a token stands behind a name, such as `Jr.` or `PhD`. */
export const endsName = (token: string): boolean => behind.has(plain(token));

/** A single letter of an alphabet, with or without a dot. */
export const isInitial = (token: string): boolean =>
  /^\p{L}$/u.test(plain(token)) && !/[\p{sc=Han}\p{sc=Hiragana}\p{sc=Katakana}\p{sc=Hangul}]/u.test(token);
