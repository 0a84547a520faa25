/** The search parameters of Patient, and the conditions of patient-service that each is (`POST /patients:search`). */
import { invalidFields } from "@pm/kit/errors";
import { boundsOf } from "../protocol/criteria.ts";
import { type Criterion, type Definition, type Definitions, dateOf, referenceOf, tokenOf } from "../protocol/search-parameters.ts";
import { fromSystemUri } from "./codes.ts";

/** A condition of patient-service: the field has one of these values, or says something at all. */
export type Condition = { field: string; is?: string; anyOf?: string[]; missing?: boolean };
export type State = "living" | "merged";

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

function updatesOf(criterion: Criterion): Condition[] {
  const { from, to } = boundsOf(criterion);
  const at = (op: string, instant: Date | undefined): Condition[] =>
    instant ? [{ field: "updatedAt", anyOf: [`${op}${instant.toISOString()}`] }] : [];
  return [...at("ge", from), ...at("lt", to)];
}

const gendersOf = (values: string[]): Condition[] => {
  const known = codesOf(values).filter((code) => ["male", "female", "other", "unknown"].includes(code));
  return known.length > 0 ? [{ field: "sex", anyOf: known }] : [nobody];
};

function linksOf(values: string[], base: string): Condition[] {
  const ids = values.flatMap((value) => referenceOf(value, "Patient", base) ?? []);
  return ids.length > 0 ? [{ field: "linkedTo", anyOf: ids }] : [nobody];
}

/** @param base the URL of this API, as clients call it */
export function conditionsOf(criterion: Criterion, base: string): Condition[] {
  const { name, modifier, values } = criterion;
  const field = fieldOf(name as Name);
  if (modifier === "missing") {
    const missing = values[0] === "true";
    // Every resource says these.
    if (["_id", "_lastUpdated", "active", "gender"].includes(name)) return missing ? [nobody] : [];
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
      return updatesOf(criterion);
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
export function statesOf(criteria: Criterion[]): State[] {
  const active = criteria.filter(({ name, modifier }) => name === "active" && modifier === undefined).map(({ values }) => codesOf(values));
  for (const values of active) if (values.some((value) => value !== "true" && value !== "false")) wrong("active", "must be true or false");
  if (active.length === 0) return criteria.some(({ name }) => name === "link" || name === "_id") ? ["living", "merged"] : ["living"];
  return (["living", "merged"] as const).filter((state) => active.every((values) => values.includes(String(state === "living"))));
}

/** A search for patients in no state finds nobody. */
export const scopeOf = (where: Condition[], states: State[]): { where: Condition[]; states: State[] } =>
  states.length > 0 ? { where, states } : { where: [...where, nobody], states: ["living"] };
