/**
 * The bodies as the OpenAPI document shows them, for readers and for tools that make requests. Nothing is validated by them:
 * `record.ts` decides what a body means, since its messages can say what to do. Patterns are written so that other languages' regular
 * expressions read them too.
 */
import { z } from "@hono/zod-openapi";
import { plainTextPattern } from "@pm/kit/plain-text";
import { sexes } from "../tables.ts";
import { limits } from "./fields.ts";
import { exampleRecord } from "./schemas.ts";

type Schema = {
  type?: "string" | "boolean" | "object" | "null";
  description?: string;
  minLength?: number;
  maxLength?: number;
  pattern?: string;
  format?: string;
  enum?: string[];
  readOnly?: boolean;
  anyOf?: Schema[];
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
    ...nullable({ type: "string", minLength: 1, maxLength: limits.phoneNumber }),
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
  sex: nullable({ type: "string", enum: [...sexes] }),
  registeredDate: { ...nullable(date), description: "The day of the request in the clinic's time zone by default." },
} satisfies Record<string, Schema>;
const { name, address, firstName, lastName, ...common } = exampleRecord;
const flat = { name, ...common, address: address.text };
const inParts = {
  firstName,
  lastName,
  ...common,
  address: { street: address.street, city: address.city, state: address.state, zipCode: address.zipCode },
};

/** Fields of an answer that are not part of the record. A body may contain them; they are ignored. */
const readOnly = Object.fromEntries(
  ["id", "version", "createdAt", "updatedAt", "deletedAt", "billing"].map((field) => [field, { readOnly: true }]),
);

const written = (schemaName: string, schema: Schema) =>
  z.unknown().openapi(schemaName, { type: "object", additionalProperties: false, ...schema });

export const PatientCreateSchema = written("PatientCreate", {
  description: "Name and address as text, in parts, or mixed.",
  properties: fields,
  required: ["email", "dateOfBirth", "address"],
  ...oneOf("name", "firstName", "lastName"),
  examples: [flat, inParts],
});

export const PatientReplaceSchema = written("PatientReplace", {
  description: "The whole record. A field that is absent is removed, except registeredDate, which stays.",
  properties: { ...fields, ...readOnly },
  required: ["email", "dateOfBirth", "address"],
  ...oneOf("name", "firstName", "lastName"),
  examples: [flat, inParts],
});

export const PatientPatchSchema = written("PatientPatch", {
  description: "A JSON merge patch (RFC 7396): an absent field stays, null removes. A name or address in one form replaces the other form.",
  properties: { ...fields, name: line(limits.name), address: { anyOf: [line(limits.addressText), addressParts] }, ...readOnly },
  examples: [{ email: "countess@example.com", phoneNumber: null }],
});
