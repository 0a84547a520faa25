/**
 * What a resource says beyond our fields. It is kept beside the record and put back when the resource is read, so that
 * a client reads what it wrote. Each part is bound to what our fields said when it was written: if they say something
 * else now, such as after a change by another client or a merge, they win.
 */

import { z } from "zod";
import { bondOf, createBondCheck, type IsBound } from "./bonds.ts";
import { elementNames } from "./elements.ts";

type Json = unknown;
/**
 * Where it is, what our fields say there (null: nothing), what the resource says, and its bond to the entry or the
 * element that it is a part of. `+` adds to a list.
 */
type Part = [...Difference, bond?: string];
type Difference = [path: string[], ours: Json, theirs: Json];
export type Kept = Part[];

type Fields = Record<string, Json>;
const isObject = (value: Json): value is Fields => typeof value === "object" && value !== null && !Array.isArray(value);

/** Lists whose entries are known by their ids, and lists to which patient-service adds by itself. */
const entryLists = new Set(["identifier", "name", "telecom", "address", "contact", "communication"]);
const growing = new Set([...entryLists, "extension"]);

/** What only the platform says, and narrative, which is dropped. */
const notKept = new Set(["resourceType", "id", "text", "active", "link"]);
const ofEveryObject = new Set(["__proto__", "constructor", "prototype"]);

/** Whether a part may be at this place, when it is kept and when it is put back. */
export function mayBeKept(path: string[]): boolean {
  const [name = "", inside] = path;
  if (!elementNames.has(name) || notKept.has(name) || path.some((step) => ofEveryObject.has(step))) return false;
  if (name === "meta") return inside !== undefined && inside !== "versionId" && inside !== "lastUpdated";
  return !path.includes("+") || (path.length === 2 && inside === "+" && growing.has(name));
}

/** Deeper ones cannot be sent. No extension of the length that is stored is as deep. */
const maxDepth = 2_000;
const isWithin = (value: Json, levels = maxDepth): boolean =>
  typeof value !== "object" || value === null || (levels > 0 && Object.values(value).every((inner) => isWithin(inner, levels - 1)));

const PathSchema = z.array(z.string()).refine(mayBeKept);
const TheirsSchema = z.unknown().refine((theirs) => (theirs ?? null) !== null && isWithin(theirs));
const PartSchema = z.tuple([PathSchema, z.unknown(), TheirsSchema, z.string().optional()]);

/** What is stored as text. Whoever may change the record may change it too, so what is no part of ours is left out. */
export function readKept(text: string | undefined): Kept {
  try {
    const parts: Json = text === undefined ? [] : JSON.parse(text);
    return Array.isArray(parts) ? parts.flatMap((part) => (PartSchema.safeParse(part).success ? [part as Part] : [])) : [];
  } catch {
    return [];
  }
}

export const isEqual = (one: Json, other: Json): boolean => {
  if (Array.isArray(one) && Array.isArray(other))
    return one.length === other.length && one.every((value, index) => isEqual(value, other[index]));
  if (!isObject(one) || !isObject(other)) return one === other;
  const keys = Object.keys(one);
  return keys.length === Object.keys(other).length && keys.every((key) => Object.hasOwn(other, key) && isEqual(one[key], other[key]));
};

/** What `theirs` says and `ours` does not. Entries have the same ids in both lists; one that ours lacks stays whole. */
export function keep(theirs: Fields, ours: Fields): Kept {
  return Object.entries(theirs).flatMap(([name, value]) => {
    if (entryLists.has(name)) return keepEntries(value as Fields[], ours[name] as Fields[] | undefined, [name]);
    if (name === "extension") return keepOthers(value as Json[], ours[name] as Json[] | undefined, [name]);
    const bond = bondOf(elementOf(ours, name));
    return differences(value, ours[name] ?? null, [name]).map((part): Part => (isBound(part) ? [...part, bond] : part));
  });
}

/** The element of ours that one of the resource belongs to: `_birthDate` says more of `birthDate`. */
const elementOf = (fields: Fields, name: string): Json => own(fields, name.replace(/^_/, ""));

/** Whether a part needs a bond. What stands for a whole element is compared with it, and `meta` has nothing of ours. */
const isBound = ([path]: Difference): boolean => path[0] !== "meta" && (path.length > 1 || path[0]?.startsWith("_") === true);

function differences(theirs: Json, ours: Json, path: string[]): Difference[] {
  if (isEqual(theirs, ours)) return [];
  if (isObject(theirs) && isObject(ours))
    return Object.entries(theirs).flatMap(([key, value]) => differences(value, ours[key] ?? null, [...path, key]));
  const areLists = Array.isArray(theirs) && Array.isArray(ours) && theirs.length === ours.length && theirs.every(isObject);
  if (areLists) return theirs.flatMap((value, index) => differences(value, ours[index], [...path, String(index)]));
  return [[path, ours ?? null, theirs]];
}

function keepEntries(theirs: Fields[], ours: Fields[] = [], path: string[]): Kept {
  const known = byId(ours);
  return theirs.flatMap((entry): Kept => {
    const mapped = known.get(entry.id);
    if (!mapped) return [[[...path, "+"], null, entry]];
    return differences(entry, mapped, [...path, String(entry.id)]).map((part): Part => [...part, bondOf(mapped)]);
  });
}

