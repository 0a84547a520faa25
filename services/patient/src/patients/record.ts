/**
 * Reads the bodies that callers send into a record. A body has `name` and `address` as text, or `firstName`, `lastName` and
 * `address` in parts, or a mixture. This is not a schema of a library, because each message has to say what to do, and the
 * messages of libraries for "either this or that" do not.
 */
import { type Instant, type LocalDate, localDateAt, toDate } from "@pm/kit/calendar";
import { type FieldError, invalidFields } from "@pm/kit/errors";
import { parsePhoneNumberFromString } from "libphonenumber-js/min";
import { type Address, type Details, type PatientRecord, type Sex, sexes } from "../tables.ts";
import { type GivenIdentifier, identifiers, identifiersAfter } from "./identifiers.ts";
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

type AddressParts = { [Part in keyof Address]?: string | null };
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
type Fields = {
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
};

/** Fields of an answer that are not part of the record. They are ignored, so that a caller can send an answer back. */
const readOnly = ["id", "version", "createdAt", "updatedAt", "billing"];

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
});

/** The days of a request. */
export type Days = { today: LocalDate; latest: LocalDate };

/**
 * Today in the clinic's zone, and the latest day that is not in the future. They are the same day, unless the clinic has
 * the default zone: then nobody may have said where it is, and a day counts as begun as soon as it has begun anywhere.
 * Zones are up to 14 hours ahead of UTC.
 */
export function daysAt(now: Instant, clinicTimeZone: string): Days {
  const today = localDateAt(now, clinicTimeZone);
  return { today, latest: clinicTimeZone === "UTC" ? toDate(now + 14 * 3_600_000) : today };
}

let known: { latest: LocalDate; readers: ReturnType<typeof fieldReaders> } | undefined;

/** The readers of a day, created once a day. */
function readersOf({ latest }: Days): ReturnType<typeof fieldReaders> {
  if (known?.latest !== latest) known = { latest, readers: fieldReaders(latest) };
  return known.readers;
}

function readFields(body: unknown, days: Days, ignored: string[], problems: FieldError[]): Fields {
  if (typeof body !== "object" || body === null || Array.isArray(body))
    throw invalidFields([{ path: "", message: "must be a JSON object" }]);
  return readObject<Fields>(body, readersOf(days), ignored, "", problems);
}

/** The address in one line: `1 Main St, Springfield, IL 62701`. */
function composeAddress(parts: AddressParts): string {
  const region = [parts.state, parts.zipCode].filter(Boolean).join(" ");
  return [parts.street, parts.city, region].filter(Boolean).join(", ");
}

const composeName = (first: string | null | undefined, last: string | null | undefined) => [first, last].filter(Boolean).join(" ");

/** The parts that older clients do not know. So they stay if a body does not have them, also in a PUT. */
function toDetails(fields: Fields, current: PatientRecord | undefined): Details {
  if (fields.identifiers === undefined) return current?.identifiers ? { identifiers: current.identifiers } : {};
  const found = identifiersAfter(fields.identifiers ?? [], current && (current.identifiers ?? []));
  return found.length > 0 ? { identifiers: found } : {};
}

/** Makes the record, or throws all problems at once. For a patch, `fields` is merged with the old record already. */
function toRecord(fields: Fields, defaultDate: LocalDate, problems: FieldError[], current?: PatientRecord): PatientRecord {
  const reported = new Set(problems.map((problem) => problem.path.split(".")[0]));
  const require = (name: "email" | "dateOfBirth" | "address", value: unknown) => {
    if ((value === undefined || value === null) && !reported.has(name)) problems.push({ path: name, message: "is required" });
  };
  const name = fields.name ?? composeName(fields.firstName, fields.lastName);
  const addressText = fields.address ? (fields.address.text ?? composeAddress(fields.address)) : "";
  if (name === "" && !["name", "firstName", "lastName"].some((field) => reported.has(field)))
    problems.push({ path: "name", message: "is required, or firstName and lastName" });
  if (name.length > limits.name)
    problems.push({ path: "lastName", message: `firstName and lastName must have at most ${limits.name} characters together` });
  require("email", fields.email);
  require("dateOfBirth", fields.dateOfBirth);
  require("address", fields.address);
  if (fields.address && addressText === "" && !reported.has("address"))
    problems.push({ path: "address", message: "must have a street, a city, a state or a zipCode" });
  if (addressText.length > limits.addressText)
    problems.push({ path: "address", message: `must have at most ${limits.addressText} characters together` });
  if (problems.length > 0) throw invalidFields(problems);

  const { firstName, lastName, phoneNumber: phone, sex: givenSex } = fields;
  const { street, city, state, zipCode } = fields.address ?? {};
  return {
    name,
    ...(firstName && { firstName }),
    ...(lastName && { lastName }),
    email: fields.email ?? "",
    ...(phone && { phoneNumber: phone }),
    dateOfBirth: fields.dateOfBirth ?? "",
    address: {
      text: addressText,
      ...(street && { street }),
      ...(city && { city }),
      ...(state && { state }),
      ...(zipCode && { zipCode }),
    },
    ...(givenSex && { sex: givenSex }),
    registeredDate: fields.registeredDate ?? defaultDate,
    ...toDetails(fields, current),
  };
}

