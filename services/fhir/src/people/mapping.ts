/** Users and teams of auth, ours → FHIR: as much of them as references need. docs/fhir.md has it as a table. */
import type * as fhir from "fhir/r4.js";

export type Person = { id: string; name: string };
export type Team = { id: string; name: string; members: number };

/** Somebody who has not said their name yet has an id only. */
export const toPractitioner = ({ id, name }: Person): fhir.Practitioner => ({
  resourceType: "Practitioner",
  id,
  ...(name && { name: [{ text: name }] }),
});

/** A team: users who see the patients that are shared with it. */
export const toGroup = ({ id, name, members }: Team): fhir.Group => ({
  resourceType: "Group",
  id,
  active: true,
  type: "practitioner",
  actual: true,
  name,
  quantity: members,
});
