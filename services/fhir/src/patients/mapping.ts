/**
 * The mapping of a patient, ours → FHIR. `writing.ts` has the other way, and docs/fhir.md both as a table.
 */
import type * as fhir from "fhir/r4.js";
import {
  estimatedUrl,
  identifierTypes,
  languageSystem,
  maritalStatuses,
  nameUses,
  phoneUses,
  placeUses,
  registeredDateUrl,
  toSystemUri,
  unknownMaritalStatus,
} from "./codes.ts";
import { putBack, readKept } from "./kept.ts";
import type { Contact, ContactPoint, Identifier, Language, Name, Patient, PatientBody, Place } from "./patient.ts";
import { sayUnknown, withFormerReasons } from "./unknown.ts";

/** An object without the fields that are undefined. */
type Defined<T> = { [Key in keyof T]: Exclude<T[Key], undefined> };
export function compact<T extends object>(fields: T): Defined<T> {
  const defined: Partial<T> = {};
  for (const name in fields) if (fields[name] !== undefined) defined[name] = fields[name];
  return defined as Defined<T>;
}

/** Ids of elements are unique in a resource, ours in a list. */
const elementId = (kind: string, { id }: { id?: string }): string | undefined => (id === undefined ? undefined : `${kind}-${id}`);

const words = (text: string | undefined): string[] | undefined => text?.split(" ");

function toIdentifier(identifier: Identifier): fhir.Identifier {
  const { system, value, type, period } = identifier;
  const code = type === undefined ? undefined : identifierTypes.codes[type];
  return compact({
    id: elementId("identifier", identifier),
    // Our word for the number is the only one without a code there.
    type: code === undefined ? (type && { text: type }) || undefined : { coding: [{ system: identifierTypes.system, code }] },
    system: toSystemUri(system),
    value,
    period,
  });
}

function toName(name: Name): fhir.HumanName {
  const { use, text, prefix, given, family, suffix, period } = name;
  return compact({
    id: elementId("name", name),
    use: use && nameUses[use as keyof typeof nameUses],
    text,
    family,
    given: words(given),
    prefix: words(prefix),
    suffix: words(suffix),
    period,
  }) as fhir.HumanName;
}

const toTelecom =
  (system: "phone" | "email") =>
  (point: ContactPoint): fhir.ContactPoint =>
    compact({
      id: elementId(system, point),
      system,
      value: point.value,
      use: point.use && phoneUses[point.use as keyof typeof phoneUses],
      period: point.period,
    }) as fhir.ContactPoint;

function toAddress(place: Place): fhir.Address {
  const { use, text, street, city, state, zipCode, country, period } = place;
  return compact({
    id: elementId("address", place),
    use: use && placeUses[use as keyof typeof placeUses],
    text,
    line: street === undefined ? undefined : [street],
    city,
    state,
    postalCode: zipCode,
    country,
    period,
  }) as fhir.Address;
}

function toContact(contact: Contact): fhir.PatientContact {
  const { name, relationship, phone, address } = contact;
  return compact({
    id: elementId("contact", contact),
    relationship: relationship === undefined ? undefined : [{ text: relationship }],
    name: { text: name },
    telecom: phone === undefined ? undefined : [{ system: "phone" as const, value: phone }],
    address: address === undefined ? undefined : { text: address },
  });
}

const toCommunication = (entry: Language): fhir.PatientCommunication =>
  compact({
    id: elementId("language", entry),
    language: { coding: [{ system: languageSystem, code: entry.language }] },
    preferred: entry.preferred,
  });

function toMaritalStatus(status: string): fhir.CodeableConcept {
  const code = maritalStatuses.codes[status];
  return { coding: [code === undefined ? unknownMaritalStatus : { system: maritalStatuses.system, code }] };
}

const toDeceased = (deceased: boolean | string | undefined) =>
  typeof deceased === "string" ? { deceasedDateTime: deceased } : { deceasedBoolean: deceased };

const nonEmpty = <T>(list: T[]): T[] | undefined => (list.length > 0 ? list : undefined);

/** The elements of what callers write. */
export function toElements(body: PatientBody): Omit<fhir.Patient, "resourceType"> {
  const { identifiers = [], names = [], phones = [], emails = [], addresses = [], contacts = [], languages = [] } = body;
  const { dateOfBirth, dateOfBirthEstimated, deceased, sex, maritalStatus, generalPractitioner, managingSite, registeredDate } = body;
  return compact({
    extension: registeredDate === undefined ? undefined : [{ url: registeredDateUrl, valueDate: registeredDate }],
    identifier: nonEmpty(identifiers.map(toIdentifier)),
    active: true,
    name: nonEmpty(names.map(toName)),
    telecom: nonEmpty([...phones.map(toTelecom("phone")), ...emails.map(toTelecom("email"))]),
    gender: sex as fhir.Patient["gender"],
    birthDate: dateOfBirth,
    _birthDate: dateOfBirthEstimated === undefined ? undefined : { extension: [{ url: estimatedUrl, valueBoolean: dateOfBirthEstimated }] },
    ...toDeceased(deceased),
    address: nonEmpty(addresses.map(toAddress)),
    maritalStatus: maritalStatus === undefined ? undefined : toMaritalStatus(maritalStatus),
    contact: nonEmpty(contacts.map(toContact)),
    communication: nonEmpty(languages.map(toCommunication)),
    generalPractitioner: generalPractitioner === undefined ? undefined : [{ display: generalPractitioner }],
    managingOrganization: managingSite === undefined ? undefined : { display: managingSite },
  }) as Omit<fhir.Patient, "resourceType">;
}

const linkTo = (id: string, type: "replaced-by" | "replaces"): fhir.PatientLink => ({ other: { reference: `Patient/${id}` }, type });

/** The resource of a patient as they are, or were in a version. */
export function toFhir(patient: Patient): fhir.Patient {
  const { id, version, updatedAt, mergedInto, replaces = [], fhirElements } = patient;
  const elements = toElements(patient);
  const { name: names } = elements;
  const resource: fhir.Patient = {
    resourceType: "Patient",
    id,
    meta: { versionId: String(version), lastUpdated: updatedAt },
    ...elements,
    ...(mergedInto !== undefined && { active: false }),
    ...((mergedInto !== undefined || replaces.length > 0) && {
      link: [...(mergedInto === undefined ? [] : [linkTo(mergedInto, "replaced-by")]), ...replaces.map((one) => linkTo(one, "replaces"))],
    }),
  };
  const kept = readKept(fhirElements);
  return sayUnknown(putBack(withFormerReasons(resource, kept), kept), names);
}

export const examplePatient = toFhir({
  id: "0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f",
  version: 1,
  createdAt: "2026-01-28T09:30:00.000Z",
  updatedAt: "2026-01-28T09:30:00.000Z",
  identifiers: [{ id: "2", system: "mrn", value: "P1000002" }],
  names: [{ id: "1", use: "official", text: "Ada Lovelace", given: "Ada", family: "Lovelace" }],
  phones: [{ id: "1", value: "+12175550123", use: "mobile" }],
  emails: [{ id: "1", value: "ada@example.com" }],
  addresses: [
    { id: "1", text: "1 Main St, Springfield, IL 62701", street: "1 Main St", city: "Springfield", state: "IL", zipCode: "62701" },
  ],
  dateOfBirth: "1987-04-12",
  sex: "female",
  maritalStatus: "married",
  languages: [{ id: "1", language: "en-GB", preferred: true }],
  contacts: [{ id: "1", name: "Ralph King", relationship: "son", phone: "+12175550199" }],
  registeredDate: "2026-01-28",
});
