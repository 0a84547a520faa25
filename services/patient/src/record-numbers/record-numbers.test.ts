import fc from "fast-check";
import { expect, test } from "vitest";
import { checkDigit } from "./record-numbers.ts";

const digits = fc.stringMatching(/^\d{6,12}$/);
const isRight = (number: string) => checkDigit(number.slice(0, -1)) === Number(number.at(-1));

test("the check digit is that of ISO 7064, MOD 11,10", () => {
  // The example of the standard.
  expect(checkDigit("0794")).toBe(5);
});

test("one wrong digit is found", () => {
  fc.assert(
    fc.property(digits, fc.nat(), fc.integer({ min: 1, max: 9 }), (text, where, difference) => {
      const number = `${text}${checkDigit(text)}`;
      const at = where % number.length;
      const wrong = (Number(number[at]) + difference) % 10;
      expect(isRight(number)).toBe(true);
      expect(isRight(`${number.slice(0, at)}${wrong}${number.slice(at + 1)}`)).toBe(false);
    }),
  );
});

test("of two neighbours that changed places, nearly all are found", () => {
  let [swapped, found] = [0, 0];
  for (let text = 100_000; text < 110_000; text++) {
    const number = `${text}${checkDigit(String(text))}`;
    for (let at = 0; at < number.length - 1; at++) {
      if (number[at] === number[at + 1]) continue;
      swapped += 1;
      if (!isRight(`${number.slice(0, at)}${number[at + 1]}${number[at]}${number.slice(at + 2)}`)) found += 1;
    }
  }
  expect(found / swapped).toBeGreaterThan(0.97);
});
