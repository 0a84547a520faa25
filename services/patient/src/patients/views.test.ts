/** Flat fields and lists are two views of one thing. */
import { AppError } from "@pm/kit/errors";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { defaultSettings } from "../../test/testing.ts";
import type { PatientRecord } from "../tables.ts";
import { countries } from "./countries.ts";
import { storedDetails, withDetails } from "./details-store.ts";
import { rulesAt } from "./fields.ts";
import { diffRecords, newRecord, patchedRecord, replacedRecord } from "./record.ts";
import { listsOf } from "./views.ts";

const rules = rulesAt(Date.parse("2026-11-21T12:00:00Z"), { ...defaultSettings, emailRequired: false, addressRequired: false });
const body = { name: "Ada Lovelace", email: "ada@example.com", dateOfBirth: "1987-04-12", address: "1 Main St" };
const { email: _, ...nameOnly } = body;
const patch = (record: PatientRecord, change: unknown) => patchedRecord(change, record, rules);
const wrongFields = (write: () => unknown): string[] => {
  try {
    write();
  } catch (error) {
    if (error instanceof AppError) return error.options.errors?.map(({ path }) => path) ?? [];
  }
  return [];
};
/** As an answer shows it. */
const shownOf = (record: PatientRecord) => ({ ...record, ...listsOf(record) });

test("a country is one of ISO 3166-1, which JavaScript knows all", () => {
  const names = new Intl.DisplayNames(["en"], { type: "region", fallback: "none" });
  expect(countries.size).toBe(249);
  for (const code of countries) expect([code, names.of(code)]).toEqual([code, expect.any(String)]);
  for (const none of ["EU", "UK", "XK", "ZZ", "SU", "DD"]) expect(countries.has(none)).toBe(false);
});

test("a record without lists has one entry of each that it has", () => {
  expect(listsOf(newRecord(body, rules))).toEqual({
    names: [{ id: "1", text: "Ada Lovelace" }],
    emails: [{ id: "1", value: "ada@example.com" }],
    addresses: [{ id: "1", text: "1 Main St" }],
  });
});

test("a body may have lists instead of flat fields, and the flat fields are the first entries", () => {
  const record = newRecord(
    {
      dateOfBirth: "1987-04-12",
      names: [
        { use: "official", prefix: "Dr.", given: "Ada", family: "Lovelace" },
        { use: "maiden", text: "Ada Byron" },
      ],
      phones: [
        { value: "(217) 555-0123", use: "mobile" },
        { value: "+44 20 7123 4567", period: { end: "2020" } },
      ],
      emails: [{ value: "ada@example.com" }],
      addresses: [{ street: "Bahnhofstr. 1", city: "Zürich", zipCode: "8001", country: "ch" }],
      contacts: [{ name: "Lord Byron", relationship: "father", phone: "217-555-0199", address: "London" }],
    },
    rules,
  );
  expect(record).toEqual({
    name: "Ada Lovelace",
    firstName: "Ada",
    lastName: "Lovelace",
    email: "ada@example.com",
    phoneNumber: "+12175550123",
    dateOfBirth: "1987-04-12",
    address: { text: "Bahnhofstr. 1, Zürich, 8001", street: "Bahnhofstr. 1", city: "Zürich", zipCode: "8001" },
    registeredDate: "2026-11-21",
    names: [
      { id: "1", use: "official", prefix: "Dr.", given: "Ada", family: "Lovelace", text: "Ada Lovelace" },
      { id: "2", use: "maiden", text: "Ada Byron" },
    ],
    phones: [
      { id: "1", use: "mobile", value: "+12175550123" },
      { id: "2", value: "+442071234567", period: { end: "2020" } },
    ],
    addresses: [{ id: "1", text: "Bahnhofstr. 1, Zürich, 8001", street: "Bahnhofstr. 1", city: "Zürich", zipCode: "8001", country: "CH" }],
    contacts: [{ id: "1", name: "Lord Byron", relationship: "father", phone: "+12175550199", address: "London" }],
  });
});

test("a flat field changes the first entry, null removes it, and the next moves up", () => {
  const start = newRecord({ ...body, phones: [{ value: "2175550101", use: "home" }, { value: "2175550102" }] }, rules);
  const changed = patch(start, { phoneNumber: "2175550103" });
  expect(changed.phones).toEqual([
    { id: "1", use: "home", value: "+12175550103" },
    { id: "2", value: "+12175550102" },
  ]);
  const moved = patch(changed, { phoneNumber: null });
  expect(shownOf(moved)).toMatchObject({ phoneNumber: "+12175550102", phones: [{ id: "2", value: "+12175550102" }] });
  const none = patch(moved, { phoneNumber: null });
  expect([none.phoneNumber, none.phones, listsOf(none).phones]).toEqual([undefined, undefined, undefined]);
  // The id of an entry that was removed does not come back.
  expect(patch(none, { phoneNumber: "2175550101" }).phones?.[0]?.id).not.toMatch(/^[12]$/);
});

