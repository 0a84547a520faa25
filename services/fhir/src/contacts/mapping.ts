/** The mapping of a contact of a patient, ours → FHIR. docs/fhir.md has it as a table. */
import type * as fhir from "fhir/r4.js";
import type { Contact, Patient } from "../patients/patient.ts";

/** A contact's id is unique within its patient. */
const idOf = (patientId: string, contactId: string) => `${patientId}-${contactId}`;

/** The patient and the contact that an id names; undefined if it can be none of ours. */
export function partsOf(id: string): { patientId: string; contactId: string } | undefined {
  const [, patientId, contactId] = /^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-(.+)$/i.exec(id) ?? [];
  return patientId !== undefined && contactId !== undefined ? { patientId, contactId } : undefined;
}

function toRelatedPerson(
  { id: patientId, updatedAt }: Patient,
  { id = "", name, relationship, phone, address }: Contact,
): fhir.RelatedPerson {
  return {
    resourceType: "RelatedPerson",
    id: idOf(patientId, id),
    meta: { lastUpdated: updatedAt },
    patient: { reference: `Patient/${patientId}` },
    ...(relationship !== undefined && { relationship: [{ text: relationship }] }),
    name: [{ text: name }],
    ...(phone !== undefined && { telecom: [{ system: "phone" as const, value: phone }] }),
    ...(address !== undefined && { address: [{ text: address }] }),
  };
}

export const toRelatedPeople = (patient: Patient): fhir.RelatedPerson[] =>
  (patient.contacts ?? []).map((contact) => toRelatedPerson(patient, contact));

export const exampleRelatedPerson = toRelatedPerson(
  { id: "0193b3f0-8c1a-7b6e-9d2f-3a4b5c6d7e8f", version: 1, createdAt: "2026-01-28T09:30:00.000Z", updatedAt: "2026-01-28T09:30:00.000Z" },
  { id: "1", name: "Ralph King", relationship: "son", phone: "+12175550199" },
);
