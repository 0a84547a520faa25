/** The code systems of FHIR's Patient, and our words for their codes. */
import { ours } from "../protocol/resource.ts";

type Codes = { system: string; codes: Record<string, string> };

/** https://terminology.hl7.org/CodeSystem-v2-0203.html; a record number is what FHIR calls a medical record number. */
export const identifierTypes: Codes = {
  system: "http://terminology.hl7.org/CodeSystem/v2-0203",
  codes: { "record-number": "MR", "national-id": "NI", insurance: "MB", passport: "PPN", "driving-licence": "DL" },
};

const maritalStatus = "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus";
export const maritalStatuses: Codes = {
  system: maritalStatus,
  codes: {
    annulled: "A",
    divorced: "D",
    "domestic-partner": "T",
    married: "M",
    "never-married": "S",
    polygamous: "P",
    separated: "L",
    unmarried: "U",
    widowed: "W",
  },
};
/** FHIR takes a code of another system where it is not known. */
export const unknownMaritalStatus = { system: "http://terminology.hl7.org/CodeSystem/v3-NullFlavor", code: "UNK" };

export const languageSystem = "urn:ietf:bcp:47";

/** Our word for a FHIR use of a name, a telecom or an address. Those without a word here are kept as they came. */
export const nameUses = { official: "official", usual: "usual", maiden: "maiden", nickname: "nickname", alias: "anonymous" };
export const placeUses = { home: "home", work: "work", temporary: "temp", old: "old" };
export const phoneUses = { ...placeUses, mobile: "mobile" };

/** The key of a value, as our word for a code. */
export const wordOf = (words: Record<string, string>, code: string | undefined): string | undefined =>
  Object.keys(words).find((word) => words[word] === code);

/**
 * In FHIR, the system of an identifier is a URI. One that is no URI here, such as `mrn`, has this in front of it there.
 */
const localSystems = `${ours}/identifiers/`;
const isUri = (system: string): boolean => /^[a-z][a-z0-9+.-]*:[^\s]+$/.test(system);

export const toSystemUri = (system: string): string =>
  isUri(system) && !system.startsWith(localSystems) ? system : localSystems + encodeURIComponent(system);

/** Undefined for a URI with our beginning and something behind it that we did not write. */
export function fromSystemUri(uri: string): string | undefined {
  if (!uri.startsWith(localSystems)) return uri;
  try {
    return decodeURIComponent(uri.slice(localSystems.length)) || undefined;
  } catch {
    return undefined;
  }
}

export const registeredDateUrl = `${ours}/StructureDefinition/registered-date`;
export const estimatedUrl = `${ours}/StructureDefinition/birth-date-estimated`;
