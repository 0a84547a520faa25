/** What the record of a survivor is after a merge, and after the merge is undone. Nothing here is stored. */
import { isDeepStrictEqual } from "node:util";
import { emailKey } from "@pm/kit/email";
import { AppError, type FieldError, invalidFields } from "@pm/kit/errors";
import { maxEntries, withIds } from "../patients/reading.ts";
import { listsOf, withLists } from "../patients/views.ts";
import { firstDay, type IdentifierKey, identifierName, type Lists, type PatientRecord, shown } from "../tables.ts";

type Entry = { id: string; value?: string; text?: string; language?: string; preferred?: boolean };

/** What an entry says, in small letters: all that flat fields show of it. */
function textsOf(fields: readonly string[]) {
  return (entry: Entry) => JSON.stringify(fields.map((field) => entry[field as "text"]?.toLowerCase()));
}

/** Every list of a record, and what makes two of its entries the same one. */
const lists = {
  names: textsOf(shown.names),
  phones: ({ value }: Entry) => value,
  emails: ({ value = "" }: Entry) => emailKey(value),
  addresses: textsOf(shown.addresses),
  identifiers: (entry: Entry) => identifierName(entry as unknown as IdentifierKey),
  languages: ({ language }: Entry) => language,
  contacts: ({ id: _id, ...contact }: Entry) => JSON.stringify(Object.entries(contact).sort()),
} as const;
type Kind = keyof typeof lists;
const kinds = Object.keys(lists) as Kind[];

/** The flat fields that show the first entry of a list. */
const firstOf = { name: "names", phoneNumber: "phones", email: "emails", address: "addresses" } as const satisfies Record<string, Kind>;
const flatFields = Object.keys(firstOf) as (keyof typeof firstOf)[];
/** All other fields. The compiler asks for a field that is new: a merge has to know what to do with it. */
type SingleField = Exclude<keyof PatientRecord, Kind | keyof typeof firstOf | "firstName" | "lastName" | "dateOfBirthEstimated">;
const singleFields = Object.keys({
  dateOfBirth: true,
  sex: true,
  registeredDate: true,
  deceased: true,
  maritalStatus: true,
  generalPractitioner: true,
  managingSite: true,
  fhirElements: true,
} satisfies Record<SingleField, true>) as SingleField[];

/** The fields of which a record has one value, so that a merge has to choose. */
export const keepable = [...flatFields, ...singleFields] as const;
/** Whose value stays where both have one: the survivor's or the duplicate's. */
export type Keep = { [Field in (typeof keepable)[number]]?: "this" | "that" | undefined };

/** A field of which both records have a value, each another one. */
export type Conflict = { field: string; this: string; that: string; kept: "this" | "that" };

function entriesOf(record: PatientRecord): Record<Kind, Entry[]> {
  const { identifiers = [], languages = [], contacts = [] } = record;
  return { phones: [], emails: [], addresses: [], ...listsOf(record), identifiers, languages, contacts } as Record<Kind, Entry[]>;
}

function withEntries(record: PatientRecord, entries: Record<Kind, Entry[]>): PatientRecord {
  const { identifiers: _, languages: __, contacts: ___, ...others } = record;
  const { names, phones, emails, addresses, ...rest } = entries;
  const filled = Object.entries(rest).filter(([, list]) => list.length > 0);
  return withLists({ ...others, ...Object.fromEntries(filled) }, { names, phones, emails, addresses } as Lists);
}

const keysOf = (kind: Kind, list: Entry[]) => new Set(list.map(lists[kind]));

/**
 * The survivor with everything of the duplicate: the entries that it does not have, and the fields that it has no value
 * of. Where both have a value, `keep` decides; without it the survivor's stays. Of the lists with a flat field, that is
 * the first entry.
 * @throws AppError failed_precondition if a list would be longer than a list may be: none of either's entries is left
 * out; invalid_argument if they would have died before they were born
 */
