import { expect, test } from "vitest";
import { sortName } from "./sort-name.ts";

const record = { email: "x@example.com", dateOfBirth: "1990-01-01", address: { text: "x" }, registeredDate: "2026-01-01" };
const parts = (name: string, more: { firstName?: string; lastName?: string } = {}) =>
  sortName({ ...record, name, ...more }).split("\uFFFE");

test("the family name is the one of the record, or the last word of the whole name, or what stands before a comma", () => {
  expect(parts("Ada Lovelace", { firstName: "Ada", lastName: "King Lovelace" })).toEqual(["King Lovelace", "Ada"]);
  expect(parts("Augusta Ada Lovelace")).toEqual(["Lovelace", "Augusta Ada"]);
  expect(parts("Lovelace, Augusta Ada")).toEqual(["Lovelace", "Augusta Ada"]);
  expect(parts("王小明")).toEqual(["王小明", ""]);
});

test("titles in front of a whole name and what follows it do not count", () => {
  expect(parts("Dr. Martin Luther King Jr.")).toEqual(["King", "Martin Luther"]);
  expect(parts("Grace Hopper, PhD")).toEqual(["Hopper", "Grace"]);
  expect(parts("Mrs")).toEqual(["Mrs", ""]);
});
