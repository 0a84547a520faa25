import { expect, test } from "vitest";
import { type Features, featuresOf } from "../patients/features.ts";
import { compare } from "./comparisons.ts";
import { gradeOf, scoreOf } from "./model.ts";
import { readModel } from "./model-file.ts";
import { train } from "./training.ts";

const syllables = "bra chu di fle go hul ja kem lo mur ni pax qui ros tev wyn".split(" ");
const word = (number: number) => [12, 8, 4, 0].map((shift) => syllables[(number >> shift) & 15]).join("");

/** 300 people, of whom each third is there twice, with an error in the second record. */
const people = Array.from({ length: 300 }, (_, index) => {
  const number = (index * 40_503) & 0xffff;
  const [firstName, lastName] = [word(number), word(number ^ 0x5a5a)];
  const dateOfBirth = `19${10 + (index % 80)}-0${1 + (index % 9)}-1${index % 10}`;
  const record = {
    firstName,
    lastName,
    dateOfBirth,
    address: { text: "", street: `${index} ${word(number ^ 0x3333)}`, zipCode: `${10_000 + index}` },
  };
  const twice = {
    ...record,
    ...(index % 2 ? { firstName: `${firstName}x` } : { dateOfBirth: `19${10 + (index % 80)}-0${1 + (index % 9)}-2${index % 10}` }),
  };
  return index % 3 === 0 ? [record, twice].map((each) => ({ index, each })) : [{ index, each: record }];
}).flat();
const features = people.map(({ each }) => featuresOf(each));
const isOne = ({ one, other }: { one: number; other: number }) => people[one]?.index === people[other]?.index;

test.each([
  ["by expectation maximisation alone", undefined],
  ["with known pairs, which decide the thresholds", isOne],
])("a model learns %s who is one person", (_, known) => {
  const model = train(features, known, { version: "test", trainedOn: "invented people" });
  expect(model.fields.family.same?.m).toBeGreaterThan(0.9);
  expect(model.fields.family.same?.u).toBeLessThan(0.05);
  const { certain, probable, possible } = model.thresholds;
  expect(certain >= probable && probable >= possible).toBe(true);
  const wrong = people.flatMap((_, one) =>
    people.flatMap((_, other) => {
      if (one >= other) return [];
      const { score } = scoreOf(model, compare(features[one] as Features, features[other] as Features));
      return (gradeOf(model, score) !== undefined) === isOne({ one, other }) ? [] : [[people[one], people[other], score]];
    }),
  );
  expect(wrong).toEqual([]);
});

test("the model of the release is one, and two Smiths say less than two people with a rare name", () => {
  const model = readModel();
  const [smith, rare] = ["smith", "quillonbrack"].map((lastName) => {
    const named = featuresOf({ firstName: "Ada", lastName });
    return scoreOf(model, compare(named, named), { patients: 100_000, countOf: (name) => (name === "smith" ? 1_000 : 1) }).score;
  }) as [number, number];
  expect(rare).toBeGreaterThan(smith + 5);
  expect(() => readModel('{"version": "1"}')).toThrow("MATCH_MODEL");
});

test("among more people, the same date of birth says less", () => {
  const model = readModel();
  const born = featuresOf({ dateOfBirth: "1987-04-12" });
  const scoreAmong = (patients: number) => scoreOf(model, compare(born, born), { patients, countOf: () => 0 }).score;
  expect(scoreAmong(2 * model.records)).toBeCloseTo(scoreAmong(model.records) - 1, 9);
  expect(scoreAmong(10)).toBe(scoreAmong(model.records));
});
