/** Patients who were erased. How, stands in the migration: only its owner may change events. */
import { sql } from "kysely";
import type { Db } from "../tables.ts";

/** Removes the demographics from all stored events of a patient. It may be repeated. */
export async function erasePatient(db: Db, patientId: string, erasureId: string): Promise<void> {
  await sql`select erase_patient(${patientId}, ${erasureId})`.execute(db);
}

export async function countErasures(db: Db): Promise<number> {
  const { count } = await db
    .selectFrom("erasures")
    .select(({ fn }) => fn.countAll<bigint>().as("count"))
    .executeTakeFirstOrThrow();
  return Number(count);
}
