/**
 * What a resource says beyond our fields. It is kept beside the record and put back when the resource is read, so that a client
 * reads what it wrote. Each part is bound to what our fields said when it was written: if they say something else now, such as
 * after a change by another client, they win.
 */

import { z } from "zod";
import { elementNames } from "./elements.ts";

type Json = unknown;
/** Where it is, what our fields say there (null: nothing), and what the resource says. `+` adds to a list. */
type Part = [path: string[], ours: Json, theirs: Json];
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
const PartSchema = z.tuple([PathSchema, z.unknown(), z.unknown().refine((theirs) => (theirs ?? null) !== null && isWithin(theirs))]);

/** What is stored as a text. Anybody who may change the record may change it too, so what is no part of ours is left out. */
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

/** What `theirs` says and `ours` does not. Entries of lists have the same ids in both; one that ours lacks is kept as a whole. */
export function keep(theirs: Json, ours: Json, path: string[] = []): Kept {
  if (isEqual(theirs, ours)) return [];
  if (isObject(theirs) && isObject(ours))
    return Object.entries(theirs).flatMap(([key, value]) => {
      if (path.length === 0 && entryLists.has(key)) return keepEntries(value as Fields[], ours[key] as Fields[] | undefined, [key]);
      if (path.length === 0 && key === "extension") return keepOthers(value as Json[], ours[key] as Json[] | undefined, [key]);
      return keep(value, ours[key] ?? null, [...path, key]);
    });
  const areLists = Array.isArray(theirs) && Array.isArray(ours) && theirs.length === ours.length && theirs.every(isObject);
  if (areLists) return theirs.flatMap((value, index) => keep(value, ours[index], [...path, String(index)]));
  return [[path, ours ?? null, theirs]];
}

function keepEntries(theirs: Fields[], ours: Fields[] = [], path: string[]): Kept {
  return theirs.flatMap((entry) => {
    const mapped = ours.find(({ id }) => id === entry.id);
    if (!mapped) return [[[...path, "+"], null, entry] satisfies Part];
    return keep(entry, mapped, [...path, String(entry.id)]);
  });
}

const keepOthers = (theirs: Json[], ours: Json[] = [], path: string[]): Kept =>
  theirs.filter((value) => !ours.some((one) => isEqual(one, value))).map((value): Part => [[...path, "+"], null, value]);

const own = (fields: Fields, name: string): Json => (Object.hasOwn(fields, name) ? fields[name] : undefined);

function stepInto(place: Json, name: string): Json {
  if (Array.isArray(place)) return place.find((entry) => entry?.id === name) ?? place[Number(name)];
  return isObject(place) ? own(place, name) : undefined;
}

/** Puts what was kept back into a resource, which it changes. A part that does not fit is left out. */
export function putBack<Resource extends object>(resource: Resource, kept: Kept): Resource {
  const fields = resource as Fields;
  for (const [path, ours, theirs] of kept) {
    const [list = "", key = ""] = [path[0], path.at(-1)];
    if (key === "+") {
      const entries = own(fields, list) ?? [];
      if (Array.isArray(entries) && isObject(theirs)) fields[list] = [...entries, theirs];
      continue;
    }
    const place = path.slice(0, -1).reduce(stepInto, fields as Json);
    if (isObject(place) && isEqual(own(place, key) ?? null, ours)) place[key] = theirs;
  }
  return resource;
}
