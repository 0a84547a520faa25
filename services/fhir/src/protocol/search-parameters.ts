/** Reads the parameters of a search (http://hl7.org/fhir/R4/search.html). */
import { AppError, type FieldError, invalidFields } from "@pm/kit/errors";
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
/** A form has room for tens of thousands of values. Each may cost a request to a service or a step per resource. */
const maxParameters = 200;
const maxValues = 200;
const tooMany = `has more than ${maxValues} values; ask for fewer at once`;
const totals = ["none", "estimate", "accurate"] as const;
const summaries = ["true", "text", "data", "count", "false"] as const;
const wordFormat = (words: readonly string[]): Format => ({
  pattern: `^(${words.join("|")})?$`,
  message: `must be one of ${words.join(", ")}`,
});
/** Parameters of how an answer is written (`resource.ts` reads them). */
export const formatParameters = new Set(["_format", "_pretty"]);

/** What a text must look like: the pattern, for documents, and in words. An empty parameter counts as left out. */
type Format = { pattern: string; message: string };
const textFormat: Format = { pattern: "^[^\\u0000-\\u001F\\u007F-\\u009F]*$", message: "must not have control characters" };

const prefixes = ["eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"] as const;
type Prefix = (typeof prefixes)[number];
const time = "T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\\.[0-9]+)?)?(Z|[+-][0-9]{2}:[0-9]{2})?";
const date = `[0-9]{4}(-[0-9]{2}(-[0-9]{2}(${time})?)?)?`;
const prefixed = `(${prefixes.join("|")})?${date}`;
const dates = "must be a date such as 2026, 2026-05, 2026-05-12 or 2026-05-12T09:30:00Z";
const datesFormat: Format = {
  pattern: `^(${prefixed}(,${prefixed})*)?$`,
  message: `${dates}, with one of ${prefixes.join(", ")} in front of it`,
};

const formatOf = ({ type }: Definition): Format => (type === "date" ? datesFormat : textFormat);
const isIn = ({ pattern }: Format, text: string): boolean => new RegExp(pattern).test(text);

/**
 * The values of `a,b\,c`: `a` and `b,c`. The escapes of `|` and `$` stay, because only a type knows what they separate.
 */
const valuesOf = (text: string): string[] => (text.match(/(?:\\.|[^,\\])+/gs) ?? []).map((value) => value.replace(/\\([,\\])/g, "$1"));
const unescaped = (text: string): string => text.replace(/\\([|$])/g, "$1");

/**
 * @param given the parameters of the URL, and of the form of `_search`
 * @throws AppError invalid_argument for a wrong value or modifier; in strict handling, for an unknown parameter too
 */
export function readSearch(given: Iterable<[string, string]>, definitions: Definitions, handling: "strict" | "lenient"): Search {
  const wrong: FieldError[] = [];
  const search: Search = {
    ...{ criteria: [], count: defaultCount, sort: [], summary: "false", elements: [] },
    ...{ include: [], revinclude: [], understood: [], ignored: [], handling },
  };
  const parameters = [...given];
  if (parameters.length > maxParameters) throw new AppError("invalid_argument", `A search has at most ${maxParameters} parameters.`);
  for (const [parameter, text] of parameters) {
    if (formatParameters.has(parameter) || text === "") continue;
    const [name = ""] = parameter.split(":");
    const control = Object.hasOwn(controls, parameter) ? controls[parameter] : undefined;
    const definition = Object.hasOwn(definitions, name) ? definitions[name] : undefined;
    if (!control && !definition) {
      search.ignored.push(parameter);
      continue;
    }
    const message = control ? readControl(search, control, text) : definition && readCriterion(search, definition, parameter, text);
    if (message !== undefined) wrong.push({ path: parameter, message });
    if (parameter !== "_cursor") search.understood.push([parameter, text]);
  }
  if (search.elements.length > maxValues) wrong.push({ path: "_elements", message: tooMany });
  if (handling === "strict") wrong.push(...search.ignored.map(notKnown));
  if (wrong.length > 0) throw invalidFields(wrong);
  return search;
}

const notKnown = (path: string): FieldError => ({ path, message: "is not known here; Prefer: handling=lenient ignores it" });

/** For parameters with a value that is not known here. @throws AppError invalid_argument in strict handling */
export function ignoreOrRefuse(search: Search, asked: string[]): void {
  if (search.handling === "strict" && asked.length > 0) throw invalidFields(asked.map(notKnown));
  search.ignored.push(...asked);
}

/** @returns what is wrong with the value */
function readControl(search: Search, { read, ...format }: Control, text: string): string | undefined {
  if (!isIn(format, text)) return format.message;
  Object.assign(search, read(text, search));
  return undefined;
}

