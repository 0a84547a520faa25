import fc from "fast-check";
import type { Patient } from "fhir/r4.js";
import { expect, test } from "vitest";
import { isEqual } from "./kept.ts";
import { toFhir } from "./mapping.ts";
import { readPatient, type Written } from "./writing.ts";

/** A resource as it is read after patient-service has stored it. */
const stored = ({ body, kept }: Written): Patient =>
  toFhir({
    registeredDate: "2026-11-28",
    ...body,
    fhirElements: JSON.stringify(kept),
    ...{ id: "1", version: 1, createdAt: "", updatedAt: "2026-11-28T09:30:00.000Z" },
  });
const roundTrip = (resource: Patient): Patient => stored(readPatient(resource));

/** Whether everything that one value says stands in the other. Entries of lists may stand elsewhere in their list. */
function isIn(one: unknown, other: unknown): boolean {
  if (Array.isArray(one)) {
    const left = [...(Array.isArray(other) ? other : [])];
    const bySize = one.toSorted((a, b) => JSON.stringify(b).length - JSON.stringify(a).length);
    return bySize.every((value) => {
      const at = left.findIndex((candidate) => isIn(value, candidate));
      return at !== -1 && left.splice(at, 1).length === 1;
    });
  }
  if (typeof one !== "object" || one === null) return isEqual(one, other);
  return typeof other === "object" && other !== null && Object.entries(one).every(([key, value]) => isIn(value, (other as never)[key]));
}

