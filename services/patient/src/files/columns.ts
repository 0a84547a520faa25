/** The columns of CSV: their names, also in other systems, and what they mean in the body of a patient. */
import { invalidFields } from "@pm/kit/errors";
import { isUuid } from "@pm/kit/uuid";
import { countries } from "../patients/countries.ts";
import { recordNumberSystem } from "../tables.ts";
import { type DateFormat, readDate } from "./dates.ts";
import { addEntry, type Entries, type ListName, listNames } from "./lists.ts";

/** What a row becomes. `added` are entries of lists that have columns of their own, such as a mobile number. */
export type Row = { fields: Record<string, unknown>; address: Record<string, string>; added: Entries };
type Put = (row: Row, cell: string, dateFormat: DateFormat | undefined) => void;

/** How the files of a caller differ from what an export writes. `map` has the meaning of columns by their names. */
export type CsvOptions = { map?: Map<string, string> | undefined; dateFormat?: DateFormat | undefined };

const wrong = (path: string, message: string) => invalidFields([{ path, message }]);

/** Cells often contain an address in several lines, as on an envelope. */
const inOneLine = (text: string) => text.replace(/,?\s*[\r\n]\s*/g, ", ");

const field =
  (name: string): Put =>
  ({ fields }, cell) => {
    fields[name] = cell;
  };

const id: Put = ({ fields }, cell) => {
  if (!isUuid(cell)) throw wrong("id", "is no id of this platform: say what it is with map=id:mrn, or leave it out with map=id:-");
  fields.id = cell;
};

/** Text in front of or behind what another column has: middle names, the second line of a street. */
const appended =
  (kind: "fields" | "address", name: string, separator: string): Put =>
  (row, cell) => {
    const values: Record<string, unknown> = row[kind];
    const line = kind === "address" ? inOneLine(cell) : cell;
    values[name] = values[name] === undefined ? line : `${values[name]}${separator}${line}`;
  };

const date =
  (name: string): Put =>
  ({ fields }, cell, dateFormat) => {
    const read = readDate(cell, dateFormat);
    if ("problem" in read) throw wrong(name, read.problem);
    fields[name] = read.date;
  };

const flags = new Map([
  ...["true", "yes", "y", "1"].map((word) => [word, true] as const),
  ...["false", "no", "n", "0"].map((word) => [word, false] as const),
]);
const flag =
  (name: string): Put =>
  ({ fields }, cell) => {
    fields[name] ??= flags.get(cell.toLowerCase()) ?? cell;
  };

/** A word that is one of a few; `codes` are short for them. */
const word =
  (name: string, codes: Record<string, string>): Put =>
  ({ fields }, cell) => {
    fields[name] = codes[cell.toLowerCase()] ?? cell;
  };
const sexCodes = { f: "female", m: "male", o: "other", u: "unknown" };
/** Of the letters of HL7, those that have one meaning in all its versions. */
const maritalCodes = {
  ...{ s: "never-married", m: "married", d: "divorced", w: "widowed", single: "unmarried", "domestic partner": "domestic-partner" },
};

const added =
  (list: ListName, entry: (cell: string) => Record<string, unknown>): Put =>
  (row, cell) =>
    addEntry(row.added, list, entry(cell));

const identifier = (system: string, type?: string): Put => added("identifiers", (value) => ({ system, value, ...(type && { type }) }));
const phone = (use: string) => added("phones", (value) => ({ use, value }));

/** A list as an export writes it. */
const list =
  (name: ListName): Put =>
  ({ fields }, cell) => {
    try {
      fields[name] = JSON.parse(cell);
    } catch {
      throw wrong(name, "must be a list as JSON, as an export writes it");
    }
  };

const countryNames = new Intl.DisplayNames("en", { type: "region" });
const countryCodes = new Map([...countries].map((code) => [countryNames.of(code)?.toLowerCase(), code])).set("usa", "US").set("uk", "GB");

const flagOrDate: Put = (row, cell, dateFormat) => (/\d{2}/.test(cell) ? date("deceased") : flag("deceased"))(row, cell, dateFormat);

/**
 * Columns of an export, in its order, and what else comes. The names are those of Synthea, OpenMRS, OpenEMR, DHIS2 and
 * of many people.
 */
