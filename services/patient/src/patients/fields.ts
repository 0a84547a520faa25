/**
 * Reads the fields of a body that callers send: each value by itself. This is not a schema of a library, because each
 * message has to say what to do, and the messages of libraries for "either this or that" do not.
 */
import { type Instant, type LocalDate, localDateAt, toDate } from "@pm/kit/calendar";
import { type FieldError, invalidFields } from "@pm/kit/errors";
import type { RecordSettings } from "../config.ts";
import { type Address, firstDay, type Lists, maritalStatuses, type PatientRecord, sexes } from "../tables.ts";
import { type GivenContact, type GivenLanguage, type GivenLists, listReaders } from "./entries.ts";
import { type GivenIdentifier, identifiers } from "./identifiers.ts";
import { hasCountryCode, readPhone } from "./phone.ts";
import { normalText, oneOf, type Reader, readObject, text } from "./reading.ts";

/** Longest texts, in characters. */
export const limits = {
  name: 200,
  partOfName: 99,
  email: 254,
  phoneNumber: 40,
  addressText: 500,
  street: 200,
  city: 100,
  state: 100,
  zipCode: 20,
  fhirElements: 20_000,
};
const earliestDate = "1880-01-01";

// One @, no spaces or brackets, a domain of at least two labels. Stricter rules refuse addresses that work.
const emailForm = /^[^\s@<>()[\]\\,;:"]{1,64}@(?:[\p{L}\p{N}](?:[\p{L}\p{N}-]{0,61}[\p{L}\p{N}])?\.)+[\p{L}\p{N}-]{2,63}$/u;

const email: Reader<string> = (value, path, problems) => {
  const given = text(limits.email)(value, path, problems);
  if (given === undefined || emailForm.test(given)) return given;
  problems.push({ path, message: "must be an e-mail address such as ada@example.com" });
  return undefined;
};

type Precision = RecordSettings["dateOfBirthPrecision"];
const dateForms = { day: /^\d{4}-\d{2}-\d{2}$/, year: /^\d{4}(?:-\d{2}(?:-\d{2})?)?$/ };
const dateFormNames = { day: "YYYY-MM-DD", year: "YYYY-MM-DD, or as YYYY-MM or YYYY where the day is not known" };

/** @param setting what the clinic has decided, where it may decide that less than a day is enough */
const date =
  (latest: LocalDate, setting?: Precision): Reader<string> =>
  (value, path, problems) => {
    const precision = setting ?? "day";
    const fail = (message: string) => void problems.push({ path, message });
    if (typeof value !== "string" || !dateForms[precision].test(value)) {
      const isPart = setting === "day" && typeof value === "string" && dateForms.year.test(value);
      const way = isPart ? ", unless the clinic sets DATE_OF_BIRTH_PRECISION=year" : "";
      return fail(`must be a date as ${dateFormNames[precision]}${way}`);
    }
    const first = firstDay(value);
    const [year, month, day] = [Number(first.slice(0, 4)), Number(first.slice(5, 7)), Number(first.slice(8))];
    // A day beyond the end of its month becomes a day of the next month.
    const found = new Date(Date.UTC(year, month - 1, day));
    if (found.getUTCMonth() + 1 !== month || found.getUTCDate() !== day) return fail("is not a day of the calendar");
    if (first < earliestDate) return fail(`must not be before ${earliestDate}`);
    if (first > latest) return fail("must not be in the future");
    return value;
  };

const flag: Reader<boolean> = (value, path, problems) => {
  if (typeof value === "boolean") return value;
  problems.push({ path, message: "must be true or false" });
  return undefined;
};

const flagOrDate =
  (latest: LocalDate): Reader<boolean | string> =>
  (value, path, problems) => {
    if (typeof value === "boolean") return value;
    if (typeof value === "string") return date(latest)(value, path, problems);
    problems.push({ path, message: "must be true, false or a date as YYYY-MM-DD" });
    return undefined;
  };

const phoneNumber =
  (region: RecordSettings["phoneRegion"]): Reader<string> =>
  (value, path, problems) => {
    const given = text(limits.phoneNumber)(value, path, problems);
    const number = given === undefined ? undefined : readPhone(given, region);
    if (given === undefined || number !== undefined) return number;
    const message = hasCountryCode(given)
      ? "is not a number of the country that it begins with; check its digits"
      : `is not a phone number in ${region}: write it with its country code, such as +33 6 12 34 56 78`;
    problems.push({ path, message });
    return undefined;
  };

export type AddressParts = { [Part in keyof Address]?: string | null };
const addressReaders = {
  text: text(limits.addressText),
  street: text(limits.street),
  city: text(limits.city),
  state: text(limits.state),
  zipCode: text(limits.zipCode),
};

const address: Reader<AddressParts> = (value, path, problems) => {
  if (typeof value === "string") {
    const whole = addressReaders.text(value, path, problems);
    return whole === undefined ? undefined : { text: whole, street: null, city: null, state: null, zipCode: null };
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    problems.push({ path, message: "must be a text, or an object with street, city, state and zipCode" });
    return undefined;
  }
  return readObject<AddressParts>(value, addressReaders, [], `${path}.`, problems);
};

/** The fields of a body. Null removes a field. */
export type Fields = { [Field in Exclude<keyof PatientRecord, "address" | ListField>]?: PatientRecord[Field] | null } & {
  address?: AddressParts | null;
  identifiers?: GivenIdentifier[] | null;
  languages?: GivenLanguage[] | null;
  contacts?: GivenContact[] | null;
} & GivenLists;
type ListField = keyof Lists | "identifiers" | "languages" | "contacts";

/** Fields of an answer that are not part of the record. They are ignored, so that a caller can send an answer back. */
export const readOnly = [
  "id",
  "version",
  "createdAt",
  "updatedAt",
  "deletedAt",
  "mergedInto",
  "mergedFrom",
  "replaces",
  "billing",
  "possibleDuplicates",
];

function fieldReaders({ latest, settings }: Rules) {
  const [name, partOfName, phone] = [normalText(limits.name), normalText(limits.partOfName), phoneNumber(settings.phoneRegion)];
  return {
    ...{ name, firstName: partOfName, lastName: partOfName, email, phoneNumber: phone, address },
    dateOfBirth: date(latest, settings.dateOfBirthPrecision),
    dateOfBirthEstimated: flag,
    deceased: flagOrDate(latest),
    sex: oneOf(sexes),
    registeredDate: date(latest),
    identifiers,
    maritalStatus: oneOf(maritalStatuses),
    generalPractitioner: name,
    managingSite: name,
    fhirElements: text(limits.fhirElements),
    ...listReaders({ name, partOfName, phone, email, flag, ...addressReaders }),
  };
}

/** What a body is read by: the clinic's settings, and the days of the request. */
export type Rules = { settings: RecordSettings; today: LocalDate; latest: LocalDate };

/**
 * Today in the clinic's zone, and the latest day that is not in the future. They are the same day, unless the clinic
 * has the default zone: then it may be in any zone, and the latest day is that of the easternmost one, UTC+14.
 */
export function rulesAt(now: Instant, settings: RecordSettings): Rules {
  const today = localDateAt(now, settings.clinicTimeZone);
  return { settings, today, latest: settings.clinicTimeZone === "UTC" ? toDate(now + 14 * 3_600_000) : today };
}

let known: { rules: Rules; readers: ReturnType<typeof fieldReaders> } | undefined;

/** The readers of a day, created once a day. */
function readersOf(rules: Rules): ReturnType<typeof fieldReaders> {
  if (known?.rules.latest !== rules.latest || known.rules.settings !== rules.settings) known = { rules, readers: fieldReaders(rules) };
  return known.readers;
}

export function readFields(
  body: unknown,
  rules: Rules,
  ignored: string[],
  problems: FieldError[],
  current: Partial<PatientRecord> = {},
): Fields {
  if (typeof body !== "object" || body === null || Array.isArray(body))
    throw invalidFields([{ path: "", message: "must be a JSON object" }]);
  return readObject<Fields>(body, readersOf(rules), ignored, "", problems, current);
}