test("the next e-mail moves up also where one is required", () => {
  const strict = rulesAt(Date.parse("2026-11-21T12:00:00Z"), defaultSettings);
  const start = newRecord({ ...nameOnly, emails: [{ value: "a@example.com" }, { value: "b@example.com" }] }, strict);
  const moved = patchedRecord({ email: null }, start, strict);
  expect(moved.email).toBe("b@example.com");
  expect(wrongFields(() => patchedRecord({ email: null }, moved, strict))).toEqual(["email"]);
  expect(wrongFields(() => patchedRecord({ emails: [] }, moved, strict))).toEqual(["email"]);
});

test("a PUT without a list keeps further entries, and one without the flat field removes all, however often it is sent", () => {
  const start = newRecord(
    { ...body, phones: [{ value: "2175550101" }, { value: "2175550102" }], contacts: [{ name: "Lord Byron" }] },
    rules,
  );
  const put = (record: PatientRecord, whole: unknown) => replacedRecord(whole, record, rules);
  const changed = put(start, { ...body, phoneNumber: "2175550103" });
  expect(changed.phones?.map(({ value }) => value)).toEqual(["+12175550103", "+12175550102"]);
  expect(changed.contacts).toEqual(start.contacts);
  const removed = put(changed, body);
  expect(removed).not.toHaveProperty("phones");
  expect(put(removed, body)).toEqual(removed);
});

test("a list and a flat field that differ are refused by the flat field, and what an answer shows can be sent back", () => {
  const start = newRecord({ ...body, phones: [{ value: "2175550101" }] }, rules);
  const phones = [{ value: "2175550102" }];
  expect(wrongFields(() => patch(start, { phones, phoneNumber: "2175550101" }))).toEqual(["phoneNumber"]);
  expect(wrongFields(() => patch(start, { phones: null, phoneNumber: "2175550101" }))).toEqual(["phoneNumber"]);
  expect(wrongFields(() => patch(start, { phones, phoneNumber: null }))).toEqual(["phoneNumber"]);
  expect(patch(start, { phones, phoneNumber: "(217) 555-0102" }).phoneNumber).toBe("+12175550102");
  const names = [{ given: "Ada", family: "King" }];
  expect(wrongFields(() => patch(start, { names, lastName: "Lovelace" }))).toEqual(["lastName"]);
  expect(wrongFields(() => patch(start, { addresses: [{ city: "Rome" }], address: { city: "Paris" } }))).toEqual(["address.city"]);
  expect(wrongFields(() => newRecord({ ...shownOf(start), email: "other@example.com" }, rules))).toEqual(["email"]);
  expect(patch(start, shownOf(start))).toEqual(start);
});

test("a part of a name is refused where only the whole name is known, which would lose the other part", () => {
  const whole = newRecord(body, rules);
  for (const part of ["firstName", "lastName"]) expect(wrongFields(() => patch(whole, { [part]: "King" }))).toEqual([part]);
  expect(patch(whole, { lastName: null })).toEqual(whole);
  expect(patch(whole, { firstName: "Ada", lastName: "King" }).name).toBe("Ada King");
  expect(patch(whole, { name: "Ada King", lastName: "King" })).toMatchObject({ name: "Ada King", lastName: "King" });
});

test("no text of an address names the city before", () => {
  const city = fc.constantFrom("London", "Rome", "Zürich", "York");
  const street = fc.option(fc.constantFrom("1 Main St", "2 Hill Rd"), { nil: undefined });
  const written = fc.option(fc.constantFrom("The old mill", "c/o Byron"), { nil: undefined });
  const withCity = fc.record({ city, street, written }).map(({ city, street, written }) => ({
    ...(written && { text: `${written}, ${city}` }),
    ...(street && { street }),
    city,
  }));
  fc.assert(
    fc.property(withCity, city, fc.constantFrom("patch", "put", "list"), (address, next, way) => {
      const start = newRecord({ ...body, address }, rules);
      const entry = { id: "1", ...start.address, city: next };
      const { address: after } =
        way === "patch"
          ? patch(start, { address: { city: next } })
          : way === "put"
            ? replacedRecord({ ...body, address: { ...start.address, city: next } }, start, rules)
            : patch(start, { addresses: [entry] });
      expect(after?.city).toBe(next);
      expect(after?.text).toContain(next);
      if (address.city !== next) expect(after?.text).not.toContain(address.city);
    }),
  );
  const whole = newRecord({ ...body, address: "12 St James's Square, London" }, rules);
  expect(patch(whole, { address: { city: "London" } }).address?.text).toBe("12 St James's Square, London");
  expect(wrongFields(() => patch(whole, { address: { city: "Rome" } }))).toEqual(["address.city"]);
});

