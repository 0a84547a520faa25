/** Blocking: only patients who share a key are compared. */
import type { Features, NameFeatures } from "./features.ts";

/** Changes with the keys: then pairs are looked for again among all patients. */
export const keysVersion = 1;

/** Letters that sound like another one, and those that say little but at the beginning. */
const alike: Record<string, string> = { c: "k", q: "k", z: "s" };
const silent = "aeiouyhw";

/**
 * A word as it sounds, roughly: its first letter and the consonants behind it, without doubles and in a few classes.
 */
function sound(word: string): string {
  const text = word.includes(" ") ? word.replaceAll(" ", "") : word;
  let result = "";
  for (let at = /^(kn|wr)/.test(text) ? 1 : 0; at < text.length && result.length < 4; at++) {
    let letter = text[at] as string;
    if (letter === "p" && text[at + 1] === "h") {
      letter = "f";
      at++;
    }
    letter = alike[letter] ?? letter;
    if (result === "" || !(silent.includes(letter) || result.endsWith(letter))) result += letter;
  }
  return result;
}

/** FNV-1a, as a number that Postgres takes as an integer. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) value = Math.imul(value ^ text.charCodeAt(at), 0x01000193);
  return value | 0;
}

/** The word of a street that says most. */
const longest = (words: string[]): string => words.reduce((one, other) => (other.length > one.length ? other : one), "");

/** How the parts of a name sound, the given name first. Of several given names, the first. */
const soundsOf = ({ given, family }: NameFeatures): string[] => [sound(given.split(" ")[0] ?? ""), sound(family)].filter(Boolean);

/**
 * `birthKeys`: the day of birth and how both names sound, in either order. Hardly anybody shares it but records of one
 * person, and most of these do.
 *
 * `keys`: the first of these, under which the record is kept, and what records of one person share one of, mostly
 * several: how both names sound, in either order; the day of birth and a first letter; and two of the house number, the
 * street and the postcode. People with an error in one of them meet by another.
 */
export function matchKeys({ names, born, places }: Features): { keys: number[]; birthKeys: number[] } {
  const allSounds = names.map((name) => soundsOf(name).sort());
  const isKnown = born?.length === 8;
  const birthKeys = isKnown ? allSounds.map((sounds) => hash(`d ${born} ${sounds.join(" ")}`)) : [];
  const keys = new Set(birthKeys.slice(0, 1));
  for (const sounds of allSounds) {
    if (sounds.length === 2) keys.add(hash(`n ${sounds.join(" ")}`));
    if (isKnown) for (const each of sounds) keys.add(hash(`b ${born} ${each[0]}`));
  }
  for (const { zipCode, numbers, words } of places) {
    const [number, street] = [numbers[0], sound(longest(words))];
    if (number && zipCode) keys.add(hash(`a ${zipCode} ${number}`));
    if (number && street) keys.add(hash(`h ${number} ${street}`));
    if (zipCode && street) keys.add(hash(`s ${zipCode} ${street}`));
  }
  return { keys: [...keys], birthKeys };
}
