/**
 * Makes the record of a body. A body has `name` and `address` as text, or `firstName`, `lastName` and `address` in
 * parts, or a mixture.
 */
import { emailKey } from "@pm/kit/email";
import { type FieldError, invalidFields } from "@pm/kit/errors";
import type { RecordSettings } from "../config.ts";
import { type Address, type Details, firstDay, type PatientRecord } from "../tables.ts";
import { storedDetails } from "./details-store.ts";
import { type AddressParts, type Fields, limits, type Rules, readFields, readOnly } from "./fields.ts";
import { identifiersAfter } from "./identifiers.ts";
import { type Entry, withIds } from "./reading.ts";
import { addressText, composeAddress, composeName, listsOf, type Pending, readLists, toLists } from "./views.ts";

/** What uniqueness compares; undefined if the clinic lets patients share addresses, or the record has none. */
export function emailKeyOf({ email }: PatientRecord, { emailUnique }: RecordSettings): string | undefined {
  return emailUnique && email !== undefined ? emailKey(email) : undefined;
}

/** The parts that older clients do not know. So they stay if a body lacks them, also in a PUT. Null removes them. */
function toDetails(fields: Fields, current: PatientRecord | undefined): Details {
  const kept = (field: "deceased" | "maritalStatus" | "generalPractitioner" | "managingSite" | "fhirElements") =>
    fields[field] === undefined ? current?.[field] : (fields[field] ?? undefined);
  const entries = (field: "languages" | "contacts") =>
    fields[field] === undefined ? current?.[field] : withIds<Entry>(fields[field] ?? [], current !== undefined);
  const numbers = fields.identifiers;
  const details = {
    deceased: kept("deceased"),
    maritalStatus: kept("maritalStatus"),
    languages: entries("languages"),
    generalPractitioner: kept("generalPractitioner"),
    managingSite: kept("managingSite"),
    fhirElements: kept("fhirElements"),
    identifiers: numbers === undefined ? current?.identifiers : identifiersAfter(numbers ?? [], current && (current.identifiers ?? [])),
    contacts: entries("contacts"),
  };
  const isGiven = (value: unknown) => value !== undefined && !(Array.isArray(value) && value.length === 0);
  return Object.fromEntries(Object.entries(details).filter(([, value]) => isGiven(value)));
}

/** What a record is made of: the fields of a body, for a patch merged with the record before, and lists. */
type Parts = { fields: Fields; lists: Pending; rules: Rules; problems: FieldError[]; current?: PatientRecord };