// Any flat writes and list writes, in any order.
const phone = fc.constantFrom("+12175550101", "+12175550102", "+442071234567");
const email = fc.constantFrom("a@example.com", "b@example.com");
const word = fc.constantFrom("Ada", "Grace", "King", "Byron");
const place = fc.record(
  { text: word, street: word, city: word, zipCode: fc.constantFrom("1", "2"), country: fc.constantFrom("DE", "CH") },
  { requiredKeys: ["city"] },
);
const partsOfPlace = place.map(({ country: _, ...parts }) => parts);
const names = fc.record({ given: word, family: word, prefix: word, use: fc.constant("alias") }, { requiredKeys: ["given"] });
const list = <T>(entry: fc.Arbitrary<T>) => fc.array(entry, { maxLength: 4 });
const write = fc.oneof(
  fc.record({ phoneNumber: fc.option(phone) }),
  fc.record({ email: fc.option(email) }),
  fc.record({ address: fc.option(fc.oneof(word, partsOfPlace)) }),
  fc.record({ name: word }),
  fc.record({ firstName: word, lastName: fc.option(word) }),
  fc.record({ phones: fc.option(list(fc.record({ value: phone, use: fc.constant("work") }, { requiredKeys: ["value"] }))) }),
  fc.record({ emails: fc.option(list(fc.record({ value: email }))) }),
  fc.record({ addresses: fc.option(list(place)) }),
  fc.record({ names: fc.array(names, { minLength: 1, maxLength: 3 }) }),
);
const writes = fc.array(fc.record({ change: write, isPut: fc.boolean() }), { maxLength: 8 });
/** A city that the text of an address does not name is refused; nothing else is. */
function unlessRefused(record: PatientRecord, write: () => PatientRecord): PatientRecord {
  const wrong = wrongFields(write);
  if (wrong.length === 0) return write();
  expect(wrong).toEqual(["address.city"]);
  return record;
}
const withoutIds = (value: unknown) => JSON.parse(JSON.stringify(value, (key, part) => (key === "id" ? undefined : part)));

test("flat writes and list writes in any order agree", { timeout: 60_000 }, () => {
  fc.assert(
    fc.property(writes, (steps) => {
      let record = newRecord(body, rules);
      for (const { change, isPut } of steps) {
        const whole = { ...(!("names" in change || "name" in change) && { name: "Ada" }), dateOfBirth: body.dateOfBirth, ...change };
        record = unlessRefused(record, () => (isPut ? replacedRecord(whole, record, rules) : patch(record, change)));
        const { names, phones, emails, addresses } = listsOf(record);
        expect([names?.[0]?.text, names?.[0]?.given, names?.[0]?.family]).toEqual([record.name, record.firstName, record.lastName]);
        expect([phones?.[0]?.value, emails?.[0]?.value]).toEqual([record.phoneNumber, record.email]);
        const { id: _, country: _country, use: _use, period: _period, ...first } = addresses?.[0] ?? {};
        expect(first).toEqual(record.address ?? {});
        for (const entries of [names, phones, emails, addresses])
          expect(new Set(entries?.map(({ id }) => id)).size).toBe(entries?.length ?? 0);
        // Reading, sending back and storing change nothing.
        const shown = JSON.parse(JSON.stringify(shownOf(record)));
        expect([patch(record, shown), replacedRecord(shown, record, rules)]).toEqual([record, record]);
        expect(withoutIds(newRecord(shown, rules))).toEqual(withoutIds(record));
        const columns = { ...record };
        for (const kind of ["names", "phones", "emails", "addresses"] as const) delete columns[kind];
        expect(withDetails(columns, storedDetails(record))).toEqual(record);
        expect(diffRecords(record, patch(record, {}))).toEqual([]);
      }
    }),
    { numRuns: 500 },
  );
});

test("a flat write is the write of the list with another first entry", () => {
  fc.assert(
    fc.property(writes, phone, fc.option(email), (steps, number, address) => {
      let record = newRecord(body, rules);
      for (const { change } of steps) record = unlessRefused(record, () => patch(record, change));
      const { phones = [], emails = [] } = listsOf(record);
      const byFlat = patch(patch(record, { phoneNumber: number }), { email: address });
      const byList = patch(record, {
        phones: [{ ...phones[0], value: number }, ...phones.slice(1)],
        emails: address === null ? emails.slice(1) : [{ ...emails[0], value: address }, ...emails.slice(1)],
      });
      expect(withoutIds(byFlat)).toEqual(withoutIds(byList));
      if (phones.length > 0) expect(listsOf(byFlat).phones).toEqual(listsOf(byList).phones);
    }),
    { numRuns: 300 },
  );
});
