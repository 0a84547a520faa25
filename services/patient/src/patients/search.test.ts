import { expect, test } from "vitest";
import { readSearch, searchWords, toTsquery } from "./search.ts";

const words = (name: string, email = "x@example.com", phoneNumber?: string) =>
  searchWords({
    name,
    email,
    dateOfBirth: "1990-01-01",
    address: { text: "x" },
    registeredDate: "2026-01-01",
    ...(phoneNumber && { phoneNumber }),
  }).all;

test("names are found without marks, hyphens and apostrophes, and from the middle where a script has no spaces", () => {
  expect(words("Åsa O'Neill-Núñez")).toEqual(expect.arrayContaining(["asa", "o", "neill", "nunez", "oneillnunez"]));
  expect(words("Jürgen Groß")).toEqual(expect.arrayContaining(["jurgen", "gross"]));
  expect(words("王小明")).toEqual(expect.arrayContaining(["王小明", "小明", "明"]));
});

test("an e-mail is found as a whole and by the words before its @, a number with and without its country", () => {
  expect(words("A", "Ada.King+x@Example.com", "+442071234567")).toEqual([
    "a",
    "ada.king+x@example.com",
    "ada",
    "king",
    "x",
    "442071234567",
    "2071234567",
  ]);
});

test("a search is an id, a number however it was typed, or words", () => {
  const id = "0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f";
  expect(readSearch(` ${id} `)).toEqual({ id });
  expect(readSearch("020 7123-4567")).toEqual({ words: ["2071234567"] });
  expect(readSearch("o'neill  ÅSA")).toEqual({ words: ["o", "neill", "asa"] });
  expect(readSearch("ada@Example")).toEqual({ words: ["ada@example"] });
  expect(readSearch("%_\\'")).toBeUndefined();
});

test("words are quoted for Postgres and looked for by their beginning, a letter or two as they are", () => {
  expect(toTsquery(["o'x\\", "a", "ann"], new Map([["ann", ["anna"]]]))).toBe("('o''x\\\\':*) & ('a') & ('ann':* | 'anna')");
  expect(toTsquery(["li"])).toBe("('li')");
  expect(toTsquery(["li", "wang"])).toBe("('li':*) & ('wang':*)");
  expect(toTsquery(["1"])).toBe("('1')");
  expect(toTsquery(["wang", "12"])).toBe("('wang':*) & ('12')");
  expect(toTsquery(["王"])).toBe("('王':*)");
});
