/** The entries of a record's lists, as callers send them: names, phones, e-mails, addresses and contacts. */
import type { FieldError } from "@pm/kit/errors";
import { type Contact, type Email, type Language, type Name, nameUses, type Phone, type Place, phoneUses, placeUses } from "../tables.ts";
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
export type GivenLanguage = Given<Language>;

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

const language: Reader<string> = (value, path, problems) => {
  try {
    if (typeof value === "string" && /^[a-z]{2,3}(-|$)/i.test(value)) return Intl.getCanonicalLocales(value)[0];
  } catch {
    // It is no tag.
  }
  problems.push({ path, message: "must be a language by its tag (BCP 47), such as de or pt-BR" });
  return undefined;
};

const languageEntries = (preferred: Reader<boolean>) => list<GivenLanguage>({ language, preferred }, needs("is required", "language"));

const languages =
  (preferred: Reader<boolean>): Reader<GivenLanguage[]> =>
  (value, path, problems, current) => {
    const found = languageEntries(preferred)(value, path, problems, current);
    const wanted = found?.filter((entry) => entry.preferred) ?? [];
    if (wanted.length > 1) problems.push({ path, message: "must have at most one that is preferred" });
    return found;
  };

/** The readers of values that flat fields have too. */
type Values = Record<"name" | "partOfName" | "phone" | "email" | "text" | "street" | "city" | "state" | "zipCode", Reader<string>> & {
  flag: Reader<boolean>;
};

export function listReaders({ name, partOfName, phone, email, flag, ...address }: Values) {
  const affix = normalText(entryLimits.affix);
  const isRequired = (field: string) => needs("is required", field);
  return {
    names: list<Given<Name, "text">>(
      { use: oneOf(nameUses), period, text: name, prefix: affix, given: partOfName, family: partOfName, suffix: affix },
      needs("must have a text, given or family", "text", "given", "family"),
    ),
    phones: list<Given<Phone>>({ use: oneOf(phoneUses), period, value: phone }, isRequired("value")),
    emails: list<Given<Email>>({ use: oneOf(placeUses), period, value: email }, isRequired("value")),
    addresses: list<Given<Place, "text">>(
      { use: oneOf(placeUses), period, country, ...address },
      needs("must have a text, a street, a city, a state or a zipCode", "text", "street", "city", "state", "zipCode"),
    ),
    languages: languages(flag),
    contacts: list<GivenContact>({ name, relationship: text(entryLimits.relationship), phone, address: address.text }, isRequired("name")),
  };
}
