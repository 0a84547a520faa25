/**
 * The two views of names, phones, e-mails and addresses: a list of entries, and flat fields, which are the first entry
 * of the list. A write of one view is a write of the other.
 */
import type { FieldError } from "@pm/kit/errors";
import { type Address, type Lists, type Name, type PatientRecord, shown } from "../tables.ts";
import type { GivenLists } from "./entries.ts";
import type { AddressParts, Fields } from "./fields.ts";
import { type Entry, withIds } from "./reading.ts";

type Kind = keyof Lists;
const flatFields = { phones: "phoneNumber", emails: "email", addresses: "address" } as const;
/** Any entry, by its texts. Each kind of list has its own type; what follows is the same for all. */
type AnyEntry = Entry & Record<string, unknown>;
type Texts = Record<string, string | undefined>;

const kinds = Object.keys(shown) as Kind[];

/** The address in one line: `1 Main St, Springfield, IL 62701`. */
export function composeAddress(parts: AddressParts): string {
  const region = [parts.state, parts.zipCode].filter(Boolean).join(" ");
  return [parts.street, parts.city, region].filter(Boolean).join(", ");
}

export const composeName = (first: string | null | undefined, last: string | null | undefined) => [first, last].filter(Boolean).join(" ");

/** What the flat fields say, as fields of an entry. Undefined where there is no entry. */
function entryOf(kind: Kind, { name, firstName, lastName, phoneNumber, email, address }: PatientRecord): Texts | undefined {
  switch (kind) {
    case "names":
      return { text: name, ...(firstName && { given: firstName }), ...(lastName && { family: lastName }) };
    case "phones":
      return phoneNumber === undefined ? undefined : { value: phoneNumber };
    case "emails":
      return email === undefined ? undefined : { value: email };
    case "addresses":
      return address;
  }
}

/** What an entry says, as flat fields. Null where it says nothing. */
function flatOf(kind: Kind, entry: AnyEntry | undefined): Fields {
  const textOf = (field: string) => (entry?.[field] as string | undefined) ?? null;
  switch (kind) {
    case "names":
      return { name: textOf("text"), firstName: textOf("given"), lastName: textOf("family") };
    case "phones":
      return { phoneNumber: textOf("value") };
    case "emails":
      return { email: textOf("value") };
    case "addresses":
      return { address: entry ? (Object.fromEntries(shown.addresses.map((part) => [part, textOf(part)])) as AddressParts) : null };
  }
}

/** The first entry that a record without a list has. */
const firstId = "1";

/** A list with what its view says. */
function listOf(kind: Kind, record: PatientRecord): AnyEntry[] {
  const entry = entryOf(kind, record);
  return (record[kind] as AnyEntry[] | undefined) ?? (entry ? [{ id: firstId, ...entry }] : []);
}

/** All lists of a record, as answers show them. A list without entries is left out; everybody has a name. */
export function listsOf(record: PatientRecord): Lists & Required<Pick<Lists, "names">> {
  const lists: Record<string, unknown> = {};
  for (const kind of kinds) {
    const list = listOf(kind, record);
    if (list.length > 0) lists[kind] = list;
  }
  return lists as ReturnType<typeof listsOf>;
}

/** The flat fields of a body that differ from the first entry of its list. */
function differences(given: Fields, list: Fields): string[] {
  const wrong: string[] = [];
  for (const [field, value] of Object.entries(list)) {
    const sent = given[field as keyof Fields];
    if (sent === undefined) continue;
    if (typeof sent !== "object" || sent === null || value === null || typeof value !== "object") {
      if (sent !== value) wrong.push(field);
    } else for (const [part, text] of Object.entries(sent)) if (text !== (value as Texts)[part]) wrong.push(`${field}.${part}`);
  }
  return wrong;
}

/** The lists after a write. The first entries follow the complete flat fields (`toLists`). Undefined for none. */
export type Pending = Record<Kind, AnyEntry[]> | undefined;

/**
 * Reads the lists of a body, and makes its flat fields say what they say. A list in the body replaces the list. Without
 * one, a flat field changes the first entry; null removes it, and the next moves up. In a PUT (`isWhole`), a flat field
 * that is absent removes the whole list, since a repeated PUT must not remove one entry after the other.
 */