/** @throws AppError invalid_argument that names every wrong field. */
export function newRecord(body: unknown, days: Days, ignored: string[] = []): PatientRecord {
  const problems: FieldError[] = [];
  return toRecord(readFields(body, days, ignored, problems), days.today, problems);
}

/** The record of a line of an import; the line may come from an export. @throws as `newRecord`. */
export const importedRecord = (body: unknown, days: Days): PatientRecord => newRecord(body, days, readOnly);

/** The record after a PUT. An absent field is removed, except the day of registration and what older clients do not know. @throws as `newRecord`. */
export function replacedRecord(body: unknown, current: PatientRecord, days: Days): PatientRecord {
  const problems: FieldError[] = [];
  return toRecord(readFields(body, days, readOnly, problems), current.registeredDate, problems, current);
}

/** The record after a PATCH (RFC 7396): an absent field stays, null removes. @throws as `newRecord`. */
export function patchedRecord(body: unknown, current: PatientRecord, days: Days): PatientRecord {
  const problems: FieldError[] = [];
  const patch = readFields(body, days, readOnly, problems);
  const merged: Fields = { ...current, ...patch };
  const namesPart = patch.firstName !== undefined || patch.lastName !== undefined;
  if (patch.name === null) problems.push({ path: "name", message: "cannot be removed, only changed" });
  if (patch.name === undefined && namesPart) {
    // The whole name follows its parts, unless no part is left.
    if (composeName(merged.firstName, merged.lastName) !== "") delete merged.name;
  } else if (patch.name !== undefined && !namesPart && patch.name !== current.name) {
    delete merged.firstName;
    delete merged.lastName;
  }
  if (patch.address) {
    merged.address = { ...current.address, ...patch.address };
    // A text that was composed from the parts follows them. A text that a caller wrote stays until a caller writes another.
    const follows = current.address.text === composeAddress(current.address) && composeAddress(merged.address) !== "";
    if (patch.address.text === null || (patch.address.text === undefined && follows)) delete merged.address.text;
  }
  return toRecord(merged, current.registeredDate, problems, current);
}

/** The texts of a record by their paths. An entry of a list is named by its id: `identifiers.2.value`. */
function flatten(value: object, prefix = "", texts: Record<string, string> = {}): Record<string, string> {
  for (const [key, part] of Object.entries(value)) {
    if (typeof part === "string") texts[prefix + key] = part;
    else if (Array.isArray(part)) {
      for (const { id, ...entry } of part) flatten(entry, `${prefix}${key}.${id}.`, texts);
      if (part.length > 1) texts[`${prefix}${key}.order`] = part.map(({ id }) => id).join(" ");
    } else flatten(part, `${prefix}${key}.`, texts);
  }
  return texts;
}

/** A field that differs between two versions, by its path. */
export type FieldChange = { field: string; from?: string; to?: string };

export function diffRecords(before: Partial<PatientRecord>, after: Partial<PatientRecord>): FieldChange[] {
  const [old, now] = [flatten(before), flatten(after)];
  return [...new Set([...Object.keys(old), ...Object.keys(now)])]
    .filter((field) => old[field] !== now[field])
    .map((field) => ({
      field,
      ...(old[field] !== undefined && { from: old[field] }),
      ...(now[field] !== undefined && { to: now[field] }),
    }));
}
