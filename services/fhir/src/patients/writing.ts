/** The mapping of a patient, FHIR → ours (`mapping.ts` has the other way). */
import type { FieldError } from "@pm/kit/errors";
import type * as fhir from "fhir/r4.js";
import { unprocessable } from "../protocol/outcome.ts";
import {
  estimatedUrl,
  fromSystemUri,
  identifierTypes,
  languageSystem,
  maritalStatuses,
  nameUses,
  phoneUses,
  placeUses,
  registeredDateUrl,
  unknownMaritalStatus,
  wordOf,
} from "./codes.ts";
import { faultsOf } from "./elements.ts";
import { byId, isEqual, type Kept, keep, mayBeKept, otherId, readKept, withBondsOf } from "./kept.ts";
import { compact, toElements } from "./mapping.ts";
import type { Contact, ContactPoint, Identifier, Language, Name, PatientBody, Place } from "./patient.ts";
import { withoutUnknown } from "./unknown.ts";

/** What a resource becomes: the body for patient-service, and what of the resource has no field there. */
export type Written = {
  body: PatientBody;
  kept: Kept;
  /** The FHIRPath of a field of the body, for errors of patient-service. */
  pathOf: (field: string) => string;
};

type Entry = { id?: string | undefined };
/** An entry of ours, its element with its place in the resource's list, and the id that it is read by. */
type Mapped<Ours> = { ours: Ours; element: Entry; index: number; elementId: string };

const join = (words: string[] | undefined): string | undefined => words?.join(" ");

function identifierOf({ system, value, type, period }: fhir.Identifier): Identifier | undefined {
  const name = system === undefined ? undefined : fromSystemUri(system);
  if (name === undefined || value === undefined) return undefined;
  const code = type?.coding?.find((coding) => coding.system === identifierTypes.system)?.code;
  const word = code === undefined ? type?.text === "other" && "other" : wordOf(identifierTypes.codes, code);
  return compact({ system: name, value, type: word || undefined, period: periodOf(period) });
}

function nameOf({ use, text, family, given, prefix, suffix, period }: fhir.HumanName): Name | undefined {
  if (text === undefined && family === undefined && given === undefined) return undefined;
  const words = { prefix: join(prefix), given: join(given), suffix: join(suffix) };
  return compact({ use: wordOf(nameUses, use), text, family, ...words, period: periodOf(period) });
}

const pointOf =
  (system: "phone" | "email", uses: Record<string, string>) =>
  (point: fhir.ContactPoint): ContactPoint | undefined => {
    const { value, use, period } = point;
    if (point.system !== system || value === undefined) return undefined;
    return compact({ value, use: wordOf(uses, use), period: periodOf(period) });
  };

function placeOf({ use, text, line, city, state, postalCode, country, period }: fhir.Address): Place | undefined {
  const street = line?.join(", ");
  if ([text, street, city, state, postalCode].every((part) => part === undefined)) return undefined;
  const code = /^[A-Za-z]{2}$/.test(country ?? "") ? country?.toUpperCase() : undefined;
  return compact({ use: wordOf(placeUses, use), text, street, city, state, zipCode: postalCode, country: code, period: periodOf(period) });
}

function contactOf({ name, relationship, telecom, address }: fhir.PatientContact): Contact | undefined {
  const text = name?.text ?? ([...(name?.given ?? []), name?.family].filter(Boolean).join(" ") || undefined);
  if (text === undefined) return undefined;
  const [kind] = relationship ?? [];
  return compact({
    name: text,
    relationship: kind?.text ?? kind?.coding?.[0]?.display,
    phone: telecom?.[0]?.system === "phone" ? telecom[0].value : undefined,
    address: address?.text,
  });
}

function languageOf({ language, preferred }: fhir.PatientCommunication): Language | undefined {
  const code = language.coding?.find(({ system }) => system === languageSystem)?.code;
  return code === undefined ? undefined : compact({ language: code, preferred });
}

/** Our periods have days, and those of FHIR may have instants. */
function periodOf(period: fhir.Period | undefined): { start?: string; end?: string } | undefined {
  if (period?.start === undefined && period?.end === undefined) return undefined;
  return compact({ start: period.start?.slice(0, 10), end: period.end?.slice(0, 10) });
}

