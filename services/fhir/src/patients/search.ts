/** The search parameters of Patient, and the search of patient-service that each is (`POST /patients:search`). */
import { AppError, invalidFields } from "@pm/kit/errors";
import type * as fhir from "fhir/r4.js";
import { tooLongToPage } from "../protocol/bundle.ts";
import type { Call } from "../protocol/calls.ts";
import {
  type Criterion,
  type Definition,
  type Definitions,
  dateOf,
  ignoreOrRefuse,
  referenceOf,
  type Search,
  tokenOf,
} from "../protocol/search-parameters.ts";
import type { Patients } from "./client.ts";
import { fromSystemUri } from "./codes.ts";
import { toFhir } from "./mapping.ts";
import type { Patient } from "./patient.ts";

/** A condition of patient-service: the field has one of these values, or says something at all. */
type Condition = { field: string; is?: string; anyOf?: string[]; missing?: boolean };
type State = "living" | "merged";
type Query = {
  where?: Condition[];
  states?: State[];
  updatedAfter?: string;
  sort?: string;
  limit: number;
  cursor?: string;
  carry?: true;
  count?: "exact" | "none";
};

const text = { type: "string", modifiers: ["exact", "contains"] } as const;

/** By its name in FHIR: its definition, and the field of ours that it asks for. */
const parameters = {
  _id: { type: "token", field: "id" },
  _lastUpdated: { type: "date", field: "updatedAt", documentation: "With ge, what is found misses nothing that is being written." },
  active: { type: "token", documentation: "false finds records that were merged into others. Without it, the others are found." },
  identifier: { type: "token", field: "identifier" },
  name: { ...text, field: "name" },
  family: { ...text, field: "family" },
  given: { ...text, field: "given" },
  birthdate: { type: "date", field: "dateOfBirth" },
  gender: { type: "token", field: "sex" },
  deceased: { type: "token", field: "deceased" },
  email: { type: "token", field: "email" },
  phone: { type: "token", field: "phone" },
  telecom: { type: "token" },
  address: { ...text, field: "address" },
  "address-city": { ...text, field: "city" },
  "address-state": { ...text, field: "state" },
  "address-postalcode": { ...text, field: "zipCode" },
  "address-country": { ...text, field: "country" },
  link: {
    type: "reference",
    field: "linkedTo",
    documentation: "The records that were merged into this one, and the one that it was merged into.",
  },
} as const satisfies Record<string, Definition & { field?: string }>;
type Name = keyof typeof parameters;
export const patientSearch: Definitions = parameters;

/** The references that a search follows, from patients and to them. */
export const link = "Patient:link";
export const provenance = "Provenance:target";
export const relatedPerson = "RelatedPerson:patient";

/** What refers to patients: who made their versions, and their contacts. */
type Referring = {
  provenanceOf: (call: Call, patientIds: string[]) => Promise<fhir.FhirResource[]>;
  contactsOf: (patient: Patient) => fhir.FhirResource[];
};

/** Most records that a page includes by their links. */
const maxLinked = 200;

/** Nobody's id. */
const nobody: Condition = { field: "id", anyOf: ["nobody"] };
const wrong = (path: string, message: string): never => {
  throw invalidFields([{ path, message }]);
};

const fieldOf = (name: Name): string => {
  const parameter = parameters[name];
  return "field" in parameter ? parameter.field : "email";
};

/** The codes of tokens whose system is given by FHIR, or by nobody. */
const codesOf = (values: string[]): string[] => values.map((value) => tokenOf(value).code ?? value);

function identifiersOf(values: string[]): Condition[] {
  const known = values.flatMap((value) => {
    const { system, code = "" } = tokenOf(value);
    if (system === undefined) return [code];
    const name = fromSystemUri(system);
    // Every identifier has a system.
    return name ? [`${name}|${code}`] : [];
  });
  return known.length > 0 ? [{ field: "identifier", anyOf: known }] : [nobody];
}

/** `phone|…`, `email|…`, or whichever it looks like. */
function telecomOf(name: string, values: string[]): Condition[] {
  const tokens = values.map((value) => tokenOf(value));
  const kinds = new Set(tokens.map(({ system, code = "" }) => system || (code.includes("@") ? "email" : "phone")));
  const [kind = ""] = kinds;
  if (kinds.size > 1) wrong(name, "must have phone numbers or e-mail addresses, not both; use phone and email");
  if (kind !== "email" && kind !== "phone") return [nobody];
  return [{ field: kind, is: "exact", anyOf: tokens.map(({ code = "" }) => code) }];
}