export function readLists(
  body: Fields & GivenLists,
  current: PatientRecord | undefined,
  isWhole: boolean,
  problems: FieldError[],
): Pending {
  // Most new patients.
  if (!current && kinds.every((kind) => body[kind] === undefined)) return undefined;
  const pending = {} as NonNullable<Pending>;
  for (const kind of kinds) {
    const before = current ? listOf(kind, current) : [];
    const given = body[kind] as AnyEntry[] | null | undefined;
    const flat = kind === "names" ? undefined : body[flatFields[kind]];
    if (given !== undefined) {
      const list = withTexts(kind, withIds(given ?? [], current !== undefined), before);
      const view = flatOf(kind, list[0]);
      for (const path of differences(body, view))
        problems.push({ path, message: `differs from the first entry of ${kind}; send one of the two` });
      Object.assign(body, view);
      pending[kind] = list;
    } else if (kind === "names" || (flat !== undefined && flat !== null)) pending[kind] = before;
    else if (isWhole) pending[kind] = [];
    else if (flat === null) {
      pending[kind] = before.slice(1);
      if (before.length > 1) Object.assign(body, flatOf(kind, before[1]));
    } else pending[kind] = before;
  }
  return pending;
}

/** Entries with their texts. One that says the same as before, while its parts do not, follows them. */
function withTexts(kind: Kind, list: AnyEntry[], before: AnyEntry[]): AnyEntry[] {
  if (kind !== "names" && kind !== "addresses") return list;
  return list.map((entry) => {
    const old = before.find(({ id }) => id === entry.id);
    const text =
      kind === "names"
        ? nameText(entry as Partial<Name>, old as Partial<Name> | undefined)
        : addressText(entry as AddressParts, old as Address | undefined);
    return { ...entry, text };
  });
}

function nameText({ text, given, family }: Partial<Name>, old: Partial<Name> | undefined): string {
  const isOutdated = old?.text === text && composeName(old?.given, old?.family) === text;
  const composed = composeName(given, family);
  return text === undefined || (isOutdated && composed !== "") ? composed : text;
}

/**
 * The text of an address after a change. One that was composed from the parts follows them. One that a caller wrote
 * stays until a caller writes another, or the city changes to one that it does not name.
 */
export function addressText(next: AddressParts, old: Address | undefined): string | null {
  const composed = composeAddress(next);
  if (typeof next.text !== "string") return composed || null;
  if (old?.text !== next.text || composed === "") return next.text;
  if (old.text === composeAddress(old)) return composed;
  const names = (city: string) => next.text?.toLowerCase().includes(city.toLowerCase()) === true;
  const isOutdated = next.city !== old.city && ((next.city && !names(next.city)) || (old.city && names(old.city)));
  return isOutdated ? composed : next.text;
}

/** The lists of a record whose flat fields are complete. A list that says no more than they do is left out. */
export function toLists(pending: Pending, record: PatientRecord, isStored: boolean): Lists {
  const lists: Record<string, AnyEntry[]> = {};
  for (const kind of pending ? kinds : []) {
    const entry = entryOf(kind, record);
    const [first, ...others] = pending?.[kind] ?? [];
    if (!entry) continue;
    const list = withIds([{ ...without(first, shown[kind]), ...entry } as AnyEntry, ...others], isStored);
    const isPlain = list.length === 1 && list[0]?.id === firstId && Object.keys(list[0]).every((key) => key === "id" || key in entry);
    if (!isPlain) lists[kind] = list;
  }
  return lists as Lists;
}

/** A record with these lists. Its flat fields say what their first entries say. */
export function withLists(record: PatientRecord, lists: Lists): PatientRecord {
  const { name, firstName, lastName, phoneNumber, email, address, names, phones, emails, addresses, ...others } = record;
  const first = (kind: Kind) => flatOf(kind, lists[kind]?.[0] as AnyEntry | undefined);
  const given = Object.assign({}, ...kinds.map(first)) as Fields;
  const said = (fields: object) => Object.entries(fields).filter(([, value]) => value !== null && value !== undefined);
  const flat = Object.fromEntries(
    said(given).map(([field, value]) => [field, typeof value === "object" ? Object.fromEntries(said(value)) : value]),
  );
  const whole = { ...others, ...flat } as PatientRecord;
  return { ...whole, ...toLists({ names: [], phones: [], emails: [], addresses: [], ...lists } as Pending, whole, true) };
}

function without(entry: AnyEntry | undefined, fields: readonly string[]): Partial<AnyEntry> {
  return Object.fromEntries(Object.entries(entry ?? {}).filter(([key]) => !fields.includes(key)));
}
