/** Which patients have a billing account, and which wait for one. */
import type { PatientDatabase } from "../database.ts";

/** A patient whose account is to be opened. */
export type PendingPatient = {
  patientId: string;
  name: string;
  email?: string | null | undefined;
  /** The trace of the request that created the patient, if it is sampled. */
  traceparent?: string | null | undefined;
};
/** The account of a patient. */
export type Account = { patientId: string; accountId: string };

/**
 * By a list of ids, which Postgres looks up one by one, whatever it knows about the table. The commit does not wait for
 * the disk: what a crash of Postgres takes back is asked for again, and billing gives the same account.
 */
const saveStatement = {
  name: "billing_save",
  text: `with async_commit as materialized (select set_config('synchronous_commit', 'off', true))
    update patient_billing set account_id = ($2::uuid[])[array_position($1::uuid[], patient_id)], next_attempt_at = null
    from async_commit where patient_id = any($1::uuid[]) and (account_id is null) is true`,
};

/** Stores accounts. One that is stored already stays: billing gives one account per patient. */
export async function saveAccounts(db: PatientDatabase, accounts: Account[]): Promise<void> {
  await db.query(saveStatement, [accounts.map((account) => account.patientId), accounts.map((account) => account.accountId)]);
}

const leaseStatement = {
  name: "billing_lease",
  text: `
    with due as (
      select patient_id from patient_billing where account_id is null and next_attempt_at <= now()
      order by next_attempt_at limit $1 for update skip locked
    ), leased as (
      update patient_billing b set next_attempt_at = now() + make_interval(secs => $2) from due where due.patient_id = b.patient_id
      returning b.patient_id, b.traceparent
    )
    select p.id as "patientId", p.name, coalesce(p.email, p.shared_email) as email, leased.traceparent from leased join patients p on p.id = leased.patient_id order by p.id`,
};

/** Takes patients whose account is due, again after `leaseSeconds` (more than a call) if this process dies. */
export function leasePending(db: PatientDatabase, limit: number, leaseSeconds: number): Promise<PendingPatient[]> {
  return db.query<PendingPatient>(leaseStatement, [limit, leaseSeconds]);
}

/** Whether an account is due. */
export async function hasPending(db: PatientDatabase): Promise<boolean> {
  const text = "select exists (select 1 from patient_billing where account_id is null and next_attempt_at <= now()) as found";
  const [row] = await db.query<{ found: boolean }>({ name: "billing_due", text }, []);
  return row?.found === true;
}

/** Gives patients back after a failure of billing. They are due again after one to three seconds, not all at once. */
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