/** Makes the record, or throws all problems at once. */
function toRecord({ fields, lists, rules: { settings, today }, problems, current }: Parts): PatientRecord {
  const reported = new Set(problems.map((problem) => problem.path.split(/[.[]/)[0]));
  const require = (name: "email" | "dateOfBirth" | "address", value: unknown, list: string = name, setting?: string) => {
    if ((value ?? undefined) !== undefined || reported.has(name) || reported.has(list)) return;
    problems.push({ path: name, message: setting ? `is required, unless the clinic sets ${setting}=false` : "is required" });
  };
  const name = fields.name ?? composeName(fields.firstName, fields.lastName);
  const addressText = fields.address ? (fields.address.text ?? composeAddress(fields.address)) : "";
  if (name === "" && !["name", "firstName", "lastName", "names"].some((field) => reported.has(field)))
    problems.push({ path: "name", message: "is required, or firstName or lastName" });
  if (name.length > limits.name)
    problems.push({ path: "lastName", message: `firstName and lastName must have at most ${limits.name} characters together` });
  if (settings.emailRequired) require("email", fields.email, "emails", "EMAIL_REQUIRED");
  require("dateOfBirth", fields.dateOfBirth);
  if (settings.addressRequired) require("address", fields.address, "addresses", "ADDRESS_REQUIRED");
  if (fields.address && addressText === "" && !reported.has("address"))
    problems.push({ path: "address", message: "must have a street, a city, a state or a zipCode" });
  if (addressText.length > limits.addressText)
    problems.push({ path: "address", message: `must have at most ${limits.addressText} characters together` });
  const { deceased = current?.deceased } = fields;
  if (typeof deceased === "string" && fields.dateOfBirth && deceased < firstDay(fields.dateOfBirth))
    problems.push({ path: "deceased", message: "must not be before dateOfBirth" });
  if (problems.length > 0) throw invalidFields(problems);

  const { firstName, lastName, email, phoneNumber, sex, dateOfBirthEstimated } = fields;
  // A PUT of an older client does not say whether the date that it repeats is estimated.
  const isEstimated =
    dateOfBirthEstimated === undefined && fields.dateOfBirth === current?.dateOfBirth
      ? current?.dateOfBirthEstimated
      : dateOfBirthEstimated;
  const record: PatientRecord = {
    name,
    ...(firstName && { firstName }),
    ...(lastName && { lastName }),
    ...(email && { email }),
    ...(phoneNumber && { phoneNumber }),
    dateOfBirth: fields.dateOfBirth ?? "",
    ...(fields.address && { address: toAddress(addressText, fields.address) }),
    ...(sex && { sex }),
    registeredDate: fields.registeredDate ?? current?.registeredDate ?? today,
    ...(typeof isEstimated === "boolean" && { dateOfBirthEstimated: isEstimated }),
    ...toDetails(fields, current),
  };
  return lists ? { ...record, ...toLists(lists, record, current !== undefined) } : record;
}

function toAddress(text: string, { street, city, state, zipCode }: AddressParts): Address {
  return { text, ...(street && { street }), ...(city && { city }), ...(state && { state }), ...(zipCode && { zipCode }) };
}

/** @throws AppError invalid_argument that names every wrong field. */
export function newRecord(body: unknown, rules: Rules, ignored: string[] = []): PatientRecord {
  const problems: FieldError[] = [];
  const fields = readFields(body, rules, ignored, problems);
  return toRecord({ fields, lists: readLists(fields, undefined, true, problems), rules, problems });
}

/** The record of a line of an import; the line may come from an export. @throws as `newRecord`. */
export const importedRecord = (body: unknown, rules: Rules): PatientRecord => newRecord(body, rules, readOnly);

/**
 * The record after a PUT. An absent field is removed, except the day of registration and what older clients do not know
 * (`toDetails`, and the further entries of a list whose first entry the body has). @throws as `newRecord`.
 */
export function replacedRecord(body: unknown, current: PatientRecord, rules: Rules): PatientRecord {
  const problems: FieldError[] = [];
  const fields = readFields(body, rules, readOnly, problems, { ...current, ...listsOf(current) });
  const lists = readLists(fields, current, true, problems);
  if (fields.address) fields.address = { ...fields.address, text: addressText(fields.address, current.address) };
  return toRecord({ fields, lists, rules, problems, current });
}

/** The record after a PATCH (RFC 7396): an absent field stays, null removes. @throws as `newRecord`. */
export function patchedRecord(body: unknown, current: PatientRecord, rules: Rules): PatientRecord {
  const problems: FieldError[] = [];
  const patch = readFields(body, rules, readOnly, problems, { ...current, ...listsOf(current) });
  const lists = readLists(patch, current, false, problems);
  const fields: Fields = { ...current, ...patch };
  patchName(fields, patch, current, problems);
  if (patch.address) fields.address = patchAddress(patch.address, current.address, problems);
  return toRecord({ fields, lists, rules, problems, current });
}

function patchName(fields: Fields, patch: Fields, current: PatientRecord, problems: FieldError[]): void {
  const parts = (["firstName", "lastName"] as const).filter((part) => patch[part] !== undefined);
  if (patch.name === null) problems.push({ path: "name", message: "cannot be removed, only changed" });
  if (patch.name !== undefined) {
    if (parts.length > 0 || patch.name === current.name) return;
    delete fields.firstName;
    delete fields.lastName;
    return;
  }
  const isWhole = current.firstName === undefined && current.lastName === undefined;
  const [part] = parts;
  if (isWhole && parts.length === 1 && part && patch[part] !== null)
    problems.push({ path: part, message: "belongs to a name that is stored as a whole: send firstName and lastName, or name" });
  // The whole name follows its parts, unless no part is left.
  if (parts.length > 0 && composeName(fields.firstName, fields.lastName) !== "") delete fields.name;
}

function patchAddress(patch: AddressParts, current: Address | undefined, problems: FieldError[]): AddressParts {
  const merged = { ...current, ...patch };
  const isWhole = current !== undefined && composeAddress(current) === "";
  const isNamed = typeof patch.city !== "string" || current?.text.toLowerCase().includes(patch.city.toLowerCase());
  if (isWhole && !isNamed && patch.text === undefined && patch.street === undefined)
    problems.push({ path: "address.city", message: "is not in the address, which is stored as a text: send text too, or all parts" });
  return { ...merged, text: addressText(merged, current) };
}

/**
 * The texts of a record by their paths. An entry of a list is named by its id: `identifiers.2.value`. What a flat field
 * says of the first entry is not repeated.
 */
function textsOf(record: Partial<PatientRecord>): Record<string, string> {
  const { names: _names, phones: _phones, emails: _emails, addresses: _addresses, ...others } = record;
  return flatten({ ...others, ...storedDetails(record) });
}

function flatten(value: object, prefix = "", texts: Record<string, string> = {}): Record<string, string> {
  for (const [key, part] of Object.entries(value)) {
    if (typeof part !== "object") texts[prefix + key] = String(part);
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
  const [old, now] = [textsOf(before), textsOf(after)];
  return [...new Set([...Object.keys(old), ...Object.keys(now)])]
    .filter((field) => old[field] !== now[field])
    .map((field) => ({
      field,
      ...(old[field] !== undefined && { from: old[field] }),
      ...(now[field] !== undefined && { to: now[field] }),
    }));
}

/**
 * Any part of a patient, to look for somebody: nothing is required, and a date may be as precise as it is known.
 * @throws AppError invalid_argument that names every wrong field
 */
export function partOfRecord(body: unknown, rules: Rules): Partial<PatientRecord> {
  const problems: FieldError[] = [];
  const fields = readFields(body, rules, readOnly, problems);
  const lists = readLists(fields, undefined, true, problems);
  const { address, identifiers, languages: _languages, contacts: _contacts, names: _names, phones: _phones, ...others } = fields;
  const { emails: _emails, addresses: _addresses, ...flat } = others;
  const given = Object.fromEntries(Object.entries(flat).filter(([, value]) => value !== null));
  const part = {
    ...given,
    ...(address && { address: toAddress(address.text ?? composeAddress(address), address) }),
    ...(identifiers && { identifiers: withIds(identifiers, false) }),
    ...lists,
  } as Partial<PatientRecord>;
  const isComparable = ["name", "firstName", "lastName", "dateOfBirth", "address", "phoneNumber", "email", "identifiers"].some(
    (field) => field in part,
  );
  if (problems.length === 0 && !isComparable)
    problems.push({ path: "", message: "must have a name, a date of birth, an address, a phone number, an e-mail or an identifier" });
  if (problems.length > 0) throw invalidFields(problems);
  return part;
}
