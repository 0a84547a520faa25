import fc from "fast-check";
import { expect, test } from "vitest";
import { sharesOfBeginnings } from "./word-frequencies-store.ts";

test("as many have a word that begins so as are left when each such word is taken from all", () => {
  const word = fc.stringMatching(/^[aäb王]{1,4}$/);
  fc.assert(
    fc.property(fc.dictionary(word, fc.double({ min: 0, max: 0.99, noNaN: true })), word, (shares, beginning) => {
      const without = Object.entries(shares).reduce((left, [each, share]) => (each.startsWith(beginning) ? left * (1 - share) : left), 1);
      expect(sharesOfBeginnings(new Map(Object.entries(shares)))(beginning)).toBeCloseTo(1 - without, 9);
    }),
  );
});

test("a word that all patients of the sample have does not hide the others", () => {
  const shareOf = sharesOfBeginnings(new Map(Object.entries({ a: 1, b: 0.25, c: 0.5 })));
  expect(shareOf("a")).toBeCloseTo(1, 5);
  expect(shareOf("b")).toBeCloseTo(0.25, 5);
  expect(shareOf("d")).toBeCloseTo(0, 9);
});
