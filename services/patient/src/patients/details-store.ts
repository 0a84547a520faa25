/**
 * The parts of a record that are stored as JSON in `patients.details`. The columns have the rest, also of the first
 * entry of each list.
 */
import { firstDay, type PatientRecord, type StoredDetails, shown } from "../tables.ts";

const kinds = Object.keys(shown) as (keyof typeof shown)[];

/** The fields that no column has anything of. */
const wholeFields = [
  "dateOfBirthEstimated",
  "deceased",
  "maritalStatus",
  "languages",
  "generalPractitioner",
  "managingSite",
  "fhirElements",
  "identifiers",
  "contacts",
] as const satisfies (keyof PatientRecord)[];

/** What of a record is stored beside its columns. */
export function storedDetails(record: Partial<PatientRecord>): StoredDetails {
  const { dateOfBirth } = record;
  const details: Record<string, unknown> = {};
  if (dateOfBirth !== undefined && dateOfBirth.length < "YYYY-MM-DD".length) details.dateOfBirth = dateOfBirth;
  for (const field of wholeFields) if (record[field] !== undefined) details[field] = record[field];
  for (const kind of kinds) {
    const list = record[kind];
    if (!list) continue;
    const [first, ...others] = list;
    if (!first) continue;
    const rest = Object.entries(first).filter(([field]) => !(shown[kind] as readonly string[]).includes(field));
    details[kind] = [Object.fromEntries(rest), ...others];
  }
  return details;
}

/** The whole record. The columns have the first possible day of a date of birth, and the first entry of each list. */
export function withDetails(columns: PatientRecord, details: StoredDetails): PatientRecord {
  const { names, phones, emails, addresses, dateOfBirth = columns.dateOfBirth, ...others } = details;
  const { name: text, firstName: given, lastName: family, phoneNumber, email, address } = columns;
  return {
    ...columns,
    ...others,
    // Unless the version before has changed the column.
    ...(firstDay(dateOfBirth) === columns.dateOfBirth && { dateOfBirth }),
    ...(names && { names: withFirst(names, { text, ...(given && { given }), ...(family && { family }) }) }),
    ...(phones && phoneNumber !== undefined && { phones: withFirst(phones, { value: phoneNumber }) }),
    ...(emails && email !== undefined && { emails: withFirst(emails, { value: email }) }),
    ...(addresses && address && { addresses: withFirst(addresses, address) }),
  };
}

const withFirst = <T extends object>([first, ...others]: T[], values: Partial<T>): T[] => [{ ...first, ...values } as T, ...others];
