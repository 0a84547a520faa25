import { expect, test } from "vitest";
import { readSearch, searchWords, toWordQuery } from "./search.ts";

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
    "~765432170244",
  ]);
});

test("in scripts where a mark is a letter, names that differ by it differ", () => {
  expect(words("राम")).toContain("राम");
  expect(words("रीमा")).not.toContain("राम");
  expect(words("かが")).toContain("かが");
  expect(words("कॉ क्षि")).toEqual(expect.arrayContaining(["कॉ", "क्षि"]));
});

test("Latin, Greek, Cyrillic, Hebrew and Arabic are found without marks, and ς is σ", () => {
  expect(words("ΟΔΥΣΣΕΎΣ Οδυσσεύς")).toContain("οδυσσευσ");
  expect(words("Фёдор Йосиф")).toEqual(expect.arrayContaining(["федор", "иосиф"]));
  expect(words("שָׁלוֹם מُحَمَّد أحمد")).toEqual(expect.arrayContaining(["שלום", "احمد"]));
  expect(words("İstanbul Nguyễn")).toEqual(expect.arrayContaining(["istanbul", "nguyen"]));
});

const read = (q: string) => readSearch(q, { dateOrder: "YMD", phoneRegion: "US", asBefore: true });
const term = (...words: string[]) => ({ words });

test("a search is an id, a number however it was typed, or words", () => {
  const id = "0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f";
  expect(read(` ${id} `)).toEqual({ id });
  expect(read("020 7123-4567")).toMatchObject({ required: [{ words: ["2071234567"], or: ["~7654321702"] }] });
  expect(read("o'neill  ÅSA")).toMatchObject({ required: [term("o"), term("neill"), term("asa")] });
  expect(read("ada@Example")).toMatchObject({ required: [term("ada@example")] });
  expect(read("%_\\'")).toBe("nobody");
});

test("titles, initials and what follows a name may be missing in a record, unless there is nothing else", () => {
  const required = (q: string) => {
    const search = read(q);
    return typeof search === "object" && "required" in search ? search.required.flatMap((each) => each.words) : [];
  };
  expect(required("Mrs Hopper")).toEqual(["hopper"]);
  expect(required("Prof. Dr. Grace B. Hopper PhD")).toEqual(["grace", "hopper"]);
  expect(required("Michael Herr Smith")).toEqual(["michael", "herr", "smith"]);
  expect(required("Dr")).toEqual(["dr"]);
  expect(required("王 明")).toEqual(["王", "明"]);
});

test("a date of birth is a day, a month, or a year beside a name", () => {
  const born = (q: string, order: "YMD" | "DMY" | "MDY" = "YMD") => {
    const search = readSearch(q, { dateOrder: order, phoneRegion: "US", asBefore: true });
    return typeof search === "object" && "born" in search ? search.born : undefined;
  };
  expect(born("1985-01-31")).toEqual({ spans: [["1985-01-31", "1985-01-31"]] });
  expect(born("hopper 1976-02")).toEqual({ spans: [["1976-02-01", "1976-02-29"]] });
  expect(born("hopper 1976")).toEqual({ spans: [["1976-01-01", "1976-12-31"]], word: "1976" });
  expect(born("1976")).toBeUndefined();
  expect(born("hopper 01/02/1985", "DMY")).toEqual({ spans: [["1985-02-01", "1985-02-01"]] });
  expect(born("hopper 01/02/1985", "MDY")).toEqual({ spans: [["1985-01-02", "1985-01-02"]] });
  expect(born("01/02/1985")?.spans).toEqual([
    ["1985-02-01", "1985-02-01"],
    ["1985-01-02", "1985-01-02"],
  ]);
  expect(born("31.1.1985", "MDY")).toEqual({ spans: [["1985-01-31", "1985-01-31"]] });
  for (const none of ["1985-02-30", "1-23-4567", "12/1985", "hopper 3012", "555-1985"])
    expect([none, born(none)]).toEqual([none, undefined]);
});

const beginning = (...terms: string[]) =>
  toWordQuery({ all: terms.map((each) => term(each)), required: terms.map((each) => term(each)) })?.beginning;

test("words are quoted for Postgres and looked for by their beginning, a letter or two as they are", () => {
  expect(beginning("o'x\\", "a", "ann")).toBe("('o''x\\\\':*) & ('a') & ('ann':*)");
  expect(beginning("li")).toBe("('li')");
  expect(beginning("li", "wang")).toBe("('li':*) & ('wang':*)");
  expect(beginning("1")).toBe("('1')");
  expect(beginning("wang", "12")).toBe("('wang':*) & ('12')");
  expect(beginning("王")).toBe("('王':*)");
});

test("words that were folded otherwise before are looked for in both forms, until all rows are rewritten", () => {
  const search = read("राम smith");
  if (typeof search === "string" || "id" in search) throw new Error("not words");
  expect(toWordQuery(search)?.whole).toBe("(('राम') | ('रम')) & ('smith')");
});
