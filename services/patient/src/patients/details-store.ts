/** The parts of a record that are stored as JSON in `patients.details`. The columns have the rest, also of the first entry of each list. */
import { type Details, type PatientRecord, shown } from "../tables.ts";

const kinds = Object.keys(shown) as (keyof typeof shown)[];

/** What of a record is stored beside its columns. */
export function storedDetails(record: Details): Details {
  const { identifiers, contacts } = record;
  const details: Record<string, unknown> = { ...(identifiers && { identifiers }), ...(contacts && { contacts }) };
  for (const kind of kinds) {
    const [first, ...others] = record[kind] ?? [];
    if (!first) continue;
    const rest = Object.entries(first).filter(([field]) => !(shown[kind] as readonly string[]).includes(field));
    details[kind] = [Object.fromEntries(rest), ...others];
  }
  return details;
}

/** The lists of a stored record, with what the columns have of them. */
export function withLists(columns: PatientRecord, { names, phones, emails, addresses, ...others }: Details): PatientRecord {
  const { name: text, firstName: given, lastName: family, phoneNumber, email, address } = columns;
  return {
    ...columns,
    ...others,
    ...(names && { names: withFirst(names, { text, ...(given && { given }), ...(family && { family }) }) }),
    ...(phones && phoneNumber !== undefined && { phones: withFirst(phones, { value: phoneNumber }) }),
    ...(emails && email !== undefined && { emails: withFirst(emails, { value: email }) }),
    ...(addresses && address && { addresses: withFirst(addresses, address) }),
  };
}

const withFirst = <T extends object>([first, ...others]: T[], values: Partial<T>): T[] => [{ ...first, ...values } as T, ...others];
