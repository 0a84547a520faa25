/**
 * What a resource says beyond our fields. It is kept beside the record and put back when the resource is read, so that a client
 * reads what it wrote. Each part is bound to what our fields said when it was written: if they say something else now, such as
 * after a change by another client, they win.
 */

import { z } from "zod";

type Json = unknown;
/** Where it is, what our fields say there (null: nothing), and what the resource says. `+` adds to a list. */
type Part = [path: string[], ours: Json, theirs: Json];
export type Kept = Part[];

const KeptSchema = z.array(z.tuple([z.array(z.string()).min(1), z.unknown(), z.unknown()]));

/** What is stored as a text. A text that is none of ours, such as a note of somebody, says nothing. */
export function readKept(text: string | undefined): Kept {
  try {
    return text === undefined ? [] : (KeptSchema.safeParse(JSON.parse(text)).data ?? []);
  } catch {
    return [];
  }
}

type Fields = Record<string, Json>;
const isObject = (value: Json): value is Fields => typeof value === "object" && value !== null && !Array.isArray(value);

export const isEqual = (one: Json, other: Json): boolean => {
  if (Array.isArray(one) && Array.isArray(other))
    return one.length === other.length && one.every((value, index) => isEqual(value, other[index]));
  if (!isObject(one) || !isObject(other)) return one === other;
  const keys = Object.keys(one);
  return keys.length === Object.keys(other).length && keys.every((key) => key in other && isEqual(one[key], other[key]));
};

/** Lists whose entries are known by their ids, and lists to which patient-service adds by itself. */
const entryLists = new Set(["identifier", "name", "telecom", "address", "contact", "communication"]);

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

function stepInto(place: Json, name: string): Json {
  if (Array.isArray(place)) return place.find((entry) => entry?.id === name) ?? place[Number(name)];
  return isObject(place) ? place[name] : undefined;
}

/** Puts what was kept back into a resource, which it changes. */
export function putBack<Resource extends object>(resource: Resource, kept: Kept): Resource {
  const fields = resource as Fields;
  for (const [path, ours, theirs] of kept) {
    const outer = path.slice(0, -1);
    const [list = "", key = ""] = [path[0], path.at(-1)];
    if (key === "+") {
      fields[list] = [...((fields[list] as Json[] | undefined) ?? []), theirs];
      continue;
    }
    const place = outer.reduce(stepInto, fields as Json);
    if (isObject(place) && isEqual(place[key] ?? null, ours)) place[key] = theirs;
  }
  return resource;
}
