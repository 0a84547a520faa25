/** The search for patients: a page of those who meet its criteria, and what refers to them. */
import { AppError } from "@pm/kit/errors";
import type * as fhir from "fhir/r4.js";
import { tooLongToPage } from "../protocol/bundle.ts";
import type { Call } from "../protocol/calls.ts";
import { ignoreOrRefuse, type Search } from "../protocol/search-parameters.ts";
import type { Patients } from "./client.ts";
import { type Condition, conditionsOf, type State, scopeOf, statesOf } from "./criteria.ts";
import { toFhir } from "./mapping.ts";
import type { Patient } from "./patient.ts";

type Query = {
  where?: Condition[];
  states?: State[];
  updatedAfter?: string;
  sort?: string;
  limit: number;
  cursor?: string;
  carry?: true;
  /** Without it, patient-service estimates how many there are. */
  count?: "exact" | "none";
};

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

const sorts: Record<string, string> = {
  _lastUpdated: "updatedAt",
  _id: "createdAt",
  birthdate: "dateOfBirth",
  name: "name",
  family: "name",
};

/** The order of a page. A further key matters only where the first is equal, and patient-service has no second one. */
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

/** An error of patient-service in words of the search: it names conditions by place, and a form's cursor `where`. */
function inSearch(error: unknown, names: string[]): unknown {
  if (!(error instanceof AppError) || !error.options.errors) return error;
  if (error.options.reason === "TOO_LONG_TO_CARRY") return tooLongToPage();
  const errors = error.options.errors.map(({ path, message }) => {
    const [, place] = /^where\[(\d+)\]/.exec(path) ?? [];
    return { path: names[Number(place)] ?? path, message };
  });
  return new AppError(error.code, errors.map((one) => `${one.path}: ${one.message}`).join("; "), { ...error.options, errors });
}

/** @param base the URL of this API, as clients call it */
export function createPatientSearch(patients: Patients, base: string, { provenanceOf, contactsOf }: Referring) {
  /** The records that these lead to or that lead to these, if the caller may see them and they are no matches. */
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
