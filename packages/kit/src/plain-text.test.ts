import * as fc from "fast-check";
import { expect, test } from "vitest";
import { faultOfText, plainTextPattern } from "./plain-text.ts";

const invisible = [
  ...["\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\u00ad", "\u034f", "\u061c", "\u180e", "\u200e", "\u200f"],
  ...["\u2800", "\u115f", "\u1160", "\u3164", "\uffa0", "\u{16fe4}", "\u{1d159}", "\u17b4", "\u2064", "\ufffa"],
  ...["\ufe0e", "\ufe0f", "\u{e0100}", "\u{e0041}", "\u{e007f}", " ", "\u00a0", "\u3000", "\u2028"],
];
const overrides = ["\u202a", "\u202b", "\u202c", "\u202d", "\u202e", "\u2066", "\u2067", "\u2068", "\u2069"];
const real = [
  ...["Ada Lovelace", "O'Neill", "José", "Nguyễn Thị Ánh", "王小明", "محمد", "דוד בן־גוריון", "שָׁלוֹם", "🙂", "x", "Ω"],
  // A family, a flag and a keycap of several characters; Persian with a non-joiner, Hindi and Sinhala with a joiner.
  ...["👩‍👩‍👧‍👦", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "1️⃣", "علی‌رضا", "می‌خواهم", "क्‍ष", "ශ්‍රී", "\u200fמשה", "محمد\u200e (2)", "Mül\u00adler"],
];

test.each(real)("%s is a text", (text) => {
  expect(faultOfText(text)).toBeUndefined();
});

test("an empty text has no fault, because emptiness is another rule", () => {
  expect(faultOfText("")).toBeUndefined();
});

test("a text of invisible characters only is refused, whichever they are", () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...invisible), { minLength: 1, maxLength: 20 }), (characters) => {
      expect(faultOfText(characters.join(""))).toBe("must have a visible character");
    }),
  );
});

test("a text that turns the direction of what follows is refused, wherever it does", () => {
  fc.assert(
    fc.property(fc.constantFrom(...real), fc.constantFrom(...overrides), fc.nat(), (text, override, at) => {
      const characters = Array.from(text);
      characters.splice(at % (characters.length + 1), 0, override);
      expect(faultOfText(characters.join(""))).toMatch(/^must not have characters that turn the direction of text/);
    }),
  );
});

test("control characters and halves of surrogate pairs are refused, wherever they are", () => {
  fc.assert(
    fc.property(fc.constantFrom(...real), fc.constantFrom("\u0000", "\n", "\t", "\u007f", "\u0085", "\ud800"), (text, character) => {
      for (const wrong of [character + text, text + character]) expect(faultOfText(wrong)).toBe("must not have control characters");
    }),
  );
});

test("a text with a letter and none of these characters is accepted, whatever else it has", () => {
  const harmless = fc.string({ unit: "binary" }).map((text) => text.replace(/[\p{Cc}\p{Cs}\u202a-\u202e\u2066-\u2069]/gu, ""));
  fc.assert(
    fc.property(harmless, fc.constantFrom("a", "ب", "字"), (text, letter) => {
      expect(faultOfText(text + letter)).toBeUndefined();
    }),
  );
});

test("the pattern of documents refuses what is refused, up to U+FFFF", () => {
  const pattern = new RegExp(plainTextPattern);
  for (let code = 0; code <= 0xffff; code++) {
    const character = String.fromCharCode(code);
    const isText = faultOfText(character) === undefined;
    if (code < 0xd800 || code > 0xdfff) expect(pattern.test(character), code.toString(16)).toBe(isText && character.trim() !== "");
  }
  for (const text of [...real, "a\u0000", "a\u202eb", ...overrides]) expect(pattern.test(text)).toBe(faultOfText(text) === undefined);
});
