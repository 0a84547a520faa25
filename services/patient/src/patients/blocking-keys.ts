/** Blocking: only patients who share a key are compared. */
import type { Features, NameFeatures } from "./features.ts";

/** Changes with the keys: then pairs are looked for again among all patients. */
export const keysVersion = 1;

/** A word as it sounds, roughly: its first letter and the consonants behind it, without doubles and in a few classes. */
function sound(word: string): string {
  const text = word
    .replaceAll(" ", "")
    .replace(/^kn/, "n")
    .replace(/^wr/, "r")
    .replaceAll("ph", "f")
    .replaceAll("ck", "k")
    .replaceAll(/[cq]/g, "k")
    .replaceAll("z", "s");
  return text[0] === undefined ? "" : (text[0] + text.slice(1).replaceAll(/[aeiouyhw]/g, "")).replaceAll(/(.)\1+/g, "$1").slice(0, 4);
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
 * The day of birth and how both names sound, in either order. A record is kept under the first one. Hardly anybody shares it but
 * records of one person, and most of these do.
 */
export function birthKeys({ names, born }: Pick<Features, "names" | "born">): number[] {
  return born?.length === 8 ? names.map((name) => hash(`d ${born} ${soundsOf(name).sort().join(" ")}`)) : [];
}

/**
 * The first of the keys above, under which the record is kept, and what records of one person share one of, mostly several: how both
 * names sound, in either order; the day of birth and a first letter; and two of the house number, the street and the postcode. People
 * with an error in one of them meet by another.
 */
export function blockingKeys({ names, born, places }: Features): number[] {
  const keys = new Set(birthKeys({ names, born }).slice(0, 1));
  for (const name of names) {
    const sounds = soundsOf(name);
    if (sounds.length === 2) keys.add(hash(`n ${sounds.sort().join(" ")}`));
    if (born?.length === 8) for (const each of sounds) keys.add(hash(`b ${born} ${each[0]}`));
  }
  for (const { zipCode, numbers, words } of places) {
    const [number, street] = [numbers[0], sound(longest(words))];
    if (number && zipCode) keys.add(hash(`a ${zipCode} ${number}`));
    if (number && street) keys.add(hash(`h ${number} ${street}`));
    if (zipCode && street) keys.add(hash(`s ${zipCode} ${street}`));
  }
  return [...keys];
}
