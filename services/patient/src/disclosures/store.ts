/** Which entries of the trail are about a patient, in Postgres. */
import type { TrailOf } from "@pm/kit/auditor/store";
import type { PatientDatabase } from "../database.ts";

const recordsStatement = { name: "trail_records", text: "select id from patients where merged_into = $1" };

/** Whose entries are about a patient: those of their record and of the records that were merged into it. */
export async function trailOf(db: PatientDatabase, patientId: string): Promise<TrailOf> {
  const merged = await db.query<{ id: string }>(recordsStatement, [patientId]);
  const patientIds = [patientId, ...merged.map(({ id }) => id)];
  return { patientIds, subjects: patientIds };
}