/** Days are compared as FHIR compares spans of time, by patient-service. */
function birthdatesOf(name: string, values: string[]): Condition[] {
  const anyOf = values.map((value) => {
    const { prefix, text } = dateOf(name, value);
    if (prefix === "ap") wrong(name, "takes eq, ne, gt, lt, ge, le, sa and eb; write the days between which you mean");
    return `${prefix}${text.slice(0, 10)}`;
  });
  return [{ field: "dateOfBirth", anyOf }];
}

function updatesOf(name: string, values: string[]): Condition[] {
  if (values.length > 1) wrong(name, "takes one value; repeat the parameter for a second bound");
  const { prefix, start, end } = dateOf(name, values[0] ?? "");
  const at = (op: string, instant: Date): Condition => ({ field: "updatedAt", anyOf: [`${op}${instant.toISOString()}`] });
  switch (prefix) {
    case "eq":
      return [at("ge", start), at("lt", end)];
    case "gt":
    case "sa":
      return [at("ge", end)];
    case "ge":
      return [at("ge", start)];
    case "lt":
    case "eb":
      return [at("lt", start)];
    case "le":
      return [at("lt", end)];
    default:
      return wrong(name, "takes eq, gt, lt, ge, le, sa and eb");
  }
}

const gendersOf = (values: string[]): Condition[] => {
  const known = codesOf(values).filter((code) => ["male", "female", "other", "unknown"].includes(code));
  return known.length > 0 ? [{ field: "sex", anyOf: known }] : [nobody];
};

function linksOf(values: string[], base: string): Condition[] {
  const ids = values.flatMap((value) => referenceOf(value, "Patient", base) ?? []);
  return ids.length > 0 ? [{ field: "linkedTo", anyOf: ids }] : [nobody];
}

function conditionsOf({ name, modifier, values }: Criterion, base: string): Condition[] {
  const field = fieldOf(name as Name);
  if (modifier === "missing") {
    const missing = values[0] === "true";
    // Every resource says these.
    if (name === "_id" || name === "_lastUpdated" || name === "active") return missing ? [nobody] : [];
    return name === "telecom" ? wrong(`${name}:missing`, "is not known here; use phone:missing or email:missing") : [{ field, missing }];
  }
  switch (name as Name) {
    case "active":
      return [];
    case "identifier":
      return identifiersOf(values);
    case "telecom":
      return telecomOf(name, values);
    case "birthdate":
      return birthdatesOf(name, values);
    case "_lastUpdated":
      return updatesOf(name, values);
    case "gender":
      return gendersOf(values);
    case "link":
      return linksOf(values, base);
    case "_id":
    case "deceased":
      return [{ field, anyOf: codesOf(values) }];
    case "email":
    case "phone":
      return [{ field, is: "exact", anyOf: codesOf(values) }];
    default:
      return [{ field, ...(modifier !== undefined && { is: modifier }), anyOf: values }];
  }
}

/** Records that were merged are found if somebody asks for them. */
function statesOf(criteria: Criterion[]): State[] {
  const active = criteria.filter(({ name, modifier }) => name === "active" && modifier === undefined).map(({ values }) => codesOf(values));
  for (const values of active) if (values.some((value) => value !== "true" && value !== "false")) wrong("active", "must be true or false");
  if (active.length === 0) return criteria.some(({ name }) => name === "link" || name === "_id") ? ["living", "merged"] : ["living"];
  return (["living", "merged"] as const).filter((state) => active.every((values) => values.includes(String(state === "living"))));
}

const sorts: Record<string, string> = {
  _lastUpdated: "updatedAt",
  _id: "createdAt",
  birthdate: "dateOfBirth",
  name: "name",
  family: "name",
};

/**
 * The order of a page. A further key has no effect where the first one is not equal, and patient-service has no second
 * one.
 */
function sortOf(search: Search): string | undefined {
  const [key, ...others] = search.sort;
  const field = key && sorts[key.name];
  search.ignored.push(...others.map(({ name }) => `_sort=${name}`), ...(key && !field ? [`_sort=${key.name}`] : []));
  return field && (key.descending ? `-${field}` : field);
}

/**
 * Where an answer may begin that has to be complete, as a client that polls asks: from an instant on, without an end.
 */
function startOf(where: Condition[]): string | undefined {
  const bounds = where.filter(({ field }) => field === "updatedAt").map(({ anyOf = [] }) => anyOf[0] ?? "");
  const [only] = bounds;
  return bounds.length === 1 && only?.startsWith("ge") ? new Date(Date.parse(only.slice(2)) - 1).toISOString() : undefined;
}

