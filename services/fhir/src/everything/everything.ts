/**
 * All that is known of a patient, page by page: the patient, and then one type of resource after the other, each read
 * as its search reads it. A page holds no more than it shows, and its cursor keeps its place while others write.
 */
import { AppError, invalidFields } from "@pm/kit/errors";
import type { FhirResource, OperationOutcomeIssue } from "fhir/r4.js";
import { toFhir } from "../patients/mapping.ts";
import type { PatientRules } from "../patients/patients.ts";
import type { Call } from "../protocol/calls.ts";
import type { Operation } from "../protocol/capability.ts";
import type { Page, Readable } from "../protocol/readable.ts";
import { ours } from "../protocol/resource.ts";
import type { Search } from "../protocol/search-parameters.ts";

export const everythingOperation: Operation = {
  resource: "Patient",
  name: "everything",
  definition: `${ours}/OperationDefinition/patient-everything`,
};

export const everythingTypes = [
  ...(["Patient", "RelatedPerson", "Account", "ChargeItem", "Invoice", "PaymentReconciliation", "Provenance"] as const),
];
export type EverythingType = (typeof everythingTypes)[number];

export type Asked = { types: EverythingType[]; since: Date | undefined; count: number; cursor: string | undefined };
export type Everything = { matches: FhirResource[]; notes: OperationOutcomeIssue[]; next?: string };

/** Of these, a search gives all at once, and there are few. */
const atOnce = new Set<EverythingType>(["RelatedPerson", "Account"]);

/** Most searches for a page. With `_since`, many of them may find nothing that is new. */
const maxSearches = 20;

type Position = { at: number; inside: string | undefined };

function positionOf(cursor: string): Position {
  const [type = "", ...rest] = cursor.split("~");
  const at = (everythingTypes as string[]).indexOf(type);
  if (at < 1) throw invalidFields([{ path: "_cursor", message: "is not a cursor of this operation; begin again" }]);
  return { at, inside: rest.length > 0 ? rest.join("~") : undefined };
}

const toCursor = ({ at, inside }: Position) => everythingTypes[at] + (inside === undefined ? "" : `~${inside}`);

const note = (code: OperationOutcomeIssue["code"], text: string): OperationOutcomeIssue => ({
  severity: "information",
  code,
  details: { text },
});

/** Whether a resource changed since. One that does not say when it changed may have. */
const isSince = (since: Date | undefined, { meta }: FhirResource) =>
  since === undefined || meta?.lastUpdated === undefined || Date.parse(meta.lastUpdated) >= since.getTime();

/** @param readables the resources that can be searched by their patient */
export function createEverything(patients: PatientRules, readables: Readable[]) {
  /** A page of what belongs to a patient, of one type. */
  async function search(call: Call, type: EverythingType, id: string, count: number, cursor: string | undefined): Promise<Page> {
    const readable = readables.find((one) => one.type === type);
    if (!readable) throw new Error(`${type} cannot be searched`);
    const criteria = [{ name: "patient", values: [`Patient/${id}`] }];
    const asked: Search = {
      ...{ criteria, count, sort: [], summary: "false", elements: [], include: [], revinclude: [], understood: [], ignored: [] },
      handling: "lenient",
    };
    if (!atOnce.has(type)) return readable.search(call, cursor === undefined ? asked : { ...asked, cursor });
    const { matches } = await readable.search(call, asked);
    const idOf = (one: FhirResource | undefined) => one?.id ?? "";
    const left = matches.filter((one) => idOf(one) > (cursor ?? "")).sort((a, b) => (idOf(a) < idOf(b) ? -1 : 1));
    return { matches: left.slice(0, count), ...(left.length > count && { next: idOf(left[count - 1]) }) };
  }

  /** Where a first page begins, with what it has of the patient. */
  async function begin(call: Call, id: string, page: Everything, isAsked: boolean, since: Date | undefined): Promise<Position> {
    const patient = await patients.get(call, id);
    const resource = toFhir(patient);
    if (isAsked && isSince(since, resource)) page.matches.push(resource);
    if (patient.mergedInto === undefined) return { at: 1, inside: undefined };
    const survivor = `Patient/${patient.mergedInto}`;
    page.notes.push(note("informational", `This record was merged into ${survivor}, which has all else.`));
    return { at: everythingTypes.indexOf("Provenance"), inside: undefined };
  }

  return async (call: Call, id: string, { types, since, count, cursor }: Asked): Promise<Everything> => {
    const page: Everything = { matches: [], notes: [] };
    let position = cursor === undefined ? await begin(call, id, page, types.includes("Patient"), since) : positionOf(cursor);
    for (let searches = 0; ; ) {
      const type = everythingTypes[position.at];
      if (!type) return page;
      if (!types.includes(type)) position = { at: position.at + 1, inside: undefined };
      else if (page.matches.length >= count || searches === maxSearches) return { ...page, next: toCursor(position) };
      else {
        searches += 1;
        const { matches, next } = await search(call, type, id, count - page.matches.length, position.inside).catch(
          (error: unknown): Page => {
            if (!(error instanceof AppError && error.code === "permission_denied")) throw error;
            page.notes.push(note("suppressed", `${type} is left out: you may not read what is of this type.`));
            return { matches: [] };
          },
        );
        page.matches.push(...matches.filter((one) => isSince(since, one)));
        position = next === undefined ? { at: position.at + 1, inside: undefined } : { at: position.at, inside: next };
      }
    }
  };
}
