/** `fhirElements` is a text that everybody may set who may change a record, so it may say anything. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { toFhir } from "./mapping.ts";
import { readPatient } from "./writing.ts";

const record = {
  ...{ id: "1", version: 3, createdAt: "", updatedAt: "2026-11-28T09:30:00.000Z" },
  names: [{ id: "1", family: "King" }],
  phones: [{ id: "1", value: "+12175550123" }],
  dateOfBirth: "1987-04-12",
  registeredDate: "2026-01-28",
  sex: "female",
};
const plain = toFhir(record);
const withText = (fhirElements: string) => toFhir({ ...record, fhirElements });

/** A part that was written for this record, changed in one place. */
const step = fc.constantFrom(
  ...["__proto__", "constructor", "prototype", "mergedInto", "toString", "length", "+", "0", "id", "meta", "versionId", "active", "link"],
  ...["resourceType", "text", "name", "name-1", "family", "telecom", "extension", "birthDate", "photo", "given", "entry"],
);
const value = fc.oneof(fc.constantFrom(null, 1, "1", "3", true, "King", "Patient", {}, []), fc.jsonValue());
const part = fc.tuple(fc.array(step, { maxLength: 4 }), value, value);
const text = fc.oneof(
  fc.array(fc.oneof(part, value), { maxLength: 6 }).map((parts) => JSON.stringify(parts)),
  fc.json(),
  fc.string(),
);

test("no text changes what is the platform's to say, reaches other objects or makes a patient unreadable", () => {
  const names = Object.getOwnPropertyNames(Object.prototype).sort();
  fc.assert(
    fc.property(text, (fhirElements) => {
      const { id, meta, active, link, resourceType, text: narrative } = withText(fhirElements);
      expect({ id, active, link, resourceType, narrative }).toEqual({ id: "1", active: true, resourceType: "Patient" });
      expect(meta).toMatchObject(plain.meta ?? {});
      expect(Object.getOwnPropertyNames(Object.prototype).sort()).toEqual(names);
      expect(({} as { mergedInto?: unknown }).mergedInto).toBeUndefined();
    }),
    { numRuns: 2_000 },
  );
});

test.each([
  ['[[["__proto__","mergedInto"],null,"2"]]'],
  ['[[["name","constructor","prototype","mergedInto"],null,"2"]]'],
  ['[[["link"],null,[{"type":"replaced-by"}]]]'],
  ['[[["active","+"],null,1]]'],
  ['[[["active"],true,false]]'],
  ['[[["resourceType"],"Patient","Account"]]'],
  ['[[["meta","versionId"],"3","9"]]'],
  ['[[["meta"],null,{}]]'],
  ['[[["text"],null,{"status":"generated"}]]'],
  ['[[["birthDate","+"],null,{}]]'],
  ['[[["name","+"],null,1]]'],
  ['[[["contained"],null,[]]]'],
  ['[[["language"],null,null]]'],
  ['[[["language"]]]'],
])("%s says nothing", (fhirElements) => {
  expect(withText(fhirElements)).toEqual(plain);
});

test("what is too deep to be sent says nothing", () => {
  expect(withText(`[[["photo"],null,${"[".repeat(9_000)}${"]".repeat(9_000)}]]`)).toEqual(plain);
});

test("a faulty part does not take the others with it", () => {
  expect(withText('[[["active"],true,false],1,[["language"],null,"en"]]')).toEqual({ ...plain, language: "en" });
});

test("what is kept of a resource has none of what the platform says", () => {
  const { kept } = readPatient(
    { ...plain, text: { status: "generated", div: "<div/>" }, meta: { ...plain.meta, source: "urn:a" } },
    {
      body: record,
      links: undefined,
    },
  );
  expect(kept).toEqual([[["meta", "source"], null, "urn:a"]]);
});
