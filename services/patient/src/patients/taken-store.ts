/** What a write finds taken: an e-mail address or an identifier that another living patient has. */
import { AppError } from "@pm/kit/errors";
import { violatedConstraint } from "@pm/kit/postgres/database";
import type { Queries } from "@pm/kit/postgres/transaction";
import type { PatientRecord } from "../tables.ts";

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

/** The refusal of a record whose e-mail or identifier another patient has. */
export function taken(conflict: Conflict): AppError {
  const path = conflict === "email" ? "email" : `identifiers.${conflict.system}`;
  const [kind, fix] = conflict === "email" ? ["EMAIL_TAKEN", "use another address"] : ["IDENTIFIER_TAKEN", "correct the value"];
  const message = `belongs to another patient; look that one up, or ${fix}`;
  return new AppError("already_exists", `${path}: ${message}.`, { reason: kind, errors: [{ path, message }] });
}