/** Entries by their ids. A resource may have thousands, of which none may look through all others. */
export const byId = <Entry extends { id?: unknown }>(entries: Entry[]): Map<unknown, Entry> =>
  new Map(entries.toReversed().map((entry) => [entry.id, entry]));

const sorted = (fields: Fields): Fields => Object.fromEntries(Object.entries(fields).sort(([one], [other]) => (one < other ? -1 : 1)));
/** The same text for values that are equal. */
const keyOf = (value: Json): string => JSON.stringify(value, (_, inner: Json) => (isObject(inner) ? sorted(inner) : inner));

/** By its key, the first place of each. */
const placesOf = (keys: string[]): Map<string, number> => new Map(keys.map((key, place): [string, number] => [key, place]).reverse());

/**
 * Parts with the bonds and in the order that are stored, where these hold: a client that writes what it has read
 * changes nothing.
 */
export function withBondsOf(stored: Kept, parts: Kept, ours: Fields): Kept {
  const isBound = createBondCheck();
  const places = placesOf(stored.map((one) => keyOf(one.slice(0, 3))));
  const entries = new Map(
    [...entryLists].map((name) => {
      const list = own(ours, name);
      return [name, Array.isArray(list) ? byId(list as Fields[]) : undefined];
    }),
  );
  const bound = parts.map((part): Part => {
    const same = stored[places.get(keyOf(part.slice(0, 3))) ?? -1];
    if (same?.[3] === undefined || part[3] === undefined) return part;
    const [[name = "", id]] = part;
    const list = entries.get(name);
    return isBound(same[3], list ? list.get(id) : elementOf(ours, name)) ? same : part;
  });
  const ranks = placesOf(stored.map(keyOf));
  // What adds to lists stays in the order of the lists, and has no place among the others.
  const rankOf = (part: Part): number => (part[0].at(-1) === "+" ? stored.length + 1 : (ranks.get(keyOf(part)) ?? stored.length));
  const ranked = bound.map((part) => ({ part, rank: rankOf(part) }));
  return ranked.sort((one, other) => one.rank - other.rank).map(({ part }) => part);
}

/** A part that says that an entry has another id than ours. */
export const otherId = (list: string, id: string, theirs: string, mapped: Json): Part => [[list, id, "id"], id, theirs, bondOf(mapped)];

const keepOthers = (theirs: Json[], ours: Json[] = [], path: string[]): Kept =>
  theirs.filter((value) => !ours.some((one) => isEqual(one, value))).map((value): Part => [[...path, "+"], null, value]);

const own = (fields: Fields, name: string): Json => (Object.hasOwn(fields, name) ? fields[name] : undefined);

function stepInto(place: Json, name: string): Json {
  if (Array.isArray(place)) return place.find((entry) => entry?.id === name) ?? place[Number(name)];
  return isObject(place) ? own(place, name) : undefined;
}

type Found = { part: Part; place: Json; isElsewhere: boolean };

/**
 * The object that a part is to be put into. A part of an entry goes to the entry with its id, or to another one that
 * says the same: a merge gives new ids. Undefined if nothing says the same any more.
 */
function find(fields: Fields, part: Part, isBound: IsBound): Found {
  const [path, , , bond] = part;
  const [name = "", id] = path;
  const list = own(fields, name);
  if (!entryLists.has(name) || !Array.isArray(list)) {
    const isHeld = isBound(bond, elementOf(fields, name));
    return { part, place: isHeld ? path.slice(0, -1).reduce(stepInto, fields as Json) : undefined, isElsewhere: false };
  }
  const entry = list.find((one) => one?.id === id);
  const held = isBound(bond, entry) ? entry : bond === undefined ? undefined : list.find((one) => isBound(bond, one));
  return { part, place: path.length > 2 ? path.slice(2, -1).reduce(stepInto, held) : undefined, isElsewhere: held !== entry };
}

/** Puts what was kept back into a resource, which it changes. A part that does not fit is left out. */
export function putBack<Resource extends object>(resource: Resource, kept: Kept): Resource {
  if (kept.length === 0) return resource;
  const fields = resource as Fields;
  const isBound = createBondCheck();
  const inside = kept.filter(([path]) => path.at(-1) !== "+").map((part) => find(fields, part, isBound));
  // What stays in its place comes first, so that what comes from elsewhere does not take the place.
  for (const { part, place } of inside.toSorted((one, other) => Number(one.isElsewhere) - Number(other.isElsewhere))) {
    const [path, ours, theirs] = part;
    const key = path.at(-1) ?? "";
    const before = isObject(place) ? (own(place, key) ?? null) : undefined;
    if (isObject(place) && (isEqual(before, ours) || (key === "id" && path.length === 3))) place[key] = theirs;
  }
  for (const [[list = ""], , theirs] of kept.filter(([path]) => path.at(-1) === "+")) {
    const entries = own(fields, list) ?? [];
    if (Array.isArray(entries) && isObject(theirs)) fields[list] = [...entries, theirs];
  }
  return resource;
}
