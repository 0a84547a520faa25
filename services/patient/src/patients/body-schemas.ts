/**
 * The bodies as the OpenAPI document shows them, for readers and for tools that make requests. Nothing is validated by
 * them: `record.ts` decides what a body means, since its messages can say what to do. Patterns are written so that
 * other languages' regular expressions read them too.
 */
import { z } from "@hono/zod-openapi";
import { plainTextPattern } from "@pm/kit/plain-text";
import { identifierTypes, maritalStatuses, nameUses, phoneUses, placeUses, sexes } from "../tables.ts";
import { entryLimits } from "./entries.ts";
import { limits } from "./fields.ts";
import { identifierLimits } from "./identifiers.ts";
import { maxEntries } from "./reading.ts";
import { exampleContact, exampleIdentifier, exampleRecord } from "./schemas.ts";

type Schema = {
  type?: "string" | "boolean" | "object" | "array" | "null";
  description?: string;
  minLength?: number;
  maxLength?: number;
  pattern?: string;
  format?: string;
  enum?: string[];
  readOnly?: boolean;
  anyOf?: Schema[];
  allOf?: Schema[];
  not?: Schema;
  items?: Schema;
  minItems?: number;
  maxItems?: number;
  properties?: Record<string, Schema>;
  minProperties?: number;
  additionalProperties?: boolean;
  required?: string[];
  examples?: unknown[];
};
const nullable = (schema: Schema): Schema => ({ anyOf: [schema, { type: "null" }] });
/** At least one of these fields, and not as null. */
const oneOf = (...names: string[]): Schema => ({
  anyOf: names.map((field) => ({ required: [field], properties: { [field]: { type: "string" } } })),
});
/** At least one of these fields, or a list with an entry. */
const oneOrList = (list: string, ...names: string[]): Schema => ({
  anyOf: [
    ...names.map((field) => ({ required: [field], properties: { [field]: { not: { type: "null" as const } } } })),
    { required: [list], properties: { [list]: { type: "array", minItems: 1 } } },
  ],
});
const isComplete = {
  required: ["dateOfBirth"],
  allOf: [oneOrList("names", "name", "firstName", "lastName"), oneOrList("emails", "email"), oneOrList("addresses", "address")],
} satisfies Schema;
/** A text that people read. Spaces around it are removed. */
const line = (maxLength: number): Schema => ({ type: "string", minLength: 1, maxLength, pattern: plainTextPattern });
const date: Schema = { type: "string", format: "date", pattern: "^\\d{4}-\\d{2}-\\d{2}$" };
const addressParts = {
  type: "object",
  additionalProperties: false,
  properties: {
    text: nullable(line(limits.addressText)),
    street: nullable(line(limits.street)),
    city: nullable(line(limits.city)),
    state: nullable(line(limits.state)),
    zipCode: nullable(line(limits.zipCode)),
  },
} satisfies Schema;
const partOfCalendar = nullable({ type: "string", pattern: "^\\d{4}(-\\d{2}){0,2}$" });
const period: Schema = { type: "object", additionalProperties: false, properties: { start: partOfCalendar, end: partOfCalendar } };
/** A list of entries. An entry that a caller sends back has the id that it got; a new one has none. */
const list = (description: string, required: string[], properties: Record<string, Schema>): Schema => ({
  description,
  anyOf: [
    {
      type: "array",
      maxItems: maxEntries,
      items: {
        type: "object",
        additionalProperties: false,
        required,
        properties: { id: nullable({ type: "string", pattern: "^[A-Za-z0-9_-]{1,36}$" }), ...properties },
      },
    },
    { type: "null" },
  ],
});
const oneWord = (words: readonly string[]): Schema => nullable({ type: "string", enum: [...words] });
const phoneNumber: Schema = { type: "string", minLength: 1, maxLength: limits.phoneNumber };
const fields = {
  name: { ...nullable(line(limits.name)), description: "Required unless firstName or lastName is given." },
  firstName: nullable(line(limits.partOfName)),
  lastName: nullable(line(limits.partOfName)),
  email: {
    type: "string",
    format: "idn-email",
    maxLength: limits.email,
    description:
      "Required, and unique among patients that are not deleted, regardless of case; unless the clinic has decided otherwise (EMAIL_REQUIRED, EMAIL_UNIQUE).",
  },
  phoneNumber: {
    ...nullable(phoneNumber),
    description:
      "In any usual spelling, best as E.164 (`+12175550123`), also with an extension. Without a country code it is read as in PHONE_REGION (US), and refused if it cannot be a number there.",
  },
  dateOfBirth: {
    ...date,
    description: "Not before 1880 and not in the future. With DATE_OF_BIRTH_PRECISION=year also a month (`1976-05`) or a year (`1976`).",
  },
  dateOfBirthEstimated: nullable({ type: "boolean" }),
  deceased: { anyOf: [{ type: "boolean" }, date, { type: "null" }], description: "Whether they have died, or on which day." },
  address: {
    description: "Required, unless the clinic has decided otherwise (ADDRESS_REQUIRED).",
    anyOf: [line(limits.addressText), { ...addressParts, ...oneOf("text", "street", "city", "state", "zipCode") }],
  },
  sex: oneWord(sexes),
  registeredDate: { ...nullable(date), description: "The day of the request in the clinic's time zone by default." },
  identifiers: list(
    "Replaces the list. No two patients that are not deleted have the same value of a system. The medical record number (`mrn`) stays unless the list has another one; a new patient without one gets one.",
    ["system", "value"],
    {
      system: { type: "string", minLength: 1, maxLength: identifierLimits.system, pattern: "^[^\\s|]+$" },
      value: line(identifierLimits.value),
      type: oneWord(identifierTypes),
      period: nullable(period),
    },
  ),
  names: list("`name`, `firstName` and `lastName` are those of the first entry. A new list replaces the list.", [], {
    use: oneWord(nameUses),
    text: nullable(line(limits.name)),
    prefix: nullable(line(entryLimits.affix)),
    given: nullable(line(limits.partOfName)),
    family: nullable(line(limits.partOfName)),
    suffix: nullable(line(entryLimits.affix)),
    period: nullable(period),
  }),
  phones: list("`phoneNumber` is the first entry.", ["value"], { value: phoneNumber, use: oneWord(phoneUses), period: nullable(period) }),
  emails: list("`email` is the first entry.", ["value"], {
    value: { type: "string", format: "idn-email", maxLength: limits.email },
    use: oneWord(placeUses),
    period: nullable(period),
  }),
  addresses: list("`address` is the first entry.", [], {
    ...addressParts.properties,
    use: oneWord(placeUses),
    country: { ...nullable({ type: "string", pattern: "^\\s*[A-Za-z]{2}\\s*$" }), description: "ISO 3166-1, two letters." },
    period: nullable(period),
  }),
  maritalStatus: oneWord(maritalStatuses),
  languages: list("Languages that the patient speaks; at most one is preferred.", ["language"], {
    language: { type: "string", pattern: "^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$", description: "A tag of BCP 47, such as de or pt-BR." },
    preferred: nullable({ type: "boolean" }),
  }),
  generalPractitioner: nullable(line(limits.name)),
  managingSite: nullable(line(limits.name)),
  fhirElements: {
    ...nullable(line(limits.fhirElements)),
    description: "JSON of the FHIR service, which writes it. Leave it out, or send it back as it was read.",
  },
  contacts: list("Whom to ask or to tell about the patient.", ["name"], {
    name: line(limits.name),
    relationship: nullable(line(entryLimits.relationship)),
    phone: nullable(phoneNumber),
    address: nullable(line(limits.addressText)),
  }),
} satisfies Record<string, Schema>;
const { name, address, firstName, lastName, ...common } = exampleRecord;
const { email, phoneNumber: phone, ...withLists } = common;
const inLists = {
  ...withLists,
  names: [
    { use: "official", prefix: "Dr.", given: firstName, family: lastName },
    { use: "maiden", text: "Ada Byron" },
  ],
  phones: [
    { value: phone, use: "mobile" },
    { value: "+442071234567", use: "work", period: { start: "2026-01" } },
  ],
  emails: [{ value: email }],
  addresses: [{ street: address.street, city: address.city, state: address.state, zipCode: address.zipCode, country: "US" }],
  contacts: [exampleContact],
  maritalStatus: "married",
  languages: [{ language: "en-GB", preferred: true }, { language: "de" }],
  generalPractitioner: "Dr. William King, Springfield",
  managingSite: "Lakeside Clinic, North",
};
const flat = { name, ...common, address: address.text };
const inParts = {
  firstName,
  lastName,
  ...common,
  identifiers: [exampleIdentifier],
  address: { street: address.street, city: address.city, state: address.state, zipCode: address.zipCode },
};

