/**
 * The lists of a record in CSV: names, phones, identifiers and so on. Flat columns have what people read of the first
 * entry. The column of a list has the rest as JSON. A column of its own, such as `mobile`, is an entry too.
 */
import { storedDetails } from "../patients/details-store.ts";
import { listsOf } from "../patients/views.ts";
import { type Identifier, type PatientRecord, recordNumberSystem, shown } from "../tables.ts";

export const listNames = ["identifiers", "names", "phones", "emails", "addresses", "languages", "contacts"] as const;
export type ListName = (typeof listNames)[number];
type Entry = Record<string, unknown>;
export type Entries = { [Name in ListName]?: Entry[] };
type Fields = Record<string, unknown>;

/** The flat fields of the first entry, in the order of `shown`. */
const flatFields: { [Name in ListName]?: string[] } = {
  names: ["name", "firstName", "lastName"],
  phones: ["phoneNumber"],
  emails: ["email"],
};
const shownFields: { [Name in ListName]?: readonly string[] } = { ...shown, identifiers: ["system", "value"] };

/** What flat fields say of the first entry. */
function flatEntry(name: ListName, fields: Fields): Entry {
  if (name === "addresses") return typeof fields.address === "string" ? { text: fields.address } : { ...(fields.address as Entry) };
  const pairs = (flatFields[name] ?? []).map((field, index) => [shownFields[name]?.[index], fields[field]]);
  return Object.fromEntries(pairs.filter(([, value]) => value !== undefined));
}

const isEntry = (value: unknown): value is Entry => typeof value === "object" && value !== null && !Array.isArray(value);

/** Lists that came as JSON, with what flat columns have of their first entries. */
export function fillLists(fields: Fields, added: Entries): void {
  for (const name of listNames) {
    const [first, ...others] = Array.isArray(fields[name]) ? fields[name] : [];
    if (!isEntry(first) || shownFields[name]?.some((field) => field in first)) continue;
    const flat = name === "identifiers" ? added.identifiers?.find(({ system }) => system === recordNumberSystem) : flatEntry(name, fields);
    fields[name] = [{ ...first, ...flat }, ...others];
  }
}

/** Where an entry belongs: identifiers are told apart by kind, others by use. Without a use it is the first. */
function placeOf(name: ListName, list: Entry[], entry: Entry): number {
  if (name === "identifiers") return list.findIndex(({ system, value }) => system === entry.system && value === entry.value);
  if (entry.use === undefined) return 0;
  return list.findIndex(({ use }) => use === entry.use);
}

export function addEntry(entries: Entries, name: ListName, entry: Entry): void {
  entries[name] ??= [];
  const list = entries[name];
  const place = list.findIndex(({ use }) => use === entry.use);
  if (name === "identifiers" || place === -1) list.push(entry);
  else list[place] = { ...list[place], ...entry };
}

/**
 * A body with entries that have columns of their own. Of a stored patient, the other entries stay, and cells that say
 * what is stored say nothing.
 */
export function withEntries(fields: Fields, added: Entries, current?: PatientRecord): Fields {
  const body = current ? changedFields(fields, current) : { ...fields };
  for (const name of listNames) {
    const entries = added[name];
    const given = fields[name];
    if (!entries || (given !== undefined && !Array.isArray(given))) continue;
    const stored = current && ({ ...current, ...listsOf(current) }[name] as Entry[] | undefined);
    const list: Entry[] = [...(given ?? stored ?? [])];
    const flat = flatEntry(name, fields);
    if (given === undefined && Object.keys(flat).length > 0) list[0] = { ...list[0], ...flat };
    for (const entry of entries) {
      const place = placeOf(name, list, entry);
      if (place === -1) list.push(entry);
      else list[place] = { ...list[place], ...entry };
    }
    body[name] = list;
    for (const field of name === "addresses" ? ["address"] : (flatFields[name] ?? [])) delete body[field];
  }
  return body;
}

/** Otherwise the whole name of an exported row would keep its parts from changing it. */
function changedFields({ address, ...fields }: Fields, current: PatientRecord): Fields {
  const stored = current as Fields;
  const changed = Object.fromEntries(Object.entries(fields).filter(([field, value]) => value !== stored[field]));
  if (typeof address === "string" && address !== current.address?.text) return { ...changed, address };
  if (address === undefined || typeof address === "string") return changed;
  const parts = Object.entries(address as Entry).filter(([part, value]) => value !== (current.address as Fields | undefined)?.[part]);
  return parts.length === 0 ? changed : { ...changed, address: Object.fromEntries(parts) };
}

/** The cells of an export that a record's lists have. */
export function listCells(record: PatientRecord): Record<string, string | undefined> {
  const { identifiers = [], ...details } = storedDetails(record);
  const [first, ...others] = identifiers;
  const isNumber = first?.system === recordNumberSystem;
  const { system: _system, value, ...rest } = first ?? ({ id: "1" } as Partial<Identifier>);
  const isPlain = isNumber && others.length === 0 && Object.keys(rest).length === 1 && rest.id === "1";
  const lists: Entries = { ...details, ...(first && !isPlain && { identifiers: [isNumber ? rest : first, ...others] }) };
  const cells = listNames.map((name) => [name, lists[name] && JSON.stringify(lists[name])]);
  return { ...Object.fromEntries(cells), mrn: isNumber ? value : undefined };
}
