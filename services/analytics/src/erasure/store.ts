/** Patients who were erased. How, stands in the migration: only its owner may change events. */
import type { Queries } from "@pm/kit/postgres/transaction";
import { type Selectable, sql } from "kysely";
import type { Db, Tables } from "../tables.ts";

/**
 * Removes the demographics from all stored events of a patient. It may be repeated.
 * @param rollups how many rows of the roll-ups change because the patient moves to "unknown", for the certificate
 */
export async function erasePatient(db: Db, { patientId, erasureId, rollups }: Erasure): Promise<void> {
  await sql`select erase_patient(${patientId}, ${erasureId}, ${rollups})`.execute(db);
}

type Erasure = { patientId: string; erasureId: string; rollups: number };

export async function countErasures(db: Db): Promise<number> {
  const { count } = await db
    .selectFrom("erasures")
    .select(({ fn }) => fn.countAll<bigint>().as("count"))
    .executeTakeFirstOrThrow();
  return Number(count);
}

type ErasureRow = Selectable<Tables["erasures"]>;

const findStatement = {
  name: "erasure_find",
  text: "select * from erasures where patient_id = $1 and ($2::uuid is null or exists (select from events where event_id = $2))",
};

/** What was removed of a patient; undefined if they are not erased, or the event that says so was not applied yet. */
export async function findErasure(db: Queries, patientId: string, eventId: string | undefined): Promise<ErasureRow | undefined> {
  const [row] = await db.query<ErasureRow>(findStatement, [patientId, eventId ?? null]);
  return row;
}
