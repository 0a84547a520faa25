/** Reads the parameters of a search (http://hl7.org/fhir/R4/search.html). */
import { type FieldError, invalidFields } from "@pm/kit/errors";
import type { CapabilityStatementRestResourceSearchParam as SearchParam } from "fhir/r4.js";

/** A parameter of a resource: its type, the modifiers that it takes, and what it does, for the CapabilityStatement. */
export type Definition = { type: SearchParam["type"]; modifiers?: readonly string[]; documentation?: string };
export type Definitions = Record<string, Definition>;

/** A parameter as it was asked. Several values mean any of them; several criteria mean all of them. */
export type Criterion = { name: string; modifier?: string; values: string[] };

export type Search = {
  criteria: Criterion[];
  /** How many resources a page has; 0 asks for the number of matches alone. */
  count: number;
  sort: { name: string; descending: boolean }[];
  total?: "none" | "estimate" | "accurate";
  summary: "true" | "text" | "data" | "count" | "false";
  elements: string[];
  include: string[];
  revinclude: string[];
  /** Where a later page begins. */
  cursor?: string;
  /** What was asked and understood, for the link of the Bundle to itself. */
  understood: [string, string][];
  handling: "strict" | "lenient";
  /** What was asked and ignored, for a caller who did not ask for strict handling. */
  ignored: string[];
};

const defaultCount = 50;
const maxCount = 200;
const totals = ["none", "estimate", "accurate"] as const;
const summaries = ["true", "text", "data", "count", "false"] as const;
/** Of the answer's form (`rest/resource.ts` reads them). */
const ofForm = new Set(["_format", "_pretty"]);

/** The values of `a,b\,c`: `a` and `b,c`. The escapes of `|` and `$` stay, because only a type knows what they separate. */
const valuesOf = (text: string): string[] => (text.match(/(?:\\.|[^,\\])+/gs) ?? []).map((value) => value.replace(/\\([,\\])/g, "$1"));
const unescaped = (text: string): string => text.replace(/\\([|$])/g, "$1");

/**
 * @param given the parameters of the URL, and of the form of `_search`
 * @throws AppError invalid_argument: a value or a modifier that is wrong always, an unknown parameter in strict handling
 */
export function readSearch(given: Iterable<[string, string]>, definitions: Definitions, handling: "strict" | "lenient"): Search {
  const wrong: FieldError[] = [];
  const search: Search = {
    ...{ criteria: [], count: defaultCount, sort: [], summary: "false", elements: [] },
    ...{ include: [], revinclude: [], understood: [], ignored: [], handling },
  };
  for (const [parameter, text] of given) {
    if (ofForm.has(parameter) || text === "") continue;
    const [name = "", ...modifiers] = parameter.split(":");
    const read = Object.hasOwn(controls, parameter) ? controls[parameter] : undefined;
    const definition = Object.hasOwn(definitions, name) ? definitions[name] : undefined;
    if (read) {
      const message = read(search, text, definitions);
      if (message !== undefined) wrong.push({ path: parameter, message });
    } else if (definition) {
      const modifier = modifiers.join(":") || undefined;
      if (modifier !== undefined && modifier !== "missing" && !definition.modifiers?.includes(modifier)) {
        const known = [...(definition.modifiers ?? []), "missing"].map((one) => `:${one}`).join(", ");
        wrong.push({ path: parameter, message: `has a modifier that is not known here; it takes ${known}` });
      } else if (modifier === "missing" && !/^(true|false)$/.test(text)) wrong.push({ path: parameter, message: "must be true or false" });
      else search.criteria.push({ name, ...(modifier !== undefined && { modifier }), values: valuesOf(text) });
    } else {
      search.ignored.push(parameter);
      continue;
    }
    if (parameter !== "_cursor") search.understood.push([parameter, text]);
  }
  if (handling === "strict") wrong.push(...search.ignored.map(unknown));
  if (wrong.length > 0) throw invalidFields(wrong);
  return search;
}

const unknown = (path: string): FieldError => ({ path, message: "is not known here; Prefer: handling=lenient ignores it" });

/** For parameters with a value that is not known here. @throws AppError invalid_argument in strict handling */
export function ignore(search: Search, asked: string[]): void {
  if (search.handling === "strict" && asked.length > 0) throw invalidFields(asked.map(unknown));
  search.ignored.push(...asked);
}

