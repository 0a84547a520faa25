/** The entries of a record's lists, as callers send them: names, phones, e-mails, addresses and contacts. */
import type { FieldError } from "@pm/kit/errors";
import { type Contact, type Email, type Name, nameUses, type Phone, type Place, phoneUses, placeUses } from "../tables.ts";
import { countries } from "./countries.ts";
import { type Entry, list, normalText, oneOf, period, type Reader, text } from "./reading.ts";

/** As callers send it: an entry that is new has no id, and a text that can be composed may be absent. */
type Given<T, Optional extends keyof T = never> = Omit<T, "id" | Optional> & Partial<Pick<T, Optional>> & Entry;
export type GivenLists = {
  names?: Given<Name, "text">[] | null;
  phones?: Given<Phone>[] | null;
  emails?: Given<Email>[] | null;
  addresses?: Given<Place, "text">[] | null;
};
export type GivenContact = Given<Contact>;

export const entryLimits = { affix: 50, relationship: 100 };

const country: Reader<string> = (value, path, problems) => {
  const code = typeof value === "string" ? value.trim().toUpperCase() : "";
  if (countries.has(code)) return code;
  problems.push({ path, message: "must be a country by its two letters (ISO 3166-1), such as DE" });
  return undefined;
};

/** Adds a problem unless the entry has one of these fields. */
const needs =
  (message: string, ...names: string[]) =>
  (entry: Entry, path: string, problems: FieldError[]) => {
    if (!names.some((name) => name in entry)) problems.push({ path: names.length === 1 ? `${path}.${names[0]}` : path, message });
  };

/** The readers of values that flat fields have too. */
type Values = Record<"name" | "partOfName" | "phone" | "email" | "text" | "street" | "city" | "state" | "zipCode", Reader<string>>;

export function listReaders({ name, partOfName, phone, email, ...address }: Values) {
  const affix = normalText(entryLimits.affix);
  const isRequired = (field: string) => needs("is required", field);
  return {
    names: list<Given<Name, "text">>(
      { use: oneOf(nameUses), period, text: name, prefix: affix, given: partOfName, family: partOfName, suffix: affix },
      needs("must have a text, or given and family", "text", "given", "family"),
    ),
    phones: list<Given<Phone>>({ use: oneOf(phoneUses), period, value: phone }, isRequired("value")),
    emails: list<Given<Email>>({ use: oneOf(placeUses), period, value: email }, isRequired("value")),
    addresses: list<Given<Place, "text">>(
      { use: oneOf(placeUses), period, country, ...address },
      needs("must have a text, a street, a city, a state or a zipCode", "text", "street", "city", "state", "zipCode"),
    ),
    contacts: list<GivenContact>({ name, relationship: text(entryLimits.relationship), phone, address: address.text }, isRequired("name")),
  };
}
