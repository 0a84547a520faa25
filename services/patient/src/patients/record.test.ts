import { clinicConfig, readEnvironment } from "@pm/kit/config";
import { AppError } from "@pm/kit/errors";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { recordSettings } from "../config.ts";
import { rulesAt } from "./fields.ts";
import { diffRecords, newRecord, patchedRecord, replacedRecord } from "./record.ts";

const settings = recordSettings(readEnvironment(clinicConfig, {}));
const rules = rulesAt(Date.parse("2026-11-21T12:00:00Z"), settings);
const body = { name: "Ada Lovelace", email: "ada@example.com", dateOfBirth: "1987-04-12", address: "1 Main St" };
const problems = (wrong: unknown) => {
  try {
    newRecord(wrong, rules);
  } catch (error) {
    if (error instanceof AppError) return error.options.errors?.map(({ path }) => path).sort();
  }
  return [];
};

test.each([
  ["no name", { name: null }, "name: is required, or firstName or lastName"],
  ["no e-mail", { email: null }, "email: is required, unless the clinic sets EMAIL_REQUIRED=false"],
  ["no address", { address: null }, "address: is required, unless the clinic sets ADDRESS_REQUIRED=false"],
  ["a year", { dateOfBirth: "1987" }, "dateOfBirth: must be a date as YYYY-MM-DD, unless the clinic sets DATE_OF_BIRTH_PRECISION=year"],
  ["a wrong date", { dateOfBirth: "4.12.1987" }, "dateOfBirth: must be a date as YYYY-MM-DD"],
  ["a month of death", { deceased: "2020-01" }, "deceased: must be a date as YYYY-MM-DD"],
  [
    "a country in the flat address",
    { address: { street: "1 Main St", country: "US" } },
    "address.country: stands in a list: send addresses, whose first entry is this address, with its country",
  ],
])("%s is refused with what to do", (_, change, message) => {
  expect(() => newRecord({ ...body, ...change }, rules)).toThrow(expect.objectContaining({ message }));
});

test("a surname alone is a name", () => {
  expect(newRecord({ ...body, name: null, lastName: "Cher" }, rules)).toMatchObject({ name: "Cher", lastName: "Cher" });
});

test.each(["Cher", "O'Neill", "Jean-Luc d'Arc", "José", "Nguyễn Thị Ánh", "王小明", "محمد", "X Æ A-12", "de la Cruz, Jr.", "Ó"])(
  "the name %s is accepted",
  (name) => {
    expect(newRecord({ ...body, name }, rules).name).toBe(name);
  },
);

test("a text that cannot be seen, or that turns what follows around, is refused in every field", () => {
  const { name: _, ...nameless } = body;
  const address = { street: "1 Main St", city: "X", state: "Y", zipCode: "1" };
  const whole = { ...nameless, firstName: "Ada", lastName: "King", address };
  for (const wrong of ["\u200b", "\u2800\u3164", "\u{e0041}\ufe0f", "Ada\u202eevoL", "\u2066Ada"])
    for (const field of ["street", "city", "state", "zipCode", "text"])
      expect(problems({ ...whole, address: { ...address, [field]: wrong } })).toEqual([`address.${field}`]);
  for (const wrong of ["\u200d", "\u{e0020}", "Ada\u2069"])
    for (const field of ["name", "firstName", "lastName", "email", "address"])
      expect(problems({ ...whole, [field]: wrong })).toEqual([field]);
});

test("a name is stored as NFC, however it was typed", () => {
  const typed = "José Ångström";
  const { name: _, ...nameless } = body;
  for (const form of ["NFC", "NFD"]) {
    expect(newRecord({ ...body, name: typed.normalize(form) }, rules).name).toBe(typed.normalize("NFC"));
    const { firstName, name } = newRecord({ ...nameless, firstName: typed.normalize(form), lastName: "X" }, rules);
    expect([firstName, name]).toEqual([typed.normalize("NFC"), `${typed.normalize("NFC")} X`]);
  }
  fc.assert(
    fc.property(fc.string({ unit: "grapheme", minLength: 1, maxLength: 40 }), (name) => {
      const found = newRecord({ ...body, name: `x${name.normalize("NFD")}` }, rules).name;
      expect(found).toBe(found.normalize("NFC"));
    }),
  );
});

