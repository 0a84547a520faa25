/** What a write finds taken: an e-mail address or an identifier that another living patient has. */
import { AppError } from "@pm/kit/errors";
import { violatedConstraint } from "@pm/kit/postgres/database";
import type { Queries } from "@pm/kit/postgres/transaction";
import type { Viewer } from "../database.ts";
import type { PatientRecord } from "../tables.ts";
import { visible } from "./access-store.ts";

/** What another living patient has: an identifier of a system, or the e-mail address. */
export type Conflict = { system: string } | "email";

/** Two requests took the same identifier at the same moment. */
export const isIdentifierRace = (error: unknown): boolean => violatedConstraint(error) === "patient_identifiers_pkey";

const takenStatement = {
  name: "patient_identifiers_taken",
  text: `select i.system from json_to_recordset($1) as i(system text, value text)
    join patient_identifiers k on k.system = i.system and k.value = i.value where k.patient_id <> $2 limit 1`,
};

/** What another living patient has of a record: an identifier, or else the e-mail. */
export async function findConflict(db: Queries, id: string, { identifiers = [] }: PatientRecord): Promise<Conflict> {
  const [taken] = await db.query<{ system: string }>(takenStatement, [JSON.stringify(identifiers), id]);
  return taken ?? "email";
}

const holderStatement = {
  name: "patient_identifiers_holder",
  text: `select p.id from json_to_recordset($1) as i(system text, value text)
    join patient_identifiers k on k.system = i.system and k.value = i.value join patients p on p.id = k.patient_id,
    (select $2::text as actor, $3::boolean as sees_all, $4::text[] as principals) a where p.id <> $5 and ${visible("p", "a")} limit 1`,
};

/** The patient who has an identifier that another record was to have, if the viewer may see them. */
export async function findHolder(
  db: Queries,
  id: string,
  { identifiers = [] }: PatientRecord,
  conflict: Conflict,
  viewer: Viewer,
): Promise<string | undefined> {
  if (conflict === "email") return undefined;
  const met = identifiers.filter(({ system }) => system === conflict.system);
  const values = [JSON.stringify(met), viewer.id, viewer.seesAll, viewer.principals, id];
  return (await db.query<{ id: string }>(holderStatement, values))[0]?.id;
}

/**
 * The refusal of a record whose e-mail or identifier another patient has.
 * @param patientId who it is, if the caller may see them
 */
export function taken(conflict: Conflict, patientId?: string): AppError {
  const path = conflict === "email" ? "email" : `identifiers.${conflict.system}`;
  const [kind, fix] = conflict === "email" ? ["EMAIL_TAKEN", "use another address"] : ["IDENTIFIER_TAKEN", "correct the value"];
  const message = `belongs to another patient; look that one up, or ${fix}`;
  return new AppError("already_exists", `${path}: ${message}.`, {
    reason: kind,
    errors: [{ path, message }],
    ...(patientId !== undefined && { metadata: { patientId } }),
  });
}