export function mergedRecord(
  survivor: PatientRecord,
  duplicate: PatientRecord,
  keep: Keep,
): { record: PatientRecord; conflicts: Conflict[] } {
  const [own, others] = [entriesOf(survivor), entriesOf(duplicate)];
  const conflicts: Conflict[] = [];
  const choose = (field: keyof Keep, one: unknown, other: unknown): boolean => {
    const isOther = keep[field] === "that";
    conflicts.push({ field, this: String(one), that: String(other), kept: isOther ? "that" : "this" });
    return isOther;
  };
  const united = Object.fromEntries(kinds.map((kind) => [kind, unite(kind, own[kind], others[kind])])) as typeof own;
  for (const field of flatFields) {
    const kind = firstOf[field];
    const [one, other] = [own[kind][0], others[kind][0]];
    const keyOf: (entry: Entry) => string | undefined = lists[kind];
    if (!one || !other || keyOf(one) === keyOf(other)) continue;
    const isOther = choose(field, one.text ?? one.value, other.text ?? other.value);
    if (isOther) united[kind] = united[kind].toSorted((a, b) => Number(keyOf(b) === keyOf(other)) - Number(keyOf(a) === keyOf(other)));
  }
  const record: Record<string, unknown> = { ...survivor };
  for (const field of singleFields) {
    const [one, other] = [survivor[field], duplicate[field]];
    if (other === undefined || one === other) continue;
    if (one !== undefined && !choose(field, one, other)) continue;
    record[field] = other;
    if (field === "dateOfBirth") record.dateOfBirthEstimated = duplicate.dateOfBirthEstimated;
  }
  requireRoom(united);
  const { dateOfBirth, deceased } = record as PatientRecord;
  if (typeof deceased === "string" && deceased < firstDay(dateOfBirth))
    throw invalidFields([{ path: "keep.dateOfBirth", message: "would be after deceased; choose another one, or keep.deceased" }]);
  return { record: withEntries(withoutUndefined(record), united), conflicts };
}

/** The entries of one, and those of the other that it does not have. */
function unite(kind: Kind, own: Entry[], others: Entry[]): Entry[] {
  const known = keysOf(kind, own);
  const isTaken = own.some(({ preferred }) => preferred);
  const added = others
    .filter((entry) => !known.has(lists[kind](entry)))
    .map(({ id: _id, preferred, ...entry }) => ({ ...entry, ...(preferred && !isTaken && { preferred }) }));
  return withIds<Partial<Entry>>([...own, ...added], true) as Entry[];
}

function requireRoom(united: Record<Kind, Entry[]>): void {
  const errors = kinds.flatMap((path): FieldError[] => {
    const tooMany = united[path].length - maxEntries;
    const message = `would have ${united[path].length} entries, and ${maxEntries} is the most; remove ${tooMany} from one of the records first`;
    return tooMany > 0 ? [{ path, message }] : [];
  });
  const [first] = errors;
  if (first) throw new AppError("failed_precondition", `${first.path}: ${first.message}.`, { reason: "TOO_MANY_ENTRIES", errors });
}

const withoutUndefined = (record: Record<string, unknown>): PatientRecord =>
  Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined)) as PatientRecord;

/** A merge: the survivor before and after it, and the duplicate. */
export type Merge<Of> = { before: Of; after: Of; duplicate: Of };

/**
 * A record without what a merge has brought. What was changed since stays as it is, and so does what one of the other
 * records brings, which are still merged into it.
 */
export function withoutMergedRecord(
  { before, after, duplicate }: Merge<PatientRecord>,
  now: PatientRecord,
  others: PatientRecord[],
): PatientRecord {
  const record: Record<string, unknown> = { ...now };
  for (const field of [...singleFields, "dateOfBirthEstimated"] as const) {
    if (before[field] === after[field] || now[field] !== after[field]) continue;
    record[field] = before[field] ?? others.find((other) => other[field] !== undefined)?.[field];
  }
  const [old, merged, brought, kept] = [before, after, duplicate, now].map(entriesOf) as [Found, Found, Found, Found];
  const entries = Object.fromEntries(
    kinds.map((kind) => {
      const othersHave = keysOf(
        kind,
        others.flatMap((other) => entriesOf(other)[kind]),
      );
      const had = keysOf(kind, old[kind]);
      const isBrought = (key: string | undefined) => !had.has(key) && !othersHave.has(key) && keysOf(kind, brought[kind]).has(key);
      const added = merged[kind].filter((entry) => isBrought(lists[kind](entry)));
      const left = kept[kind].filter((entry) => !added.some((one) => sameExceptId(one, entry)));
      return [kind, left.length === 0 && kind === "names" ? kept.names : inOrder(kind, left, { old, merged, kept })];
    }),
  ) as Found;
  return withEntries(withoutUndefined(record), entries);
}

type Found = Record<Kind, Entry[]>;

const sameExceptId = ({ id: _, ...one }: Entry, { id: __, ...other }: Entry) => isDeepStrictEqual(one, other);

/** The entries in the order that they had before the merge, unless somebody has given them another one since. */
function inOrder(kind: Kind, left: Entry[], { old, merged, kept }: Record<"old" | "merged" | "kept", Found>): Entry[] {
  const keys = (list: Entry[], among: Entry[]) => [...keysOf(kind, list)].filter((key) => keysOf(kind, among).has(key));
  if (!isDeepStrictEqual(keys(kept[kind], merged[kind]), keys(merged[kind], kept[kind]))) return left;
  const before = [...keysOf(kind, old[kind])];
  const place = (entry: Entry) => before.indexOf(lists[kind](entry));
  const isOld = (entry: Entry) => before.includes(lists[kind](entry));
  return [...left.filter(isOld).sort((a, b) => place(a) - place(b)), ...left.filter((entry) => !isOld(entry))];
}