test.each(["ada@example.com", "a+b.c_d@sub.example.co.uk", "o'neill@example.ie", "用户@例子.中国", "x@123.museum"])(
  "the e-mail %s is accepted",
  (email) => {
    expect(newRecord({ ...body, email: ` ${email} ` }, rules).email).toBe(email);
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
  expect(newRecord({ ...body, address: { street: "Nørregade 10", city: "København" } }, rules).address).toEqual({
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

test("a year or a month is a date of birth where the clinic permits it, from its first possible day on", () => {
  const partly = { ...rules, settings: { ...settings, dateOfBirthPrecision: "year" as const } };
  for (const dateOfBirth of ["1976", "1976-05", "1976-05-12", "1880", "2026", "2026-11"])
    expect(newRecord({ ...body, dateOfBirth }, partly).dateOfBirth).toBe(dateOfBirth);
  for (const dateOfBirth of ["1879", "2027", "2026-12", "1976-13", "1976-02-30", "1976-5", "76", "19760512", "1976-", 1976, ""])
    expect(() => newRecord({ ...body, dateOfBirth }, partly)).toThrow("dateOfBirth");
  for (const dateOfBirth of ["1976", "1976-05"]) expect(problems({ ...body, dateOfBirth })).toEqual(["dateOfBirth"]);
  // A record keeps its year when the clinic asks for days again, and when a caller sends it back.
  const current = newRecord({ ...body, dateOfBirth: "1976" }, partly);
  expect(patchedRecord({ sex: "male" }, current, rules).dateOfBirth).toBe("1976");
  expect(replacedRecord(current, current, rules)).toEqual(current);
  expect(() => patchedRecord({ dateOfBirth: "1977" }, current, rules)).toThrow("dateOfBirth");
});

test("a death is a flag or a day between birth and today", () => {
  for (const deceased of [true, false, "2026-11-21", "1987-04-12"]) expect(newRecord({ ...body, deceased }, rules).deceased).toBe(deceased);
  for (const deceased of ["1987-04-11", "2026-11-23", "2026", "true", 1, {}, ""])
    expect(problems({ ...body, deceased })).toEqual(["deceased"]);
  const current = newRecord({ ...body, deceased: "2026-11-20", dateOfBirthEstimated: true }, rules);
  expect(patchedRecord({ deceased: null, dateOfBirthEstimated: false }, current, rules)).toEqual({
    ...newRecord(body, rules),
    dateOfBirthEstimated: false,
  });
  expect(() => patchedRecord({ dateOfBirth: "2026-11-21" }, current, rules)).toThrow("deceased");
  expect(problems({ ...body, dateOfBirthEstimated: "yes" })).toEqual(["dateOfBirthEstimated"]);
});

test("a day that has begun somewhere is not in the future", () => {
  expect(newRecord({ ...body, dateOfBirth: "2026-11-22" }, rules).dateOfBirth).toBe("2026-11-22");
});

test("a day begins and ends in the clinic's zone, also at the turn of the year and where clocks change", () => {
  const isAccepted = (day: string, at: string, zone: string) => {
    try {
      return (
        newRecord({ ...body, dateOfBirth: day, registeredDate: day }, rulesAt(Date.parse(at), { ...settings, clinicTimeZone: zone }))
          .registeredDate === day
      );
    } catch (error) {
      expect((error as AppError).options.errors).toEqual(
        ["dateOfBirth", "registeredDate"].map((path) => ({ path, message: "must not be in the future" })),
      );
      return false;
    }
  };
  for (const [last, zone, today, tomorrow] of [
    ["2026-12-31T22:59:59.999Z", "Europe/Berlin", "2026-12-31", "2027-01-01"],
    ["2027-01-01T07:59:59.999Z", "America/Los_Angeles", "2026-12-31", "2027-01-01"],
    ["2026-12-31T09:59:59.999Z", "Pacific/Kiritimati", "2026-12-31", "2027-01-01"],
    ["2026-03-29T21:59:59.999Z", "Europe/Berlin", "2026-03-29", "2026-03-30"],
    ["2026-10-25T22:59:59.999Z", "Europe/Berlin", "2026-10-25", "2026-10-26"],
    ["2018-11-04T02:59:59.999Z", "America/Sao_Paulo", "2018-11-03", "2018-11-04"],
  ] as const) {
    const first = new Date(Date.parse(last) + 1).toISOString();
    expect(newRecord(body, rulesAt(Date.parse(last), { ...settings, clinicTimeZone: zone })).registeredDate).toBe(today);
    expect(newRecord(body, rulesAt(Date.parse(first), { ...settings, clinicTimeZone: zone })).registeredDate).toBe(tomorrow);
    expect([isAccepted(today, last, zone), isAccepted(tomorrow, last, zone), isAccepted(tomorrow, first, zone)]).toEqual([
      true,
      false,
      true,
    ]);
  }
});

test("a new zone of the clinic leaves the day of a registration as it is", () => {
  const current = newRecord(body, rulesAt(Date.parse("2026-11-21T12:00:00Z"), { ...settings, clinicTimeZone: "Pacific/Kiritimati" }));
  const west = rulesAt(Date.parse("2026-11-21T12:00:00Z"), { ...settings, clinicTimeZone: "America/Los_Angeles" });
  expect(current.registeredDate).toBe("2026-11-22");
  expect(patchedRecord({ name: "Ada King" }, current, west).registeredDate).toBe("2026-11-22");
  expect(replacedRecord(body, current, west).registeredDate).toBe("2026-11-22");
});

test("a phone number is read in the clinic's region, and one that cannot be there is refused with the way out", () => {
  const french = { ...rules, settings: { ...settings, phoneRegion: "FR" as const } };
  const phoneNumber = "06 12 34 56 78";
  expect(newRecord({ ...body, phoneNumber }, french).phoneNumber).toBe("+33612345678");
  const messageOf = (wrong: string) => {
    try {
      return newRecord({ ...body, phoneNumber: wrong }, rules);
    } catch (error) {
      return (error as AppError).options.errors;
    }
  };
  const message = "is not a phone number in US: write it with its country code, such as +33 6 12 34 56 78";
  expect(messageOf(phoneNumber)).toEqual([{ path: "phoneNumber", message }]);
  expect(messageOf("+1 061 234 5678")).toMatchObject([{ path: "phoneNumber", message: expect.stringContaining("check its digits") }]);
  // A number of before stays as it is until somebody writes another.
  const current = { ...newRecord(body, rules), phoneNumber: "+10612345678" };
  expect(replacedRecord(current, current, rules)).toEqual(current);
  expect(patchedRecord({ sex: "male" }, current, rules).phoneNumber).toBe("+10612345678");
});

test("null is like absent in a new record, read-only fields are unknown there and ignored in a changed one", () => {
  expect(newRecord({ ...body, phoneNumber: null, sex: null, firstName: null }, rules)).not.toHaveProperty("phoneNumber");
  const current = newRecord(body, rules);
  const shown = { ...body, id: "x", version: 3, createdAt: "x", updatedAt: "x", billing: {} };
  expect(problems(shown)).toEqual(["billing", "createdAt", "id", "updatedAt", "version"]);
  expect(replacedRecord(shown, current, rules)).toEqual(current);
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
        const record = newRecord(wrong, rules);
        expect(JSON.stringify(record)).not.toMatch(/\\u0000/);
        expect(replacedRecord(record, record, rules)).toEqual(record);
        expect(diffRecords(record, patchedRecord({}, record, rules))).toEqual([]);
      } catch (error) {
        expect(error).toMatchObject({ code: "invalid_argument" });
        expect((error as AppError).options.errors?.length).toBeGreaterThan(0);
      }
    }),
    { numRuns: 300 },
  );
});