const columns: { [column: string]: { names?: string; put?: Put } } = {
  id: { put: id },
  name: { names: "full name, patient name", put: field("name") },
  firstName: { names: "first, given, given name, given names, fname, forename", put: appended("fields", "firstName", " ") },
  lastName: { names: "last, family, family name, surname, lname", put: appended("fields", "lastName", " ") },
  email: { names: "e-mail address, mail", put: field("email") },
  phoneNumber: { names: "phone, telephone, tel, telephone number, phone contact", put: field("phoneNumber") },
  dateOfBirth: { names: "dob, birth date, birthday, born", put: date("dateOfBirth") },
  address: { names: "full address, postal address", put: appended("address", "text", ", ") },
  street: { names: "address 1, address line 1, street address", put: appended("address", "street", ", ") },
  city: { names: "town, city village, address village, municipality", put: appended("address", "city", ", ") },
  state: { names: "state province, address state, province, region", put: appended("address", "state", ", ") },
  zipCode: { names: "zip, postal code, postcode", put: appended("address", "zipCode", " ") },
  sex: { names: "gender", put: word("sex", sexCodes) },
  registeredDate: { names: "registration date, date of registration, enrollment date", put: date("registeredDate") },
  version: {},
  createdAt: {},
  updatedAt: { names: "last updated" },
  deletedAt: {},
  billingStatus: {},
  billingAccountId: {},
  dateOfBirthEstimated: { names: "birthdate estimated, birth date estimated", put: flag("dateOfBirthEstimated") },
  deceased: { names: "dead", put: flagOrDate },
  mrn: {
    names: "medical record number, record number, registration number, identifier, openmrs id, pubpid, unique id",
    put: identifier(recordNumberSystem),
  },
  maritalStatus: { names: "marital, civil status", put: word("maritalStatus", maritalCodes) },
  generalPractitioner: { names: "gp, family doctor", put: field("generalPractitioner") },
  managingSite: { put: field("managingSite") },
  fhirElements: { put: field("fhirElements") },
  ...Object.fromEntries(listNames.map((name) => [name, { put: list(name) }])),
  mergedInto: {},
  middleName: { names: "middle, mname, middle names", put: appended("fields", "firstName", " ") },
  prefix: { names: "title", put: added("names", (prefix) => ({ prefix })) },
  suffix: { put: added("names", (suffix) => ({ suffix })) },
  secondLastName: { names: "family name 2, second surname", put: appended("fields", "lastName", " ") },
  maidenName: { names: "maiden, birth name", put: added("names", (family) => ({ use: "maiden", family })) },
  address2: { names: "address line 2", put: appended("address", "street", ", ") },
  country: {
    names: "country code",
    put: added("addresses", (cell) => ({ country: countryCodes.get(cell.toLowerCase()) ?? cell })),
  },
  mobile: { names: "mobile phone, mobile number, cell, cell phone, phone cell", put: phone("mobile") },
  homePhone: { names: "phone home", put: phone("home") },
  workPhone: { names: "phone biz, phone work, business phone", put: phone("work") },
  ssn: { names: "ss, social security number", put: identifier("us-ssn", "national-id") },
  nationalId: { names: "national identifier", put: identifier("national-id", "national-id") },
  passport: { names: "passport number", put: identifier("passport", "passport") },
  driversLicense: { names: "drivers, driving licence", put: identifier("driving-licence", "driving-licence") },
  insuranceNumber: { put: identifier("insurance", "insurance") },
  trackedEntity: { names: "tracked entity instance", put: identifier("dhis2-tracked-entity") },
  patientId: { put: identifier("openmrs-patient-id") },
  pid: { put: identifier("openemr-pid") },
  uuid: { put: identifier("uuid") },
  deathDate: { names: "date of death, deceased date", put: date("deceased") },
};

/**
 * Columns of other systems that a record has no field for. A report names them, since what they say is not imported.
 */
const fieldless =
  "race, ethnicity, birthplace, county, county district, address district, address tehsil, fips, lat, lon, healthcare expenses, " +
  "healthcare coverage, income, status, language, cause of death, org unit, org unit name, program, created, stored by";

/** What makes names alike: "Date of Birth", "date_of_birth" and "dateOfBirth" are one. */
const alike = (name: string) =>
  name
    .normalize("NFKC")
    .toLowerCase()
    .replace(/[^\p{L}\p{M}\p{N}]/gu, "");