function maritalStatusOf(concept: fhir.CodeableConcept | undefined): string | undefined {
  for (const { system, code } of concept?.coding ?? []) {
    if (system === unknownMaritalStatus.system && code === unknownMaritalStatus.code) return "unknown";
    const word = system === maritalStatuses.system ? wordOf(maritalStatuses.codes, code) : undefined;
    if (word !== undefined) return word;
  }
  return undefined;
}

/**
 * The first entry is what other clients show. So one that is out of use does not come first, and an official name does.
 */
function byUse<Ours extends { use?: string }>(entries: Mapped<Ours>[]): Mapped<Ours>[] {
  const rank = ({ ours: { use } }: Mapped<Ours>) => (use === "official" ? 0 : 1);
  const isOld = ({ element }: Mapped<Ours>) => ((element as { use?: string }).use === "old" ? 1 : 0);
  return entries.toSorted((one, other) => isOld(one) - isOld(other) || rank(one) - rank(other));
}

/** Our ids in those of elements, `name-2` → `2`. An entry without one of ours gets the id of an equal stored one. */
function entriesOf<Element extends Entry, Ours extends Entry>(
  kind: string,
  elements: Element[],
  toOurs: (element: Element) => Ours | undefined,
  stored: Ours[] = [],
): Mapped<Ours>[] {
  const mapped = elements.flatMap((element, index) => {
    const entry = toOurs(element);
    return entry ? [{ entry, element, index }] : [];
  });
  const form = new RegExp(`^${kind}-([\\w-]{1,36})$`);
  const used = new Set<string>();
  const newId = createNewId(used, stored);
  const own = mapped.map(({ element }) => {
    const id = form.exec(element.id ?? "")?.[1];
    if (id === undefined || used.has(id)) return undefined;
    used.add(id);
    return id;
  });
  return mapped.map(({ entry, element, index }, at) => {
    const equal = stored.find(({ id, ...rest }) => !used.has(id ?? "") && isEqual(rest, entry));
    const id = own[at] ?? equal?.id ?? newId();
    used.add(id);
    return { ours: { id, ...entry }, element, index, elementId: `${kind}-${id}` };
  });
}

/** Among stored entries a new one gets an id that no entry had before it, and in a new list the next number. */
function createNewId(used: Set<string>, stored: Entry[]): () => string {
  let next = 1;
  return () => {
    let id: string;
    do id = stored.length > 0 ? crypto.randomUUID().slice(0, 8) : String(next++);
    while (used.has(id));
    return id;
  };
}

/** What is right by itself and cannot be stored. */
function refusals(resource: fhir.Patient, links: fhir.PatientLink[] | undefined): FieldError[] {
  const wrong: FieldError[] = [];
  const refuse = (path: string, message: string) => void wrong.push({ path: `Patient.${path}`, message });
  if (resource.active === false) refuse("active", "is false only for a record that was merged; delete the patient instead");
  if (resource.link && !isEqual(resource.link, links)) refuse("link", "follows from merging records, which is POST /patients/{id}:merge");
  if (resource.text?.status === "additional") refuse("text", "says more than the elements, and only elements are stored");
  if (resource.deceasedDateTime && resource.deceasedDateTime.length < 10)
    refuse("deceased", "must be a whole date, or deceasedBoolean if the day is not known");
  for (const [index, identifier] of (resource.identifier ?? []).entries())
    for (const field of ["system", "value"] as const)
      if (identifier[field] === undefined) refuse(`identifier[${index}].${field}`, "is required");
  return wrong;
}

/**
 * @param current what is stored, for an update: its ids of entries stay with equal ones, and its links may be repeated
 * @throws AppError unprocessable that names every element which is no FHIR or cannot be stored
 */
