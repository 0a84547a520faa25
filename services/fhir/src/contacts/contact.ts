/**
 * The contacts of patients as RelatedPersons: reading one, and finding those of a patient. They are part of the record.
 */
import { AppError } from "@pm/kit/errors";
import type { RelatedPerson } from "fhir/r4.js";
import type { Patients } from "../patients/client.ts";
import type { Call } from "../protocol/calls.ts";
import { referenceIn, requireOne, textsOf } from "../protocol/criteria.ts";
import { nothing, readable, unlessAbsent } from "../protocol/readable.ts";
import { exampleRelatedPerson, partsOf, toRelatedPeople } from "./mapping.ts";

const noContact = () => new AppError("not_found", "There is no such contact.");

export function createContacts({ patients, base }: { patients: Patients; base: string }) {
  const ofPatient = async (call: Call, patientId: string) => toRelatedPeople(await patients.get(call, patientId));

  async function read(call: Call, id: string): Promise<RelatedPerson> {
    const parts = partsOf(id);
    if (!parts) throw noContact();
    // A record that was merged is answered by its survivor, whose contacts are others.
    const found = (await ofPatient(call, parts.patientId)).find((person) => person.id === id);
    if (!found) throw noContact();
    return found;
  }

  return readable<"RelatedPerson">({
    type: "RelatedPerson",
    example: exampleRelatedPerson,
    documentation: "The contacts of patients. A search needs _id or patient.",
    definitions: { _id: { type: "token" }, patient: { type: "reference" } },
    includes: { patient: ({ patient }) => [patient.reference] },
    read,

    async search(call, search) {
      requireOne(search, "_id", "patient");
      const ids = textsOf(search, "_id");
      const wanted = referenceIn(search, base, "Patient", "patient");
      const patientIds = wanted === undefined ? ids?.flatMap((id) => partsOf(id)?.patientId ?? []) : [wanted].filter((id) => id !== "");
      if (!patientIds || patientIds.length === 0) return nothing;
      const people = await Promise.all([...new Set(patientIds)].map((id) => ofPatient(call, id).catch(unlessAbsent)));
      return { matches: people.flatMap((contacts) => contacts ?? []).filter(({ id = "" }) => ids?.includes(id) ?? true) };
    },
  });
}