const text = fc.stringMatching(/^[A-Za-zäß][A-Za-zäß .'-]{0,12}[a-z]$/);
const day = fc
  .date({ min: new Date("1900-01-01"), max: new Date("2020-01-01"), noInvalidDate: true })
  .map((d) => d.toISOString().slice(0, 10));
const maybe = <T extends object>(fields: { [Key in keyof T]: fc.Arbitrary<T[Key]> }) =>
  fc.record(fields, { requiredKeys: [] }).filter((made) => Object.keys(made).some((name) => name !== "id"));
const period = maybe({ start: day, end: fc.constant("2030-01-01T10:00:00Z") });
const extension = fc.record({ url: fc.webUrl(), valueString: text });
const extensions = fc.array(extension, { minLength: 1, maxLength: 2 });
const concept = (...codings: object[]) => maybe({ coding: fc.array(fc.constantFrom(...codings), { minLength: 1, maxLength: 2 }), text });
const list = <T>(one: fc.Arbitrary<T>) => fc.array(one, { minLength: 1, maxLength: 4 });
const v2 = "http://terminology.hl7.org/CodeSystem/v2-0203";

const patient = maybe({
  extension: extensions,
  language: fc.constantFrom("en", "de-CH"),
  meta: maybe({
    profile: fc.constant(["http://hl7.org/fhir/us/core/StructureDefinition/us-core-patient"]),
    tag: fc.constant([{ code: "x" }]),
  }),
  identifier: list(
    fc
      .tuple(
        fc.record({ system: fc.constantFrom("urn:oid:1.2.3", "http://hospital.example/mrn"), value: text }),
        maybe({
          use: fc.constantFrom("usual", "old"),
          type: concept({ system: v2, code: "MR", display: "Record" }, { system: v2, code: "SS" }),
          period,
        }),
      )
      .map(([one, other]) => ({ ...one, ...other })),
  ),
  active: fc.constant(true),
  name: list(
    fc
      .tuple(
        fc.oneof(fc.record({ family: text }), fc.record({ text })),
        maybe({
          id: fc.constantFrom("a", "name-7"),
          use: fc.constantFrom("official", "usual", "temp", "nickname", "anonymous", "old", "maiden"),
          given: list(text),
          prefix: list(text),
          suffix: list(text),
          text,
          period,
          extension: extensions,
        }),
      )
      .map(([one, other]) => ({ ...one, ...other })),
  ),
  telecom: list(
    maybe({
      system: fc.constantFrom("phone", "email", "fax", "url"),
      value: fc.constantFrom("+12175550123", "ada@example.com"),
      use: fc.constantFrom("home", "work", "temp", "old", "mobile"),
      rank: fc.integer({ min: 1, max: 9 }),
    }),
  ),
  gender: fc.constantFrom("male", "female", "other", "unknown"),
  birthDate: day,
  _birthDate: fc.record({ extension: extensions }),
  deceasedDateTime: fc.tuple(day, fc.constantFrom("", "T10:00:00+02:00")).map(([one, other]) => one + other),
  address: list(
    maybe({
      use: fc.constantFrom("home", "work", "temp", "old", "billing"),
      type: fc.constantFrom("postal", "physical"),
      text,
      line: list(text),
      city: text,
      district: text,
      state: text,
      postalCode: fc.constantFrom("01234", "10115"),
      country: fc.constantFrom("US", "Germany", "DEU"),
      period,
      extension: extensions,
    }),
  ),
  maritalStatus: concept(
    { system: "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus", code: "M", display: "Married" },
    { system: "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus", code: "I" },
  ),
  multipleBirthInteger: fc.integer({ min: 1, max: 3 }),
  contact: list(
    maybe({
      relationship: list(concept({ system: v2, code: "N", display: "Next of kin" })),
      name: maybe({ text, family: text }),
      telecom: list(maybe({ system: fc.constantFrom("phone", "email"), value: fc.constant("+12175550199"), use: fc.constant("home") })),
      address: maybe({ text, city: text }),
    }),
  ),
  communication: list(
    fc.record({
      language: concept({ system: "urn:ietf:bcp:47", code: "en-US", display: "English" }, { code: "x" }),
      preferred: fc.boolean(),
    }),
  ),
  generalPractitioner: list(maybe({ reference: fc.constant("Practitioner/1"), display: text })),
  managingOrganization: maybe({ reference: fc.constant("Organization/1"), display: text }),
}).map((fields) => ({ resourceType: "Patient", ...fields }) as unknown as Patient);

test("FHIR → ours → FHIR loses nothing of a resource that is taken", () => {
  fc.assert(
    fc.property(patient, (resource) => {
      const back = roundTrip(resource);
      if (!isIn(resource, back)) expect(back).toMatchObject(resource as object);
    }),
    { numRuns: 200 },
  );
});

test("what is read back is written back without a change", () => {
  fc.assert(
    fc.property(patient, (resource) => {
      const once = roundTrip(resource);
      const { body } = readPatient(resource);
      const again = readPatient(once, { body, links: undefined });
      expect([stored(again), again.body.sex]).toEqual([once, body.sex]);
    }),
    { numRuns: 100 },
  );
});

test.each<[object, string]>([
  [{ nmae: [] }, "Patient.nmae"],
  [{ name: [{ family: "King", modifierExtension: [] }] }, "Patient.name[0].modifierExtension"],
  [{ contained: [{ resourceType: "Practitioner" }] }, "Patient.contained"],
  [{ gender: "f" }, "Patient.gender"],
  [{ birthDate: "1.2.1985" }, "Patient.birthDate"],
  [{ active: false }, "Patient.active"],
  [{ link: [{ other: { reference: "Patient/2" }, type: "refer" }] }, "Patient.link"],
  [{ identifier: [{ value: "1" }] }, "Patient.identifier[0].system"],
  [{ deceasedDateTime: "2011" }, "Patient.deceased"],
  [{ text: { status: "additional", div: "<div>More</div>" } }, "Patient.text"],
  [{ name: [{}] }, "Patient.name[0]"],
])("%o is refused by its element", (elements, path) => {
  try {
    readPatient({ resourceType: "Patient", ...elements } as Patient);
    expect.fail("was taken");
  } catch (error) {
    expect(error).toMatchObject({ code: "unprocessable", options: { errors: [{ path }] } });
  }
});

test("an error of patient-service names the element that the field came from", () => {
  const { pathOf } = readPatient({
    resourceType: "Patient",
    identifier: [
      { system: "urn:oid:1.2.3", value: "1" },
      { system: "passport-de", value: "C01X00T47" },
    ],
    name: [
      { use: "old", family: "Byron" },
      { use: "official", family: "King" },
    ],
    telecom: [
      { system: "fax", value: "1" },
      { system: "phone", value: "x" },
      { system: "email", value: "y" },
    ],
    contact: [{ name: { text: "Ralph" }, telecom: [{ system: "phone", value: "z" }] }],
  });
  const paths = [
    "names[0].family",
    "phones[0].value",
    "emails[0].value",
    "contacts[0].phone",
    "dateOfBirth",
    "email",
    "addresses",
    "names",
    "identifiers.passport-de",
  ];
  expect(paths.map(pathOf)).toEqual([
    "Patient.name[1].family",
    "Patient.telecom[1].value",
    "Patient.telecom[2].value",
    "Patient.contact[0].telecom[0].value",
    "Patient.birthDate",
    "Patient.telecom.where(system='email')",
    "Patient.address",
    "Patient.name",
    "Patient.identifier[1]",
  ]);
});

test("an entry that is written again keeps its id, and a new one gets none that was used", () => {
  const name = { family: "King" };
  const body = {
    names: [
      { id: "4", family: "King" },
      { id: "5", family: "Byron" },
    ],
  };
  const ids = (names: object[]) =>
    readPatient({ resourceType: "Patient", name: names } as Patient, { body, links: undefined }).body.names?.map(({ id }) => id);
  expect(ids([{ id: "name-5", family: "Lovelace" }, name])).toEqual(["5", "4"]);
  expect(ids([{ family: "Hopper" }])).toEqual([expect.stringMatching(/^[0-9a-f]{8}$/)]);
});
