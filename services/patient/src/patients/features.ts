/** What of a patient is compared: every part folded and taken apart, once, however many others it is compared with. */

import { type Address, identifierName, type PatientRecord } from "../tables.ts";
import { fold, split } from "./folding.ts";
import { endsName, isTitle } from "./titles.ts";

/** Any part of a patient. */
export type PartOfPatient = Partial<PatientRecord>;

/** A name. Where nobody said which part is which, the last word is the family's. */
export type NameFeatures = { given: string; family: string };
export type PlaceFeatures = {
  numbers: string[];
  words: string[];
  city: string | undefined;
  state: string | undefined;
  zipCode: string | undefined;
};
export type Features = {
  names: NameFeatures[];
  /** The digits of the date, as many as are known: `19850131`, `198501` or `1985`. */
  born: string | undefined;
  places: PlaceFeatures[];
  phones: string[];
  emails: string[];
  sex: string | undefined;
  /** As `system|value`. */
  identifiers: string[];
};

const words = (text: string | undefined): string => (text === undefined ? "" : split(fold(text)).join(" "));
const present = <Value>(values: (Value | undefined)[]): Value[] => values.filter((value) => value !== undefined);

function nameFeatures(text: string | undefined, given: string | undefined, family: string | undefined): NameFeatures | undefined {
  if (given !== undefined || family !== undefined) return { given: words(given), family: words(family) };
  const tokens = (text ?? "").split(/[\s,]+/).filter(Boolean);
  while (tokens.length > 1 && isTitle(tokens[0] ?? "")) tokens.shift();
  while (tokens.length > 1 && endsName(tokens.at(-1) ?? "")) tokens.pop();
  if (tokens.length === 0) return undefined;
  const last = text?.includes(",") ? tokens.shift() : tokens.pop();
  return { given: words(tokens.join(" ")), family: words(last) };
}

/** What streets are called in short. */
const shortForms: Record<string, string> = {
  ...{ street: "st", road: "rd", avenue: "ave", av: "ave", drive: "dr", place: "pl", crescent: "cres", circuit: "cct", court: "ct" },
  ...{ lane: "ln", terrace: "tce", close: "cl", highway: "hwy", boulevard: "blvd", square: "sq", parade: "pde", apartment: "apt" },
  ...{ strasse: "str", saint: "st", mount: "mt", north: "n", south: "s", east: "e", west: "w" },
};
const kinds = new Set(Object.values(shortForms));

/** A kind of street says less than its name. */
export const weightOfWord = (word: string): number => (kinds.has(word) ? 0.2 : 1);

function placeFeatures({ text, street, city, state, zipCode }: Partial<Address>): PlaceFeatures {
  const [foldedCity, foldedState] = [words(city), words(state)];
  const zip = words(zipCode).replaceAll(" ", "");
  // Without a street of its own, the whole address also has what the other parts say.
  const others = new Set(street === undefined ? [...foldedCity.split(" "), ...foldedState.split(" "), ...words(zipCode).split(" ")] : []);
  const tokens = words(street ?? text)
    .split(" ")
    .filter((word) => word !== "" && !others.has(word));
  return {
    numbers: tokens.filter((word) => /^\d/.test(word)),
    words: tokens.filter((word) => !/^\d/.test(word)).map((word) => shortForms[word] ?? word),
    city: foldedCity || undefined,
    state: foldedState || undefined,
    zipCode: zip || undefined,
  };
}

export function featuresOf(part: PartOfPatient): Features {
  const { name, firstName, lastName, names = [], address, addresses = [], phoneNumber, phones = [], email, emails = [] } = part;
  const { dateOfBirth, sex, identifiers = [] } = part;
  const digits = (number: string) => number.replace(/;.*/, "").replace(/\D/g, "");
  return {
    names: present([
      nameFeatures(name, firstName, lastName),
      ...names.slice(1).map(({ text, given, family }) => nameFeatures(text, given, family)),
    ]),
    born: dateOfBirth?.replaceAll("-", ""),
    places: present([address, ...addresses.slice(1)]).map(placeFeatures),
    phones: present([phoneNumber, ...phones.slice(1).map(({ value }) => value)]).map(digits),
    emails: present([email, ...emails.slice(1).map(({ value }) => value)]).map(fold),
    sex: sex === "unknown" ? undefined : sex,
    identifiers: identifiers.map(identifierName),
  };
}
