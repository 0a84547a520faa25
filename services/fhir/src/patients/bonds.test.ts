/**
 * What is kept of a resource shows beside the value that it was written with, whatever becomes of the record meanwhile.
 */
import fc from "fast-check";
import type { Extension, Patient } from "fhir/r4.js";
import { expect, test } from "vitest";
import { toFhir } from "./mapping.ts";
import type { PatientBody } from "./patient.ts";
import { readPatient } from "./writing.ts";

const read = (body: PatientBody, kept: unknown): Patient =>
  toFhir({
    ...{ registeredDate: "2026-11-28", ...body, fhirElements: JSON.stringify(kept) },
    ...{ id: "1", version: 1, createdAt: "", updatedAt: "2026-11-28T09:30:00.000Z" },
  });

const mark = (value: string): Extension[] => [{ url: "urn:of", valueString: value }];
const families = ["King", "Byron", "Noel", "Milbanke"];
const numbers = ["+12175550123", "+12175550124", "(217) 555-0125", "+441215550123"];

/** Each entry says in an extension which value it belongs to. */
const resource = fc
  .record({
    families: fc.uniqueArray(fc.constantFrom(...families), { minLength: 1 }),
    numbers: fc.uniqueArray(fc.constantFrom(...numbers)),
    birthDate: fc.constantFrom("1815-12-10", "1852-11-27"),
    status: fc.constantFrom("M", "S"),
  })
  .map(
    (made): Patient => ({
      resourceType: "Patient",
      name: made.families.map((family) => ({ family, extension: mark(family), _family: { extension: mark(family) } })),
      ...(made.numbers.length > 0 && {
        telecom: made.numbers.map((value) => ({ system: "phone" as const, value, rank: numbers.indexOf(value) + 1 })),
      }),
      birthDate: made.birthDate,
      _birthDate: { extension: mark(made.birthDate) },
      maritalStatus: {
        coding: [{ system: "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus", code: made.status }],
        text: `status ${made.status}`,
      },
    }),
  );

/** As patient-service stores it: texts are composed, and numbers have their country code. */
const e164 = (value: string) => (value.startsWith("+") ? value : `+1${value.replace(/\D/g, "")}`);
const stored = ({ names = [], phones, ...body }: PatientBody): PatientBody => ({
  ...body,
  names: names.map((name) => ({ ...name, text: name.text ?? name.family ?? "" })),
  ...(phones && { phones: phones.map((phone) => ({ ...phone, value: e164(phone.value) })) }),
});

/** What another client or a merge makes of a record: entries that change, go, come, or change places and ids. */
type Change = (body: PatientBody) => PatientBody;
const id = fc.constantFrom("1", "2", "3", "9a8b7c6d");
const place = fc.nat({ max: 3 });
const change: fc.Arbitrary<Change> = fc.oneof(
  fc.tuple(place, fc.constantFrom(...families)).map(([at, family]): Change => {
    const named = (body: PatientBody) => (body.names ?? []).map((name, index) => (index === at ? { ...name, family, text: family } : name));
    return (body) => ({ ...body, names: named(body) });
  }),
  fc.tuple(place, fc.constantFrom(...numbers)).map(([at, value]): Change => {
    const numbered = (body: PatientBody) => (body.phones ?? []).map((one, index) => (index === at ? { ...one, value: e164(value) } : one));
    return (body) => ({ ...body, phones: numbered(body) });
  }),
  place.map(
    (at): Change =>
      (body) => ({ ...body, names: (body.names ?? []).filter((_, index) => index !== at) }),
  ),
  fc.tuple(place, id).map(([at, other]): Change => {
    const renamed = (body: PatientBody) => {
      const free = (body.names ?? []).every((name) => name.id !== other);
      return (body.names ?? []).map((name, index) => (index === at && free ? { ...name, id: other } : name));
    };
    return (body) => ({ ...body, names: renamed(body) });
  }),
  fc.constant<Change>((body) => ({ ...body, names: (body.names ?? []).toReversed() })),
  fc.constantFrom("1815-12-10", "1852-11-27").map(
    (dateOfBirth): Change =>
      (body) => ({ ...body, dateOfBirth }),
  ),
  fc.constantFrom("married", "never-married").map(
    (maritalStatus): Change =>
      (body) => ({ ...body, maritalStatus }),
  ),
);

