/** Finds the patient whom a line of an import means. */
import type { PatientDatabase, Viewer } from "../database.ts";
import { visible } from "../patients/access-store.ts";
import type { IdentifierKey } from "../tables.ts";

const matchStatement = {
  name: "imports_match",
  text: `
    with viewer as (
      select $1::text as actor, $2::boolean as sees_all, $3::text[] as principals
    ), keyed as (
      select k.patient_id from json_to_recordset($5) as i(system text, value text)
      join patient_identifiers k on k.system = i.system and k.value = i.value
    )
    select p.id from viewer, (select $4::uuid as id union select patient_id from keyed) meant join patients p using (id)
    where p.deleted_at is null and ${visible("p", "viewer")} limit 2`,
};

/** The patients with the id or one of the identifiers, among those whom the viewer may see; two at most. */
export async function findMatches(
  db: PatientDatabase,
  viewer: Viewer,
  { id, identifiers }: { id: string | undefined; identifiers: IdentifierKey[] },
): Promise<string[]> {
  const values = [viewer.id, viewer.seesAll, viewer.principals, id ?? null, JSON.stringify(identifiers)];
  return (await db.query<{ id: string }>(matchStatement, values)).map((row) => row.id);
}
