import fc from "fast-check";
import { expect, test } from "vitest";
import { areForms } from "./nicknames.ts";
import { isOneEditAway, jaroWinkler, sharedWords } from "./similarity.ts";

test("Jaro-Winkler gives the values that its author published", () => {
  expect(jaroWinkler("martha", "marhta")).toBeCloseTo(0.961, 3);
  expect(jaroWinkler("dwayne", "duane")).toBeCloseTo(0.84, 3);
  expect(jaroWinkler("dixon", "dicksonx")).toBeCloseTo(0.813, 3);
  expect(jaroWinkler("abc", "xyz")).toBe(0);
});

test("the similarity of two words is the same both ways, from 0 to 1, and 1 for the same word only", () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 12 }), fc.string({ maxLength: 12 }), (one, other) => {
      const similarity = jaroWinkler(one, other);
      expect(similarity).toBeCloseTo(jaroWinkler(other, one), 12);
      expect(similarity >= 0 && similarity <= 1).toBe(true);
      if (one !== other) expect(similarity).toBeLessThan(1);
    }),
  );
});

test("one letter or digit, or two neighbours that changed places, are one edit", () => {
  for (const [one, other] of [
    ["19850131", "19850113"],
    ["smith", "smyth"],
    ["smith", "smit"],
    ["smith", "ssmith"],
    ["a", ""],
  ] as const)
    expect([one, other, isOneEditAway(one, other), isOneEditAway(other, one)]).toEqual([one, other, true, true]);
  expect(isOneEditAway("19850131", "19580113")).toBe(false);
});

test("words of a street are compared in any order, and its kind counts little", () => {
  const weightOf = (word: string) => (word === "st" ? 0.2 : 1);
  expect(sharedWords(["elm", "st"], ["st", "elm"], weightOf)).toBe(1);
  expect(sharedWords(["elm", "st"], ["oak", "st"], weightOf)).toBeLessThan(0.2);
  expect(sharedWords([], ["oak"], weightOf)).toBe(0);
});

test("names are forms of each other if they may be of one person", () => {
  expect([areForms("william", "bill"), areForms("bob", "robert"), areForms("william", "robert")]).toEqual([true, true, false]);
});
