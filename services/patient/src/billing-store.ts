/** Which patients have a billing account, and which wait for one. */
import type { PatientDatabase } from "./store.ts";

/** A patient whose account is to be opened. */
export type PendingPatient = { patientId: string; name: string; email: string };

const saveStatement = {
  name: "billing_save",
  text: `update patient_billing b set account_id = i.account_id, next_attempt_at = null
    from json_to_recordset($1) as i(patient_id uuid, account_id uuid) where b.patient_id = i.patient_id and b.account_id is null`,
};

/** Stores accounts. An account that is stored already stays: billing gives one account per patient, whoever asks. */
export async function saveAccounts(db: PatientDatabase, accounts: { patientId: string; accountId: string }[]): Promise<void> {
  const rows = accounts.map(({ patientId, accountId }) => ({ patient_id: patientId, account_id: accountId }));
  await db.query(saveStatement, [JSON.stringify(rows)]);
}

const leaseStatement = {
  name: "billing_lease",
  text: `
    with due as (
      select patient_id from patient_billing where account_id is null and next_attempt_at <= now()
      order by next_attempt_at limit $1 for update skip locked
    ), leased as (
      update patient_billing b set next_attempt_at = now() + make_interval(secs => $2) from due where due.patient_id = b.patient_id
      returning b.patient_id
    )
    select p.id as "patientId", p.name, p.email from leased join patients p on p.id = leased.patient_id order by p.id`,
};

/** Takes patients whose account is due, for `leaseSeconds`: long enough for the call, and whoever dies in between loses nothing. */
export function leasePending(db: PatientDatabase, limit: number, leaseSeconds: number): Promise<PendingPatient[]> {
  return db.query<PendingPatient>(leaseStatement, [limit, leaseSeconds]);
}

/** Gives patients back after a failure that was not theirs; they are due again in one to three seconds, not all at once. */
export async function releasePending(db: PatientDatabase, patientIds: string[]): Promise<void> {
  const text =
    "update patient_billing set next_attempt_at = now() + make_interval(secs => 1 + 2 * random()) where patient_id = any($1) and account_id is null";
  await db.query({ name: "billing_release", text }, [patientIds]);
}

/** Puts off a patient whose account billing refused to open, longer every time, up to an hour. */
export async function postponePending(db: PatientDatabase, patientId: string): Promise<void> {
  const text = `update patient_billing set attempts = attempts + 1, next_attempt_at = now() + make_interval(secs => least(3600, 30 * 2 ^ least(attempts, 10)))
    where patient_id = $1 and account_id is null`;
  await db.query({ name: "billing_postpone", text }, [patientId]);
}