/** @returns what is wrong with the value or the modifier */
function readCriterion(search: Search, definition: Definition, parameter: string, text: string): string | undefined {
  const [name = "", ...modifiers] = parameter.split(":");
  const modifier = modifiers.join(":") || undefined;
  if (modifier === "missing") {
    if (text !== "true" && text !== "false") return "must be true or false";
  } else if (modifier !== undefined && !definition.modifiers?.includes(modifier)) {
    const known = [...(definition.modifiers ?? []), "missing"].map((one) => `:${one}`).join(", ");
    return `has a modifier that is not known here; it takes ${known}`;
  } else if (!isIn(formatOf(definition), text)) return formatOf(definition).message;
  const values = valuesOf(text);
  if (values.length > maxValues) return tooMany;
  search.criteria.push({ name, ...(modifier !== undefined && { modifier }), values });
  return undefined;
}

type Control = Format & { documentation?: string; read: (text: string, before: Search) => Partial<Search> };
const sortKey = "-?[A-Za-z_][A-Za-z_-]*";

/** The parameters that are the same for all resources. */
const controls: Record<string, Control> = {
  _count: {
    ...{ pattern: "^[0-9]{0,9}$", message: "must be a number" },
    documentation: `How many resources a page has: ${defaultCount}, or at most ${maxCount}.`,
    read: (text) => ({ count: Math.min(Number(text), maxCount) }),
  },
  _sort: {
    ...{ pattern: `^(${sortKey}(,${sortKey})*)?$`, message: "must be names of parameters, such as -_lastUpdated" },
    read: (text) => ({ sort: text.split(",").map((key) => ({ name: key.replace(/^-/, ""), descending: key.startsWith("-") })) }),
  },
  _total: { ...wordFormat(totals), read: (text) => ({ total: text as (typeof totals)[number] }) },
  _summary: { ...wordFormat(summaries), read: (text) => ({ summary: text as (typeof summaries)[number] }) },
  _elements: { ...textFormat, read: (text, { elements }) => ({ elements: [...elements, ...text.split(",")] }) },
  _include: { ...textFormat, read: (text, { include }) => ({ include: [...include, text] }) },
  _revinclude: { ...textFormat, read: (text, { revinclude }) => ({ revinclude: [...revinclude, text] }) },
  // Cursors consist of what an address has without escapes.
  _cursor: { pattern: "^[A-Za-z0-9._~-]*$", message: "must be that of a link, as it was", read: (cursor) => ({ cursor }) },
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

/** A date of any precision, as the span of time that it means: from `start` until before `end`. */
export type DateCriterion = { prefix: Prefix; text: string; start: Date; end: Date };

const dateForm =
  /^(?<prefix>[a-z]{2})?(?<year>(?!0000)\d{4})(?:-(?<month>\d{2})(?:-(?<day>\d{2})(?<time>T\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:\d{2})?)?)?)?$/;

/** `ge2026-05`. @throws AppError invalid_argument by the name of the parameter */
export function dateOf(name: string, value: string): DateCriterion {
  const groups = dateForm.exec(value)?.groups;
  const prefix = prefixes.find((one) => one === (groups?.prefix ?? "eq"));
  const span = groups && spanOf(groups);
  if (prefix && span) return { prefix, text: value.slice(groups.prefix?.length ?? 0), ...span };
  throw invalidFields([{ path: name, message: datesFormat.message }]);
}

/** From when on, by `_since`. @throws AppError invalid_argument */
export function sinceOf({ criteria }: Search): Date | undefined {
  const [first, ...more] = criteria.filter(({ name }) => name === "_since").flatMap(({ values }) => values);
  if (first === undefined) return undefined;
  const { prefix, start } = dateOf("_since", first);
  if (more.length > 0 || prefix !== "eq")
    throw invalidFields([{ path: "_since", message: "must be one instant such as 2026-01-28T09:30:00Z, without a prefix" }]);
  return start;
}

/** An instant as FHIR has it, with its seconds and time zone. Undefined for what is none. */
export function instantOf(text: string): Date | undefined {
  const groups = dateForm.exec(text)?.groups;
  if (!groups || groups.prefix !== undefined || !/:\d{2}:\d{2}(\.\d+)?[Z+-]/.test(groups.time ?? "")) return undefined;
  return spanOf(groups)?.start;
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

/**
 * The parameters as an OpenAPI document lists them.
 * @param shared those that are the same for all resources and mean something here; by default all
 */
export const describeParameters = (definitions: Definitions, shared = Object.keys(controls)) =>
  [...Object.entries(definitions), ...shared.map((name): [string, Partial<Definition>] => [name, controls[name] ?? {}])].map(
    ([name, { type, documentation }]) => ({
      ...{ name, in: "query" as const },
      schema: { type: "string" as const, pattern: (controls[name] ?? (type === "date" ? datesFormat : textFormat)).pattern },
      ...(documentation && { description: documentation }),
    }),
  );

/** The shared parameters of resources whose order a caller cannot choose. */
export const unsortedControls = Object.keys(controls).filter((name) => name !== "_sort");