test("no part shows beside another value than its own, and what still has its value has its parts", () => {
  fc.assert(
    fc.property(resource, fc.array(change, { maxLength: 6 }), (sent, changes) => {
      const { body, kept } = readPatient(sent);
      const now = changes.reduce((record, each) => each(record), stored(body));
      const { name = [], telecom = [], birthDate, _birthDate, maritalStatus } = read(now, kept);
      const written = new Set(sent.name?.map(({ family }) => family));
      const marked = name.filter(({ extension }) => extension);
      for (const { family = "", extension } of marked) expect(extension).toEqual(mark(family));
      // Of two that are equal by now, one is enough.
      const still = name.map(({ family }) => family).filter((family) => written.has(family));
      expect(new Set(marked.map(({ family }) => family))).toEqual(new Set(still));
      const ranks = new Map(sent.telecom?.map(({ value = "", rank }) => [e164(value), rank]));
      for (const { value = "", rank } of telecom) if (rank !== undefined) expect(rank).toBe(ranks.get(value));
      expect(new Set(telecom.filter(({ rank }) => rank !== undefined).map(({ value }) => value))).toEqual(
        new Set(telecom.map(({ value = "" }) => value).filter((value) => ranks.has(value))),
      );
      expect(_birthDate?.extension).toEqual(birthDate === sent.birthDate ? mark(birthDate ?? "") : undefined);
      const code = maritalStatus?.coding?.[0]?.code;
      expect(maritalStatus?.text).toBe(code === sent.maritalStatus?.coding?.[0]?.code ? `status ${code}` : undefined);
    }),
    { numRuns: 2_000 },
  );
});

test("a part of a record that was merged goes with its entry, which has another id there", () => {
  const { kept } = readPatient({ resourceType: "Patient", name: [{ family: "Byron", extension: mark("Byron") }] });
  const names = [
    { id: "1", family: "King", text: "King" },
    { id: "5f0c5c1e", family: "Byron", text: "Byron" },
  ];
  expect(read({ names }, kept).name?.map(({ extension }) => extension)).toEqual([undefined, mark("Byron")]);
});

test("how patient-service writes a value is no change of it", () => {
  const sent: Patient = {
    resourceType: "Patient",
    name: [{ given: ["Ada "], family: "King", extension: mark("name") }],
    telecom: [{ system: "phone", value: "030 123456", rank: 1 }],
    address: [{ city: "Berlin", country: "de", extension: mark("address") }],
  };
  const { body, kept } = readPatient(sent);
  const { name, telecom, address } = read(
    {
      ...body,
      names: [{ id: "1", text: "Ada King", given: "Ada", family: "King" }],
      phones: [{ id: "1", value: "+4930123456" }],
      addresses: [{ id: "1", text: "Berlin", city: "Berlin", country: "DE" }],
    },
    kept,
  );
  expect([name?.[0]?.extension, telecom?.[0]?.rank, address?.[0]?.extension]).toEqual([mark("name"), 1, mark("address")]);
});

test("writing what was read changes nothing of what is kept, however patient-service writes the values", () => {
  fc.assert(
    fc.property(resource, (sent) => {
      const { body, kept } = readPatient(sent);
      const record = { ...stored(body), fhirElements: JSON.stringify(kept) };
      const again = readPatient(read(record, kept), { body: record, links: undefined });
      expect(again.kept).toEqual(kept);
    }),
    { numRuns: 500 },
  );
});
