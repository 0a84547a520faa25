/**
 * Makes the record of a body. A body has `name` and `address` as text, or `firstName`, `lastName` and `address` in parts, or a
 * mixture.
 */
import type { LocalDate } from "@pm/kit/calendar";
import { emailKey } from "@pm/kit/email";
import { type FieldError, invalidFields } from "@pm/kit/errors";
import type { RecordSettings } from "../config.ts";
import { type Address, firstDay, type PatientRecord } from "../tables.ts";
import { type AddressParts, type Fields, limits, type Rules, readFields, readOnly } from "./fields.ts";

/** The address in one line: `1 Main St, Springfield, IL 62701`. */
function composeAddress(parts: AddressParts): string {
  const region = [parts.state, parts.zipCode].filter(Boolean).join(" ");
  return [parts.street, parts.city, region].filter(Boolean).join(", ");
}

const composeName = (first: string | null | undefined, last: string | null | undefined) => [first, last].filter(Boolean).join(" ");

/** What uniqueness compares; undefined if the clinic lets patients share addresses, or the record has none. */
export function emailKeyOf({ email }: PatientRecord, { emailUnique }: RecordSettings): string | undefined {
  return emailUnique && email !== undefined ? emailKey(email) : undefined;
}

/** Makes the record, or throws all problems at once. For a patch, `fields` is merged with the old record already. */
function toRecord(fields: Fields, { settings }: Rules, registeredDate: LocalDate, problems: FieldError[]): PatientRecord {
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
  if (settings.emailRequired) require("email", fields.email);
  require("dateOfBirth", fields.dateOfBirth);
  if (settings.addressRequired) require("address", fields.address);
  if (fields.address && addressText === "" && !reported.has("address"))
    problems.push({ path: "address", message: "must have a street, a city, a state or a zipCode" });
  if (addressText.length > limits.addressText)
    problems.push({ path: "address", message: `must have at most ${limits.addressText} characters together` });
  if (typeof fields.deceased === "string" && fields.dateOfBirth && fields.deceased < firstDay(fields.dateOfBirth))
    problems.push({ path: "deceased", message: "must not be before dateOfBirth" });
  if (problems.length > 0) throw invalidFields(problems);

  const { firstName, lastName, email, phoneNumber, sex, dateOfBirthEstimated: isEstimated, deceased } = fields;
  return {
    name,
    ...(firstName && { firstName }),
    ...(lastName && { lastName }),
    ...(email && { email }),
    ...(phoneNumber && { phoneNumber }),
    dateOfBirth: fields.dateOfBirth ?? "",
    ...(fields.address && { address: toAddress(addressText, fields.address) }),
    ...(sex && { sex }),
    registeredDate: fields.registeredDate ?? registeredDate,
    ...(typeof isEstimated === "boolean" && { dateOfBirthEstimated: isEstimated }),
    ...(typeof deceased !== "object" && deceased !== undefined && { deceased }),
  };
}

function toAddress(text: string, { street, city, state, zipCode }: AddressParts): Address {
  return { text, ...(street && { street }), ...(city && { city }), ...(state && { state }), ...(zipCode && { zipCode }) };
}

/** @throws AppError invalid_argument that names every wrong field. */
export function newRecord(body: unknown, rules: Rules, ignored: string[] = []): PatientRecord {
  const problems: FieldError[] = [];
  return toRecord(readFields(body, rules, ignored, problems), rules, rules.today, problems);
}

/** The record of a line of an import; the line may come from an export. @throws as `newRecord`. */
export const importedRecord = (body: unknown, rules: Rules): PatientRecord => newRecord(body, rules, readOnly);

/** The record after a PUT. An absent field is removed, except the day of registration. @throws as `newRecord`. */
export function replacedRecord(body: unknown, current: PatientRecord, rules: Rules): PatientRecord {
  const problems: FieldError[] = [];
  return toRecord(readFields(body, rules, readOnly, problems, current), rules, current.registeredDate, problems);
}

/** The record after a PATCH (RFC 7396): an absent field stays, null removes. @throws as `newRecord`. */
export function patchedRecord(body: unknown, current: PatientRecord, rules: Rules): PatientRecord {
  const problems: FieldError[] = [];
  const patch = readFields(body, rules, readOnly, problems, current);
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
    const follows = current.address?.text === composeAddress(current.address ?? {}) && composeAddress(merged.address) !== "";
    if (patch.address.text === null || (patch.address.text === undefined && follows)) delete merged.address.text;
  }
  return toRecord(merged, rules, current.registeredDate, problems);
}

/** A field that differs between two versions, by its path in an answer. */
export type FieldChange = { field: string; from?: string; to?: string };

export function diffRecords(before: Partial<PatientRecord>, after: Partial<PatientRecord>): FieldChange[] {
  const flatten = ({ address: where, ...rest }: Partial<PatientRecord>): Record<string, string> =>
    Object.fromEntries([
      ...Object.entries(rest).map(([field, value]) => [field, String(value)]),
      ...Object.entries(where ?? {}).map(([part, value]) => [`address.${part}`, value]),
    ]);
  const [old, now] = [flatten(before), flatten(after)];
  return [...new Set([...Object.keys(old), ...Object.keys(now)])]
    .filter((field) => old[field] !== now[field])
    .map((field) => ({
      field,
      ...(old[field] !== undefined && { from: old[field] }),
      ...(now[field] !== undefined && { to: now[field] }),
    }));
}
