/**
 * What US Core 5.0.1 asks of every patient and a record may lack: a gender and a part of a name. Its readers are told
 * that it is not known, by the code for that or by an extension. Only the platform says so: what a client read and
 * writes again is not stored.
 */
import type * as fhir from "fhir/r4.js";
import { createBondCheck } from "./bonds.ts";
import { isEqual, type Kept } from "./kept.ts";
import type { PatientBody } from "./patient.ts";

const absentUrl = "http://hl7.org/fhir/StructureDefinition/data-absent-reason";
/** A new one each time, since a patch of one must not change another. */
const unknown = (): fhir.Extension => ({ url: absentUrl, valueCode: "unknown" });
const isUnknown = (extension: unknown): boolean => isEqual(extension, unknown());
/** Whether it says nothing else, as `_gender` did in the version before. */
const isOnlyUnknown = (element: unknown): boolean => isEqual(element, { extension: [unknown()] });

const hasPart = ({ family, given }: fhir.HumanName): boolean => family !== undefined || given !== undefined;

/** With a reason, unless a client has given another one. What was kept may be anything. */
function withReason(extension: unknown): fhir.Extension[] {
  const all: (fhir.Extension | null)[] = Array.isArray(extension) ? extension : [];
  return all.some((one) => one?.url === absentUrl) ? (all as fhir.Extension[]) : ([...all, unknown()] as fhir.Extension[]);
}

/**
 * Says in a resource, which it changes, what is not known.
 * @param names those of the record in it
 */
export function sayUnknown(resource: fhir.Patient, names: fhir.HumanName[] = []): fhir.Patient {
  resource.gender ??= "unknown";
  if (isOnlyUnknown(resource._gender)) delete resource._gender;
  for (const name of names) if (!hasPart(name)) name.extension = withReason(name.extension);
  // Readers look at the name, and the rule us-core-6 at the patient.
  if (!names.some(hasPart)) resource.extension = withReason(resource.extension);
  return resource;
}

/**
 * Gives a resource, which it changes, the reasons that the version before had at names and at `_gender`, where what was
 * kept then belongs to them. Otherwise it would find no place.
 */
export function withFormerReasons(resource: fhir.Patient, kept: Kept): fhir.Patient {
  if (kept.length === 0) return resource;
  const isBound = createBondCheck();
  for (const name of resource.name ?? []) {
    if (hasPart(name)) continue;
    const former = { ...name, extension: [unknown()] };
    const isKept = kept.some(([[list, id], , , bond]) => list === "name" && id === name.id && bond !== undefined && isBound(bond, former));
    if (isKept) name.extension = former.extension;
  }
  const isKept = kept.some(([[element], ours]) => element === "_gender" && ours !== null);
  if (isKept && resource.gender === undefined) resource._gender = { extension: [unknown()] };
  return resource;
}

function withoutReason<Element extends fhir.Element>(element: Element): Element {
  const { extension = [], ...others } = element;
  const left = extension.filter((one) => !isUnknown(one));
  return { ...others, ...(left.length > 0 && { extension: left }) } as Element;
}

/** @param current what is stored, for an update */
export function withoutUnknown(resource: fhir.Patient, current: PatientBody | undefined): fhir.Patient {
  const { gender, _gender, name, ...others } = withoutReason(resource);
  const isSaid = gender === "unknown" && current !== undefined && current.sex === undefined;
  return {
    ...others,
    ...(gender !== undefined && !isSaid && { gender }),
    ...(_gender !== undefined && !isOnlyUnknown(_gender) && { _gender }),
    // A name that says nothing else would be empty without it.
    ...(name && { name: name.map((one) => (hasPart(one) || one.text !== undefined ? withoutReason(one) : one)) }),
  };
}
