/** What is not known of a patient, where US Core asks for it. */
import type { Patient as Resource } from "fhir/r4.js";
import { expect, test } from "vitest";
import { bondOf } from "./bonds.ts";
import { toFhir } from "./mapping.ts";
import type { PatientBody } from "./patient.ts";
import { readPatient } from "./writing.ts";

const stored = (body: PatientBody): Resource =>
  toFhir({ ...body, id: "1", version: 1, createdAt: "", updatedAt: "2026-11-28T09:30:00.000Z" });
const reason = (valueCode = "unknown") => ({ url: "http://hl7.org/fhir/StructureDefinition/data-absent-reason", valueCode });
/** As a client reads what it wrote. */
function roundTrip(resource: Resource): Resource {
  const { body, kept } = readPatient(resource);
  return stored({ ...body, fhirElements: JSON.stringify(kept) });
}

const textAlone: PatientBody = { names: [{ id: "1", text: "Ada" }] };
const known: PatientBody = { names: [{ id: "1", family: "King" }], sex: "female" };

test("a record without a sex has the gender unknown", () => {
  expect(stored(textAlone)).toMatchObject({ gender: "unknown" });
  expect(stored(textAlone)).not.toHaveProperty("_gender");
});

test("a name as text alone has a reason, and so has a patient without any part of a name", () => {
  expect(stored(textAlone)).toMatchObject({ name: [{ text: "Ada", extension: [reason()] }], extension: [reason()] });
  const names = [
    { id: "1", text: "Ada" },
    { id: "2", given: "Ada" },
  ];
  expect(stored({ names }).name).toMatchObject([{ extension: [reason()] }, expect.not.objectContaining({ extension: expect.anything() })]);
  expect(stored({ names })).not.toHaveProperty("extension");
  expect(JSON.stringify(stored(known))).not.toContain("data-absent-reason");
});

test.each([[textAlone], [known], [{ ...textAlone, sex: "unknown" }]])("writing what was read of %j changes nothing", (body) => {
  expect(readPatient(stored(body), { body, links: undefined })).toMatchObject({ body, kept: [] });
  expect(readPatient(stored(body), { body, links: undefined }).body).toEqual(body);
});

test("a new patient whose gender is unknown is stored so", () => {
  expect(readPatient({ resourceType: "Patient", gender: "unknown" }).body.sex).toBe("unknown");
});

test("the reason goes when a part of the name is written beside it", () => {
  const resource = stored(textAlone);
  const named: Resource = { ...resource, name: resource.name?.map((name) => ({ ...name, family: "King" })) ?? [] };
  const { body, kept } = readPatient(named, { body: textAlone, links: undefined });
  expect(JSON.stringify(stored({ ...body, fhirElements: JSON.stringify(kept) }))).not.toContain("data-absent-reason");
});

test("the reasons and the extensions of a client come back as they were written", () => {
  const other = { url: "https://example.com/spoken", valueBoolean: true };
  const written: Resource = {
    resourceType: "Patient",
    extension: [reason("masked")],
    name: [{ text: "Ada", extension: [other] }, { text: "Augusta", extension: [reason("asked-declined")] }, { extension: [reason()] }],
    _gender: { extension: [reason("asked-declined")] },
  };
  const read = roundTrip(written);
  expect(read.extension).toEqual(written.extension);
  expect(read.name?.map(({ extension }) => extension)).toEqual([[other, reason()], [reason("asked-declined")], [reason()]]);
  expect(read).toMatchObject({ gender: "unknown", _gender: written._gender });
});

test.each([
  ['[[["name","name-1","extension"],null,"King"],[["extension","+"],null,{}]]'],
  ['[[["name","name-1","extension"],null,[null,1]],[["extension"],null,[null]]]'],
  ['[[["name"],null,[null]],[["gender"],null,1]]'],
])("a patient stays readable whatever is kept: %s", (fhirElements) => {
  expect(stored({ ...textAlone, fhirElements })).toMatchObject({ id: "1" });
  expect(stored({ fhirElements })).toMatchObject({ id: "1" });
});

test("a patch of one reason changes no other", () => {
  const { name = [], extension } = structuredClone(
    stored({
      names: [
        { id: "1", text: "Ada" },
        { id: "2", text: "Augusta" },
      ],
    }),
  );
  Object.assign(name[0]?.extension?.[0] ?? {}, { valueCode: "asked-declined" });
  expect([name[1]?.extension, extension]).toEqual([[reason()], [reason()]]);
});

test("what the version before kept of a name as text alone, and of a gender, is still read", () => {
  const former = { id: "name-1", text: "Ada", extension: [reason()] };
  const kept = [
    [["name", "name-1", "id"], "name-1", "own", bondOf(former)],
    [["name", "name-1", "extension", "0", "valueCode"], "unknown", "asked-declined", bondOf(former)],
    [["_gender", "extension", "0", "valueCode"], "unknown", "masked", bondOf(undefined)],
  ];
  expect(stored({ ...textAlone, fhirElements: JSON.stringify(kept) })).toMatchObject({
    ...{ name: [{ id: "own", text: "Ada", extension: [reason("asked-declined")] }], gender: "unknown" },
    _gender: { extension: [reason("masked")] },
  });
});

test("the reason of a gender that the version before showed is not stored", () => {
  const { body, kept } = readPatient({ resourceType: "Patient", _gender: { extension: [reason()] } });
  expect([body.sex, kept]).toEqual([undefined, []]);
});
