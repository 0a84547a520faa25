/**
 * When two e-mail addresses are the same. The only place that decides it, for all that stores or compares addresses.
 */
import { domainToASCII } from "node:url";

/**
 * The key of an e-mail address: two spellings are the same address if their keys are equal. The text has the normal
 * form NFC, case is folded (Unicode, simple case folding), and the domain is the one that DNS asks for (IDNA). Compare
 * keys byte by byte. Do not let Postgres fold them again: its `lower` and `citext` know other rules, such as making an
 * "i" of the Turkish "İ" (U+0130).
 */
export function emailKey(address: string): string {
  if (usual.test(address)) return address.toLowerCase();
  const folded = foldCase(address.normalize("NFC")).normalize("NFC");
  const at = folded.lastIndexOf("@");
  if (at === -1) return folded;
  const domain = folded.slice(at + 1);
  return `${folded.slice(0, at)}@${domainToASCII(domain) || domain}`;
}

/** Most addresses; the rules above are slower, and change only the case of these. Labels of IDNA begin with `xn--`. */
const usual = /^[!-?A-~]+@(?:(?!xn--)[a-z0-9-]+\.)+[a-z]{2,}$/i;

/** Letters that JavaScript's cases map in another way than simple case folding does. */
const exceptions = new Map([
  ["\u0131", "\u0131"],
  ["\ufb05", "\ufb06"],
]);

/** Folds each character by itself, to one character. JavaScript has no case folding, but upper case and lower case. */
function foldCase(text: string): string {
  const mapped = (from: string, to: string) => ([...to].length === 1 ? to : from);
  return Array.from(text, (character) => {
    const upper = mapped(character, character.toUpperCase());
    return exceptions.get(character) ?? mapped(upper, upper.toLowerCase());
  }).join("");
}