export function readPatient(given: fhir.Patient, current?: { body: PatientBody; links: fhir.PatientLink[] | undefined }): Written {
  const faults = faultsOf(given);
  const wrong = faults.length > 0 ? faults : refusals(given, current?.links);
  if (wrong.length > 0) throw unprocessable(wrong);
  const resource = withoutUnknown(given, current?.body);
  const stored = current?.body ?? {};
  const { telecom = [] } = resource;
  const lists = {
    identifiers: entriesOf("identifier", resource.identifier ?? [], identifierOf, stored.identifiers),
    names: byUse(entriesOf("name", resource.name ?? [], nameOf, stored.names)),
    phones: byUse(entriesOf("phone", telecom, pointOf("phone", phoneUses), stored.phones)),
    emails: byUse(entriesOf("email", telecom, pointOf("email", placeUses), stored.emails)),
    addresses: byUse(entriesOf("address", resource.address ?? [], placeOf, stored.addresses)),
    contacts: entriesOf("contact", resource.contact ?? [], contactOf, stored.contacts),
    languages: entriesOf("language", resource.communication ?? [], languageOf, stored.languages),
  };
  const extension = (all: fhir.Extension[] | undefined, url: string) => all?.find((one) => one.url === url);
  const body: PatientBody = compact({
    ...Object.fromEntries(Object.entries(lists).map(([name, list]) => [name, list.length > 0 ? list.map(({ ours }) => ours) : undefined])),
    dateOfBirth: resource.birthDate,
    dateOfBirthEstimated: extension(resource._birthDate?.extension, estimatedUrl)?.valueBoolean,
    deceased: resource.deceasedDateTime?.slice(0, 10) ?? resource.deceasedBoolean,
    sex: resource.gender,
    maritalStatus: maritalStatusOf(resource.maritalStatus),
    generalPractitioner: resource.generalPractitioner?.[0]?.display,
    managingSite: resource.managingOrganization?.display,
    registeredDate: extension(resource.extension, registeredDateUrl)?.valueDate,
  });
  return { body, kept: keptOf(resource, body, lists, readKept(stored.fhirElements)), pathOf: (field) => pathOf(field, lists) };
}

type Lists = Record<keyof typeof listNames, Mapped<Entry>[]>;

/** The list of a resource that each of ours is in. */
const listNames = {
  identifiers: "identifier",
  names: "name",
  phones: "telecom",
  emails: "telecom",
  addresses: "address",
  contacts: "contact",
  languages: "communication",
};

function keptOf(resource: fhir.Patient, body: PatientBody, lists: Lists, stored: Kept): Kept {
  const ids = new Map(Object.values(lists).flatMap((list) => list.map(({ element, elementId }) => [element, elementId])));
  const named = Object.entries(resource).map(([name, value]) => [
    name,
    Array.isArray(value) ? value.map((element) => (ids.has(element) ? { ...element, id: ids.get(element) } : element)) : value,
  ]);
  const mapped: Record<string, unknown> = { ...toElements(body), meta: {} };
  const parts = keep(Object.fromEntries(named), mapped).filter(([path]) => mayBeKept(path));
  // Last, because the other parts are found by our ids.
  for (const [kind, list] of Object.entries(lists)) {
    const name = listNames[kind as keyof Lists];
    const entries = byId((mapped[name] ?? []) as Entry[]);
    for (const { element, elementId } of list)
      if (element.id !== undefined && element.id !== elementId)
        parts.push(otherId(name, elementId, element.id, entries.get(elementId))); // biome-ignore format: one thing
  }
  return withBondsOf(stored, parts, mapped);
}

/** FHIR's names of our fields, where they differ. */
const elementNames: Record<string, string> = {
  name: "name",
  firstName: "name",
  lastName: "name",
  email: "telecom.where(system='email')",
  phoneNumber: "telecom.where(system='phone')",
  dateOfBirth: "birthDate",
  dateOfBirthEstimated: "birthDate",
  sex: "gender",
  generalPractitioner: "generalPractitioner[0].display",
  managingSite: "managingOrganization.display",
  registeredDate: "extension",
  ...{ prefix: "prefix", given: "given", suffix: "suffix", street: "line", zipCode: "postalCode" },
  ...{ relationship: "relationship[0]", phone: "telecom[0].value" },
  ...listNames,
};
const fhirName = (field: string): string => elementNames[field] ?? field;

/** `names[0].zipCode` → `Patient.name[2].postalCode`, by where the entry stands in the resource. */
function pathOf(field: string, lists: Lists): string {
  const taken = lists.identifiers.find(({ ours }) => field === `identifiers.${(ours as Identifier).system}`);
  if (taken) return `Patient.identifier[${taken.index}]`;
  const [, list = "", place = "", rest = ""] = /^(\w+)\[(\d+)\]\.?(.*)$/.exec(field) ?? [];
  if (!(list in lists)) return ["Patient", ...field.split(".").map(fhirName)].filter(Boolean).join(".");
  const index = lists[list as keyof Lists][Number(place)]?.index;
  return ["Patient", `${fhirName(list)}[${index}]`, ...rest.split(".").map(fhirName)].filter(Boolean).join(".");
}