/** Fields of an answer that are not part of the record. A body may contain them; they are ignored. */
const readOnly = Object.fromEntries(
  ["id", "version", "createdAt", "updatedAt", "deletedAt", "billing", "possibleDuplicates"].map((field) => [field, { readOnly: true }]),
);

const written = (schemaName: string, schema: Schema) =>
  z.unknown().openapi(schemaName, { type: "object", additionalProperties: false, ...schema });

export const PatientCreateSchema = written("PatientCreate", {
  description:
    "Name and address as text, in parts, or mixed; and names, phones, e-mails and addresses as flat fields, or as lists whose first entry the flat fields show. A flat field and a list that differ are refused. Unless the clinic has decided otherwise, an e-mail and an address are required.",
  properties: fields,
  ...isComplete,
  examples: [flat, inParts, inLists],
});

export const PatientReplaceSchema = written("PatientReplace", {
  description:
    "The whole record. A field that is absent is removed. Only registeredDate, and what older clients do not know, stay: deceased, marital status, languages, general practitioner, managing site, identifiers, contacts, fhirElements, and the further entries of a list whose first entry the body has as a flat field.",
  properties: { ...fields, ...readOnly },
  ...isComplete,
  examples: [flat, inParts, inLists],
});

const patch = {
  description:
    "A JSON merge patch (RFC 7396): an absent field stays, null removes. A name or address in one form replaces the other form. A list replaces the whole list. A flat field changes the first entry of its list; null removes it, and the next moves up.",
  properties: { ...fields, name: line(limits.name), address: { anyOf: [line(limits.addressText), addressParts] }, ...readOnly },
  examples: [{ email: "countess@example.com", phoneNumber: null }],
};
export const PatientPatchSchema = written("PatientPatch", patch);
export const PatientRestoreSchema = written("PatientRestore", {
  ...patch,
  examples: [{ email: "countess@example.com", identifiers: null }],
});

const comparable = ["name", "firstName", "lastName", "names", "dateOfBirth", "address", "addresses"];
const exact = ["phoneNumber", "phones", "email", "emails", "identifiers"];
export const PatientMatchSchema = written("PatientMatch", {
  description:
    "Any part of a patient, with at least one of: a name, a date of birth, an address, a phone number, an e-mail or an identifier. Only a date may be less precise than in a record: `1987-04` or `1987`.",
  properties: { ...fields, dateOfBirth: partOfCalendar, ...readOnly },
  anyOf: [...comparable, ...exact].map((field) => ({ required: [field], properties: { [field]: { not: { type: "null" as const } } } })),
  examples: [{ name: "Ada Lovelace", dateOfBirth: "1987-04-12" }, inParts],
});