export type FoundPatients = {
  matches: fhir.Patient[];
  included: fhir.FhirResource[];
  next: string | undefined;
  total: number | undefined;
  lastUpdated: string | undefined;
};

/**
 * An error of patient-service in the words of the search: it names conditions by their places, and the cursor of a form
 * `where`.
 */
function inSearch(error: unknown, names: string[]): unknown {
  if (!(error instanceof AppError) || !error.options.errors) return error;
  if (error.options.reason === "TOO_LONG_TO_CARRY") return tooLongToPage();
  const errors = error.options.errors.map(({ path, message }) => {
    const [, place] = /^where\.(\d+)/.exec(path) ?? [];
    return { path: names[Number(place)] ?? path, message };
  });
  return new AppError(error.code, errors.map((one) => `${one.path}: ${one.message}`).join("; "), { ...error.options, errors });
}

/** A search for patients in no state finds nobody. */
const scopeOf = (where: Condition[], states: State[]): Pick<Query, "where" | "states"> =>
  states.length > 0 ? { where, states } : { where: [...where, nobody], states: ["living"] };

/** @param base the URL of this API, as clients call it */
export function createPatientSearch(patients: Patients, base: string, { provenanceOf, contactsOf }: Referring) {
  /**
   * The records that these lead to or that lead to these, of those whom the caller may see and that are no matches
   * themselves.
   */
  async function linkedTo(call: Call, matches: fhir.Patient[]): Promise<fhir.Patient[]> {
    const linked = matches.flatMap(({ link: links = [] }) => links.flatMap(({ other }) => other.reference?.replace("Patient/", "") ?? []));
    const ids = [...new Set(linked)].filter((id) => !matches.some((match) => match.id === id));
    if (ids.length === 0) return [];
    const query: Query = { where: [{ field: "id", anyOf: ids.slice(0, maxLinked) }], states: ["living", "merged"], limit: maxLinked };
    return (await patients.search(call, query)).items.map(toFhir);
  }

  async function includedIn(call: Call, { include, revinclude }: Search, found: Patient[], matches: fhir.Patient[]) {
    const ids = found.map(({ id }) => id);
    const linked = include.some((one) => one.startsWith(link)) ? await linkedTo(call, matches) : [];
    // The contacts of a record that was merged are those of its survivor.
    const people = revinclude.includes(relatedPerson) ? found.filter((one) => one.mergedInto === undefined).flatMap(contactsOf) : [];
    return [...linked, ...people, ...(revinclude.includes(provenance) ? await provenanceOf(call, ids) : [])];
  }

  /** @param isForm whether the criteria came by a form, so that the next page is asked for without them */
  return async (call: Call, search: Search, isForm: boolean): Promise<FoundPatients> => {
    const { criteria, count, cursor, total: wanted } = search;
    const isCount = search.summary === "count" || count === 0;
    const states = statesOf(criteria);
    const asked = criteria.flatMap((criterion) => conditionsOf(criterion, base).map((condition) => ({ ...criterion, condition })));
    const where = asked.map(({ condition }) => condition);
    const [sort, updatedAfter] = [sortOf(search), startOf(where)];
    const others = search.include.filter((one) => one !== link && one !== `${link}:Patient`).map((one) => `_include=${one}`);
    const backwards = search.revinclude.filter((one) => one !== provenance && one !== relatedPerson).map((one) => `_revinclude=${one}`);
    ignoreOrRefuse(search, [...others, ...backwards]);
    // A cursor of a form carries these, and stands alone.
    const conditions = criteria.length > 0 || cursor === undefined ? scopeOf(where, states) : {};
    const query: Query = {
      ...conditions,
      limit: isCount ? 1 : count,
      ...(isForm && !isCount && { carry: true }),
      ...(updatedAfter !== undefined && { updatedAfter }),
      ...(sort !== undefined && { sort }),
      ...(cursor !== undefined && { cursor }),
      ...(isCount || wanted === "accurate" ? { count: "exact" } : wanted !== "estimate" && { count: "none" }),
    };
    const page = await patients.search(call, query).catch((error: unknown) => {
      throw inSearch(error, asked.map(({ name }) => name)); // biome-ignore format: one thing
    });
    const matches = isCount ? [] : page.items.map(toFhir);
    const isWhole = cursor === undefined && page.nextCursor === undefined;
    const total = page.total ?? (isWhole ? page.items.length : wanted === "estimate" ? page.totalEstimate : undefined);
    return {
      matches,
      included: await includedIn(call, search, isCount ? [] : page.items, matches),
      next: isCount ? undefined : page.nextCursor,
      total,
      lastUpdated: page.completeUntil,
    };
  };
}