const leftOut = "-";
const known = new Map<string, string>([
  ...Object.entries(columns).flatMap(([column, { names = "" }]) =>
    [column, ...names.split(", ")].map((name) => [alike(name), column] as const),
  ),
  ...fieldless.split(", ").map((name) => [alike(name), leftOut] as const),
]);

/**
 * Files of other systems, known by columns that they `have`, in which others mean something else than in most files. Of
 * one with a hundred columns, those that are not known are left out too.
 */
const systems: { [name: string]: { have: string[]; mean: Record<string, string>; leavesOut?: true } } = {
  Synthea: { have: ["birthdate", "deathdate", "ssn", "drivers"], mean: { id: "identifiers.synthea" } },
  // Its table `patient_data`. The id is that of a row, the status the marital one, and `phone_contact` somebody else's.
  OpenEMR: {
    have: ["fname", "lname", "dob", "pubpid"],
    mean: { id: leftOut, status: "maritalStatus", phonecontact: leftOut },
    leavesOut: true,
  },
  // There a tracked entity is the kind of an instance.
  DHIS2: { have: ["instance", "trackedentity"], mean: { instance: "trackedEntity", trackedentity: leftOut, inactive: leftOut } },
};

/** The columns of a header; undefined where nothing is to be read. */
export type Header = { columns: (string | undefined)[]; names: string[]; ignored: string[] };

/**
 * @throws AppError invalid_argument if a column is not known, or stands twice, or the map has one that the file has not
 */
export function readHeader(names: string[], { map = new Map() }: CsvOptions): Header {
  const likes = names.map(alike);
  const system = Object.values(systems).find(({ have }) => have.every((name) => likes.includes(name)));
  const mapped = new Map([...Object.entries(system?.mean ?? {}), ...[...map].map(([name, meaning]) => [alike(name), meaning] as const)]);
  const found = likes.map((name) => mapped.get(name) ?? known.get(name) ?? (system?.leavesOut && leftOut));
  const problems = found.flatMap((column, index) => {
    const path = `header.${names[index]?.slice(0, 50)}`;
    if (likes[index] === "" || column === leftOut) return [];
    if (column === undefined) {
      const way = `map=${names[index]?.trim().slice(0, 50)}:firstName says what it is, and :- leaves it out`;
      return [{ path, message: `is not a known column; known are ${Object.keys(columns).join(", ")}. ${way}` }];
    }
    return found.indexOf(column) < index ? [{ path, message: "is a column for the second time: leave one of them out" }] : [];
  });
  const missing = [...map.keys()].filter((name) => !likes.includes(alike(name)));
  problems.push(...missing.map((name) => ({ path: "map", message: `names ${name.slice(0, 50)}, which is no column of the file` })));
  if (problems.length > 0) throw invalidFields(problems);
  const isIgnored = (_: string, index: number) => found[index] === leftOut;
  return { columns: found.map((column) => (column === leftOut ? undefined : column)), names, ignored: names.filter(isIgnored) };
}

/** The column that a field came from, as the file writes it; undefined where several may be meant, or none. */
export function columnOf({ columns, names }: Header, path: string): string | undefined {
  const meanings = [path, path.replace("identifiers.", ""), path.replace(/\[.*$/, ""), path.replace(/^.*\./, "")];
  const index = meanings.map((meaning) => columns.indexOf(meaning)).find((found) => found !== -1);
  return index === undefined ? undefined : names[index]?.trim().slice(0, 100);
}

/** @throws AppError invalid_argument if it is not `Column:meaning,…` */
export function readMap(text: string): Map<string, string> {
  return new Map(
    text.split(",").map((part) => {
      const [, name = "", meaning = ""] = /^([^:]*\S[^:]*):\s*(\S+)\s*$/.exec(part) ?? [];
      const column = known.get(alike(meaning));
      if (meaning === leftOut || /^identifiers\.[^\s|]+$/.test(meaning)) return [name, meaning];
      if (name !== "" && column !== undefined && column !== leftOut) return [name, column];
      throw wrong(
        "map",
        `must be columns with their meanings, Vorname:firstName,Notiz:- or Pass:identifiers.passport-de; not ${part.slice(0, 50)}`,
      );
    }),
  );
}

export function putterOf(column: string): Put | undefined {
  return columns[column]?.put ?? (column.startsWith("identifiers.") ? identifier(column.slice("identifiers.".length)) : undefined);
}

/** The columns of an export. */
export const exportColumns = Object.keys(columns).slice(0, Object.keys(columns).indexOf("middleName"));
