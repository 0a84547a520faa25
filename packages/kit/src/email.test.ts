import { domainToASCII } from "node:url";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { emailKey } from "./email.ts";

test.each([
  ["upper case", "ADA@Example.COM", "ada@example.com"],
  ["an accent as a character of its own", "Zoe\u0308@example.com", "zo\u00eb@example.com"],
  ["a domain with letters that DNS does not have", "ada@B\u00dcCHER.example", "ada@xn--bcher-kva.example"],
  ["full width letters in a domain", "ada@\uff45xample.com", "ada@example.com"],
  ["the Kelvin sign", "\u212aate@example.com", "kate@example.com"],
  ["a final sigma", "\u03c3\u03a3\u03c2@example.com", "\u03c3\u03c3\u03c3@example.com"],
])("%s does not make another address", (_, one, other) => {
  expect(emailKey(one)).toBe(emailKey(other));
  expect(emailKey(emailKey(one))).toBe(emailKey(one));
});

test.each([
  ["the Turkish capital i with a dot", "adm\u0130n@example.com", "admin@example.com"],
  ["the dotless i", "adm\u0131n@example.com", "admin@example.com"],
  ["a sharp s", "stra\u00dfe@example.com", "strasse@example.com"],
  ["full width letters before the @", "\uff41da@example.com", "ada@example.com"],
  ["a dot", "a.da@example.com", "ada@example.com"],
])("%s makes another address", (_, one, other) => {
  expect(emailKey(one)).not.toBe(emailKey(other));
});

test.each(["", "@", "nobody", "a@b@c", "a@", "a@..", "a@xn--\u0000", "\ud800@example.com"])(
  "%j has a key, which is its own key",
  (text) => {
    expect(emailKey(emailKey(text))).toBe(emailKey(text));
  },
);

test("each letter folds as Unicode's simple case folding does, which regular expressions have too", () => {
  const wrong: string[] = [];
  for (let code = 0x80; code < 0x1_f000; code++) {
    if (code >= 0xd800 && code < 0xe000) continue;
    const letter = String.fromCodePoint(code);
    if (letter !== letter.normalize("NFC")) continue;
    const spellings = new Set([letter.toLowerCase(), letter.toUpperCase(), letter.toUpperCase().toLowerCase()]);
    for (const spelling of spellings) {
      if (spelling === letter || [...spelling].length > 1) continue;
      const isSame = new RegExp(`^\\u{${code.toString(16)}}$`, "iu").test(spelling);
      if (isSame !== (emailKey(`${letter}@x`) === emailKey(`${spelling}@x`)))
        wrong.push(`${code.toString(16)} ${spelling.codePointAt(0)?.toString(16)}`);
    }
  }
  expect(wrong).toEqual([]);
});

test("an address in ASCII has the key that the rules for all addresses give it", () => {
  const label = fc.stringMatching(/^[A-Za-z0-9-]{1,8}$|^xn--[a-z0-9]{1,6}$/);
  const domain = fc.oneof(
    fc.array(label, { maxLength: 4 }).map((labels) => labels.join(".")),
    fc.stringMatching(/^[ -~]{0,12}$/),
  );
  fc.assert(
    fc.property(fc.stringMatching(/^[ -~]{0,8}$/), domain, (local, place) => {
      const folded = `${local}@${place}`.toLowerCase();
      const at = folded.lastIndexOf("@");
      expect(emailKey(`${local}@${place}`)).toBe(folded.slice(0, at + 1) + (domainToASCII(folded.slice(at + 1)) || folded.slice(at + 1)));
    }),
    { numRuns: 5_000 },
  );
});
