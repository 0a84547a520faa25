/** Reads values that callers send, and collects what is wrong with them. */
import type { FieldError } from "@pm/kit/errors";
import { faultOfText } from "@pm/kit/plain-text";
import type { Period } from "../tables.ts";

/** Reads a value. If it is wrong, adds a problem and gives undefined. `current` is what the record has, if needed. */
export type Reader<T> = (value: unknown, path: string, problems: FieldError[], current?: unknown) => T | undefined;

export const text =
  (max: number): Reader<string> =>
  (value, path, problems) => {
    const fail = (message: string) => void problems.push({ path, message });
    if (typeof value !== "string") return fail("must be a text");
    const trimmed = value.trim();
    if (trimmed === "") return fail("must not be empty");
    // JSON Schema and Postgres count characters of Unicode. Counting them is slow, so only a text that might be too
    // long is counted.
    if (trimmed.length > max && Array.from(trimmed).length > max) return fail(`must have at most ${max} characters`);
    const fault = faultOfText(trimmed);
    return fault === undefined ? trimmed : fail(fault);
  };

/** A text in one form (NFC), in whichever form it was typed: "é" is one character on Windows and two on a Mac. */
export const normalText =
  (max: number): Reader<string> =>
  (value, path, problems) =>
    text(max)(typeof value === "string" ? value.normalize() : value, path, problems);

export const oneOf =
  <Word extends string>(words: readonly Word[]): Reader<Word> =>
  (value, path, problems) => {
    const found = typeof value === "string" ? words.find((word) => word === value.toLowerCase()) : undefined;
    if (!found) problems.push({ path, message: `must be one of ${words.join(", ")}` });
    return found;
  };

/** A day, a month or a year: `2026-05-12`, `2026-05` or `2026`. It may be in the future, as the end of a period. */
const partOfCalendar: Reader<string> = (value, path, problems) => {
  const parts = typeof value === "string" ? /^(\d{4})(?:-(\d{2}))?(?:-(\d{2}))?$/.exec(value) : null;
  const [year, month, day] = [Number(parts?.[1]), Number(parts?.[2] ?? 1), Number(parts?.[3] ?? 1)];
  const found = new Date(Date.UTC(year, month - 1, day));
  if (found.getUTCMonth() + 1 === month && found.getUTCDate() === day) return String(value);
  problems.push({ path, message: "must be a date as YYYY-MM-DD, YYYY-MM or YYYY" });
  return undefined;
};

/** From when to when something holds. Either end may be open. */
export const period: Reader<Period> = (value, path, problems) => {
  const found = object<Period>({ start: partOfCalendar, end: partOfCalendar })(value, path, problems);
  if (found?.start === undefined || found.end === undefined) return found;
  // "2026" and "2026-05" overlap, so neither is before the other.
  const length = Math.min(found.start.length, found.end.length);
  if (found.start.slice(0, length) <= found.end.slice(0, length)) return found;
  problems.push({ path: `${path}.end`, message: "must not be before start" });
  return undefined;
};

/** An object of these fields. One that is null is left out. */
const object =
  <T extends object>(readers: { [Name in keyof T]-?: Reader<NonNullable<T[Name]>> }): Reader<T> =>
  (value, path, problems, current) => {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      problems.push({ path, message: `must be an object with ${Object.keys(readers).join(", ")}` });
      return undefined;
    }
    const given = Object.entries(value).filter(([, field]) => field !== null);
    return readObject<T>(Object.fromEntries(given), readers, [], `${path}.`, problems, current as Current);
  };

type Current = Partial<Record<string, unknown>> | undefined;

/** Where a field belongs that callers look for in another place. */
const misplaced: Record<string, string> = {
  "address.country": "stands in a list: send addresses, whose first entry is this address, with its country",
};

export function readObject<T>(
  body: object,
  readers: { [name: string]: Reader<unknown> },
  ignored: string[],
  prefix: string,
  problems: FieldError[],
  current: Current = {},
): T {
  const fields: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(body)) {
    const reader = Object.hasOwn(readers, key) ? readers[key] : undefined;
    // What the record has already stays right, also where settings or rules have changed since.
    if (reader && value !== undefined && value === current[key]) fields[key] = value;
    else if (reader) fields[key] = value === null ? null : reader(value, prefix + key, problems, current[key]);
    else if (!ignored.includes(key))
      problems.push({
        path: prefix + key.slice(0, 100),
        message: misplaced[prefix + key] ?? "is not a known field; check its spelling",
      });
  }
  return fields as T;
}

/** Most entries of a list of a record. */
export const maxEntries = 20;

const entryId: Reader<string> = (value, path, problems) => {
  if (typeof value === "string" && /^[\w-]{1,36}$/.test(value)) return value;
  problems.push({ path, message: "must have 1 to 36 letters, digits, - and _; leave it out for a new entry" });
  return undefined;
};

/** An entry of a list. One that is new has no id yet. */
export type Entry = { id?: string };

/** A list of entries. `check` looks at an entry as a whole. */
export const list =
  <T extends Entry>(
    readers: { [Name in keyof Omit<T, "id">]-?: Reader<NonNullable<T[Name]>> },
    check: (entry: T, path: string, problems: FieldError[]) => void,
  ): Reader<T[]> =>
  (value, path, problems, current) => {
    const fail = (message: string) => void problems.push({ path, message });
    if (!Array.isArray(value)) return fail("must be a list");
    if (value.length > maxEntries) return fail(`must have at most ${maxEntries} entries`);
    const before = problems.length;
    const read = object<T>({ id: entryId, ...readers } as never);
    const stored = new Map((Array.isArray(current) ? current : []).map((entry) => [entry.id, entry]));
    const entries = value.map((entry, index) => {
      const found = read(entry, `${path}[${index}]`, problems, stored.get(entry?.id));
      if (found) check(found, `${path}[${index}]`, problems);
      return found;
    });
    const ids = entries.flatMap((entry) => entry?.id ?? []);
    if (new Set(ids).size < ids.length) fail("has an id twice; leave the id of a new entry out");
    return problems.length > before ? undefined : (entries as T[]);
  };

/**
 * Gives an id to each entry that has none. An entry that is added to a stored list gets an id that no entry before it
 * had, also none that was removed.
 */
export function withIds<T extends Entry>(entries: T[], isStored: boolean): (T & { id: string })[] {
  const used = new Set(entries.map(({ id }) => id));
  let last = 0;
  const newId = () => {
    let id: string;
    do id = isStored ? crypto.randomUUID().slice(0, 8) : String(++last);
    while (used.has(id));
    used.add(id);
    return id;
  };
  return entries.map((entry) => ({ id: entry.id ?? newId(), ...entry }) as T & { id: string });
}
