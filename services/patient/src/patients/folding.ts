/**
 * Folding: what a search regards as the same. It is the service's own, so that it is the same in every locale of a
 * database server.
 */

/** Letters that Unicode does not take apart into a base and marks, and σ at the end of a word. */
const letters: Record<string, string> = { ß: "ss", ø: "o", ł: "l", đ: "d", ð: "d", þ: "th", æ: "ae", œ: "oe", ı: "i", ς: "σ" };
const otherLetters = /[ßøłđðþæœıς]/g;

/** In these scripts people leave marks out. In others a mark is or makes a letter: राम is not रीमा, か is not が. */
const marked = /([[\p{sc=Latn}\p{sc=Grek}\p{sc=Cyrl}\p{sc=Hebr}\p{sc=Arab}]&&\p{L}])\p{M}+/gv;

/** Most names are ASCII, and folding runs for every patient that is written. */
const isAscii = (text: string) => /^[\x20-\x7e]*$/.test(text);

/** Lower case, without marks where people leave them out. */
export function fold(text: string): string {
  if (isAscii(text)) return text.toLowerCase();
  return text
    .toLowerCase()
    .normalize("NFKD")
    .replace(marked, "$1")
    .replace(otherLetters, (letter) => letters[letter] ?? letter)
    .normalize();
}

/** The parts of a token that are letters, digits and their marks. */
export const split = (folded: string): string[] => folded.split(/[^\p{L}\p{N}\p{M}]+/u).filter(Boolean);

/**
 * The parts of a token as the version before 2026-11-27 folded them, without any mark. Rows that are not rewritten have
 * words of this form (decision 0022); this can go when no database has one.
 */
export function splitAsBefore(token: string): string[] {
  if (isAscii(token)) return split(token.toLowerCase());
  return token
    .toLowerCase()
    .normalize("NFKD")
    .replace(/\p{M}/gu, "")
    .replace(otherLetters, (letter) => (letter === "ς" ? letter : (letters[letter] ?? letter)))
    .split(/[^\p{L}\p{N}]+/u)
    .filter(Boolean);
}
