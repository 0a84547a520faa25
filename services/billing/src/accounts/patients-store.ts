/** Which patients accounts are of, for the audit trail: entries of billing are about accounts. */
import type { TrailOf } from "@pm/kit/auditor/store";
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

const ofPatientStatement: Statement = {
  name: "accounts_of_patient",
  text: `select a.id from accounts own join accounts a on a.id = coalesce(own.merged_into, own.id) or a.merged_into = coalesce(own.merged_into, own.id)
    where own.patient_id = $1 order by a.merged_into is not null, a.id`,
};

/**
 * The ids of a patient's account and of those that are linked to it. The patient of a merged record has the survivor's.
 */
export async function accountIdsOf(db: Queries, patientId: string): Promise<string[]> {
  return (await db.query<{ id: string }>(ofPatientStatement, [patientId])).map(({ id }) => id);
}

const accountsStatement: Statement = {
  name: "accounts_of_person",
  text: `select id, patient_id from accounts
    where patient_id = $1 or merged_into in (select id from accounts where patient_id = $1)`,
};

/**
 * Whose entries are about a patient: those of their account and of the accounts that are linked to it. Their subject is
 * the id of the account, and the id of the patient where there was no account yet.
 */
export async function trailOf(db: Queries, patientId: string): Promise<TrailOf> {
  const rows = await db.query<{ id: string; patient_id: string }>(accountsStatement, [patientId]);
  const patientIds = [...new Set([patientId, ...rows.map(({ patient_id }) => patient_id)])];
  return { patientIds, subjects: [...patientIds, ...rows.map(({ id }) => id)] };
}
