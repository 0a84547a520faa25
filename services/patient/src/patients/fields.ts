/**
 * Reads the fields of a body that callers send: each value by itself. This is not a schema of a library, because each message
 * has to say what to do, and the messages of libraries for "either this or that" do not.
 */
import { type Instant, type LocalDate, localDateAt, toDate } from "@pm/kit/calendar";
import { type FieldError, invalidFields } from "@pm/kit/errors";
import { parsePhoneNumberFromString } from "libphonenumber-js/min";
import type { RecordSettings } from "../config.ts";
import { type Address, type Sex, sexes } from "../tables.ts";
import { type GivenContact, type GivenLists, listReaders } from "./entries.ts";
import { type GivenIdentifier, identifiers } from "./identifiers.ts";
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

const date =
  (latest: LocalDate): Reader<string> =>
  (value, path, problems) => {
    const fail = (message: string) => void problems.push({ path, message });
    const parts = typeof value === "string" ? /^(\d{4})-(\d{2})-(\d{2})$/.exec(value) : null;
    if (typeof value !== "string" || !parts) return fail("must be a date as YYYY-MM-DD");
    const [year, month, day] = [Number(parts[1]), Number(parts[2]), Number(parts[3])];
    // A day beyond the end of its month becomes a day of the next month.
    const found = new Date(Date.UTC(year, month - 1, day));
    if (found.getUTCMonth() + 1 !== month || found.getUTCDate() !== day) return fail("is not a day of the calendar");
    if (value < earliestDate) return fail(`must not be before ${earliestDate}`);
    if (value > latest) return fail("must not be in the future");
    return value;
  };

const phoneNumber: Reader<string> = (value, path, problems) => {
  const given = text(limits.phoneNumber)(value, path, problems);
  if (given === undefined) return undefined;
  // Any ten digits are a possible North American number, and most numbers are written so. The library is slower.
  const northAmerican = /^(?:\+?1[ .-]?)?\(?(\d{3})\)?[ .-]?(\d{3})[ .-]?(\d{4})$/.exec(given);
  if (northAmerican) return `+1${northAmerican[1]}${northAmerican[2]}${northAmerican[3]}`;
  // A number without a country code is read as North American, since addresses have a state and a zip code. It must be possible,
  // not valid: numbering plans change faster than the library's copy of them.
  const parsed = parsePhoneNumberFromString(given, "US");
  if (parsed?.isPossible()) return parsed.number;
  problems.push({ path, message: "must be a phone number, best with its country: +14155550123" });
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

const lists = listReaders({
  name: normalText(limits.name),
  partOfName: normalText(limits.partOfName),
  phone: phoneNumber,
  email,
  ...addressReaders,
});

/** The fields of a body. Null removes a field. */
export type Fields = {
  name?: string | null;
  firstName?: string | null;
  lastName?: string | null;
  email?: string | null;
  phoneNumber?: string | null;
  dateOfBirth?: string | null;
  address?: AddressParts | null;
  sex?: Sex | null;
  registeredDate?: string | null;
  identifiers?: GivenIdentifier[] | null;
  contacts?: GivenContact[] | null;
} & GivenLists;

/** Fields of an answer that are not part of the record. They are ignored, so that a caller can send an answer back. */
export const readOnly = ["id", "version", "createdAt", "updatedAt", "billing"];

const fieldReaders = (latest: LocalDate) => ({
  name: normalText(limits.name),
  firstName: normalText(limits.partOfName),
  lastName: normalText(limits.partOfName),
  email,
  phoneNumber,
  dateOfBirth: date(latest),
  address,
  sex: oneOf(sexes),
  registeredDate: date(latest),
  identifiers,
  ...lists,
});

/** What a body is read by: the clinic's settings, and the days of the request. */
export type Rules = { settings: RecordSettings; today: LocalDate; latest: LocalDate };

/**
 * Today in the clinic's zone, and the latest day that is not in the future. They are the same day, unless the clinic has
 * the default zone: then nobody may have said where it is, and a day counts as begun as soon as it has begun anywhere.
 * Zones are up to 14 hours ahead of UTC.
 */
export function rulesAt(now: Instant, settings: RecordSettings): Rules {
  const today = localDateAt(now, settings.clinicTimeZone);
  return { settings, today, latest: settings.clinicTimeZone === "UTC" ? toDate(now + 14 * 3_600_000) : today };
}

let known: { latest: LocalDate; readers: ReturnType<typeof fieldReaders> } | undefined;

/** The readers of a day, created once a day. */
function readersOf({ latest }: Rules): ReturnType<typeof fieldReaders> {
  if (known?.latest !== latest) known = { latest, readers: fieldReaders(latest) };
  return known.readers;
}

export function readFields(body: unknown, rules: Rules, ignored: string[], problems: FieldError[]): Fields {
  if (typeof body !== "object" || body === null || Array.isArray(body))
    throw invalidFields([{ path: "", message: "must be a JSON object" }]);
  return readObject<Fields>(body, readersOf(rules), ignored, "", problems);
}