/** The parameters that are the same for all resources. Each returns what is wrong with its value. */
const controls: Record<string, (search: Search, text: string, definitions: Definitions) => string | undefined> = {
  _count(search, text) {
    if (!/^\d{1,9}$/.test(text)) return "must be a number";
    search.count = Math.min(Number(text), maxCount);
    return undefined;
  },
  _sort(search, text) {
    search.sort = text.split(",").map((key) => ({ name: key.replace(/^-/, ""), descending: key.startsWith("-") }));
    return undefined;
  },
  _total(search, text) {
    const found = totals.find((one) => one === text);
    if (found) search.total = found;
    return found ? undefined : `must be one of ${totals.join(", ")}`;
  },
  _summary(search, text) {
    const found = summaries.find((one) => one === text);
    search.summary = found ?? search.summary;
    return found ? undefined : `must be one of ${summaries.join(", ")}`;
  },
  _elements(search, text) {
    search.elements.push(...text.split(","));
    return undefined;
  },
  _include(search, text) {
    search.include.push(text);
    return undefined;
  },
  _revinclude(search, text) {
    search.revinclude.push(text);
    return undefined;
  },
  _cursor(search, text) {
    search.cursor = text;
    return undefined;
  },
};

/** `system|code`, `|code` (no system), `system|` (any code) or `code` (any system). */
export function tokenOf(value: string): { system?: string; code?: string } {
  const [first = "", ...rest] = value.split(/(?<!\\)\|/);
  if (rest.length === 0) return { code: unescaped(first) };
  const code = unescaped(rest.join("|"));
  return { system: unescaped(first), ...(code !== "" && { code }) };
}

/** `Type/id`, an absolute URL of this server, or an id alone. Undefined if it is of another type or server. */
export function referenceOf(value: string, type: string, base: string): string | undefined {
  const local = value.startsWith(`${base}/`) ? value.slice(base.length + 1) : value;
  const [, given, id] = /^(?:([A-Z]\w*)\/)?([A-Za-z0-9.-]{1,64})$/.exec(local) ?? [];
  return given === undefined || given === type ? id : undefined;
}

const prefixes = ["eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"] as const;
type Prefix = (typeof prefixes)[number];
/** A date of any precision, as the span of time that it means: from `start` until before `end`. */
export type DateCriterion = { prefix: Prefix; text: string; start: Date; end: Date };

const dateForm =
  /^(?<prefix>[a-z]{2})?(?<year>\d{4})(?:-(?<month>\d{2})(?:-(?<day>\d{2})(?<time>T\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:\d{2})?)?)?)?$/;

/** `ge2026-05`. @throws AppError invalid_argument by the name of the parameter */
export function dateOf(name: string, value: string): DateCriterion {
  const groups = dateForm.exec(value)?.groups;
  const prefix = prefixes.find((one) => one === (groups?.prefix ?? "eq"));
  const span = groups && spanOf(groups);
  if (prefix && span) return { prefix, text: value.slice(groups.prefix?.length ?? 0), ...span };
  const message = `must be a date such as 2026, 2026-05, 2026-05-12 or 2026-05-12T09:30:00Z, with one of ${prefixes.join(", ")} in front of it`;
  throw invalidFields([{ path: name, message }]);
}

function spanOf({ year, month, day, time }: Record<string, string | undefined>): { start: Date; end: Date } | undefined {
  const text = `${year}-${month ?? "01"}-${day ?? "01"}`;
  const zoned = time === undefined ? "T00:00Z" : /[Z+-]/.test(time.slice(1)) ? time : `${time}Z`;
  const start = new Date(text + zoned);
  // A day that the calendar does not have becomes one of the next month.
  if (Number.isNaN(start.getTime()) || new Date(`${text}T00:00Z`).toISOString().slice(0, 10) !== text) return undefined;
  const end = new Date(start);
  if (month === undefined) end.setUTCFullYear(end.getUTCFullYear() + 1);
  else if (day === undefined) end.setUTCMonth(end.getUTCMonth() + 1);
  else if (time === undefined) end.setUTCDate(end.getUTCDate() + 1);
  else end.setTime(end.getTime() + (/T\d{2}:\d{2}(Z|[+-]|$)/.test(time) ? 60_000 : time.includes(".") ? 1 : 1_000));
  return { start, end };
}

/** The parameters as a CapabilityStatement lists them. */
export const describeSearch = (definitions: Definitions): SearchParam[] =>
  Object.entries(definitions).map(([name, { type, documentation }]) => ({ name, type, ...(documentation && { documentation }) }));

/** The parameters as an OpenAPI document lists them, with those that are the same for all resources. */
export const describeParameters = (definitions: Definitions) =>
  [...Object.keys(definitions), ...Object.keys(controls)].map((name) => ({
    ...{ name, in: "query" as const, schema: { type: "string" as const } },
    ...(definitions[name]?.documentation && { description: definitions[name].documentation }),
  }));
