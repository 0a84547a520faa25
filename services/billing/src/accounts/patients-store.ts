/** Which patients accounts are of, for the audit trail: entries of billing are about accounts. */
import type { Statement } from "@pm/kit/postgres/database";
import type { Queries } from "@pm/kit/postgres/transaction";

const patientsStatement: Statement = {
  name: "patients_of_accounts",
  text: "select distinct patient_id from accounts where id = any($1::uuid[])",
};

/** The patients of accounts. */
export async function patientsOf(db: Queries, accountIds: string[]): Promise<string[]> {
  if (accountIds.length === 0) return [];
  const rows = await db.query<{ patient_id: string }>(patientsStatement, [[...new Set(accountIds)]]);
  return rows.map(({ patient_id }) => patient_id);
}

const accountsStatement: Statement = { name: "accounts_of_patient", text: "select id from accounts where patient_id = $1" };

/** What entries about a patient have as their subject: the account's id, and the patient's where there was none yet. */
export async function subjectsOf(db: Queries, patientId: string): Promise<string[]> {
  const rows = await db.query<{ id: string }>(accountsStatement, [patientId]);
  return [patientId, ...rows.map(({ id }) => id)];
}
