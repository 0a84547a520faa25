import { AppError } from "@pm/kit/errors";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { diffRecords, newRecord, patchedRecord, replacedRecord } from "./record.ts";

const now = new Date("2026-11-21T12:00:00Z");
const body = { name: "Ada Lovelace", email: "ada@example.com", dateOfBirth: "1987-04-12", address: "1 Main St" };
const problems = (wrong: unknown) => {
  try {
    newRecord(wrong, now);
  } catch (error) {
    if (error instanceof AppError) return error.options.errors?.map(({ path }) => path).sort();
  }
  return [];
};

test.each(["Cher", "O'Neill", "Jean-Luc d'Arc", "José", "Nguyễn Thị Ánh", "王小明", "محمد", "X Æ A-12", "de la Cruz, Jr.", "Ó"])(
  "the name %s is accepted",
  (name) => {
    expect(newRecord({ ...body, name }, now).name).toBe(name);
  },
);

test.each(["ada@example.com", "a+b.c_d@sub.example.co.uk", "o'neill@example.ie", "用户@例子.中国", "x@123.museum"])(
  "the e-mail %s is accepted",
  (email) => {
    expect(newRecord({ ...body, email: ` ${email} ` }, now).email).toBe(email);
  },
);

test.each([
  "ada",
  "@example.com",
  "ada@",
  "ada@localhost",
  "a da@example.com",
  "ada@@example.com",
  "<ada@example.com>",
  `${"x".repeat(65)}@example.com`,
])("the e-mail %s is refused", (email) => expect(problems({ ...body, email })).toEqual(["email"]));

test("an address needs no state and no zip code, and one in parts gets its line", () => {
  expect(newRecord({ ...body, address: { street: "Nørregade 10", city: "København" } }, now).address).toEqual({
    text: "Nørregade 10, København",
    street: "Nørregade 10",
    city: "København",
  });
  for (const address of ["", {}, { street: null }, { street: "x", planet: "Earth" }, 1, []])
    expect(problems({ ...body, address })).not.toEqual([]);
});

test.each(["1879-12-31", "2026-11-24", "2023-02-29", "1987-4-12", "12.04.1987", "0000-00-00", 1987, ""])(
  "the date of birth %s is refused",
  (dateOfBirth) => {
    expect(problems({ ...body, dateOfBirth })).toEqual(["dateOfBirth"]);
  },
);

test("a day that has begun somewhere is not in the future", () => {
  expect(newRecord({ ...body, dateOfBirth: "2026-11-22" }, now).dateOfBirth).toBe("2026-11-22");
});

test.each([
  ["(217) 555-0123", "+12175550123"],
  ["217.555.0123", "+12175550123"],
  ["1234567890", "+11234567890"],
  ["+44 20 7123 4567", "+442071234567"],
  ["0049 30 901820", undefined],
  ["12", undefined],
  ["call me", undefined],
])("the phone number %s becomes %s", (phoneNumber, expected) => {
  if (expected) expect(newRecord({ ...body, phoneNumber }, now).phoneNumber).toBe(expected);
  else expect(problems({ ...body, phoneNumber })).toEqual(["phoneNumber"]);
});

test("null is like absent in a new record, read-only fields are unknown there and ignored in a changed one", () => {
  expect(newRecord({ ...body, phoneNumber: null, sex: null, firstName: null }, now)).not.toHaveProperty("phoneNumber");
  const current = newRecord(body, now);
  const shown = { ...body, id: "x", version: 3, createdAt: "x", updatedAt: "x", billing: {} };
  expect(problems(shown)).toEqual(["billing", "createdAt", "id", "updatedAt", "version"]);
  expect(replacedRecord(shown, current, now)).toEqual(current);
});

test("no body makes anything but a record or a list of problems", { timeout: 30_000 }, () => {
  const value = fc.oneof(fc.string({ unit: "binary" }), fc.jsonValue(), fc.constantFrom("2000-01-01", "a@b.co", "+12175550123", null));
  const keys = [
    "name",
    "firstName",
    "lastName",
    "email",
    "phoneNumber",
    "dateOfBirth",
    "address",
    "sex",
    "registeredDate",
    "__proto__",
    "constructor",
  ];
  const anyBody = fc.oneof(fc.jsonValue(), fc.dictionary(fc.constantFrom(...keys), value));
  fc.assert(
    fc.property(anyBody, (wrong) => {
      try {
        const record = newRecord(wrong, now);
        expect(JSON.stringify(record)).not.toMatch(/\\u0000/);
        expect(replacedRecord(record, record, now)).toEqual(record);
        expect(diffRecords(record, patchedRecord({}, record, now))).toEqual([]);
      } catch (error) {
        expect(error).toMatchObject({ code: "invalid_argument" });
        expect((error as AppError).options.errors?.length).toBeGreaterThan(0);
      }
    }),
    { numRuns: 300 },
  );
});
