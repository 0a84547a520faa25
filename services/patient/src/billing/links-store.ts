/** Which accounts billing has yet to link or unlink. */
import type { PatientDatabase } from "../database.ts";

/** Whose account leads to whose; null: to nobody's. */
export type Link = { patientId: string; survivorId: string | null; revision: bigint };

const leaseStatement = {
  name: "links_lease",
  text: `
    with due as (
      select patient_id from patient_links l where next_attempt_at <= now()
        and exists (select from patient_billing b where b.patient_id = l.patient_id and b.account_id is not null)
        and (survivor_id is null or exists (select from patient_billing b where b.patient_id = l.survivor_id and b.account_id is not null))
      order by revision limit $1 for update skip locked
    )
    update patient_links l set next_attempt_at = now() + make_interval(secs => $2) from due where due.patient_id = l.patient_id
    returning l.patient_id as "patientId", survivor_id as "survivorId", revision`,
};

/** Takes links whose accounts are open, in no order. If this process dies, they are due again after `leaseSeconds`. */
export function leaseLinks(db: PatientDatabase, limit: number, leaseSeconds: number): Promise<Link[]> {
  return db.query<Link>(leaseStatement, [limit, leaseSeconds]);
}

/** Billing knows a link. If the link has changed meanwhile, it has another revision and is still due. */
export async function noteSent(db: PatientDatabase, { patientId, revision }: Link): Promise<void> {
  const text = "update patient_links set next_attempt_at = null, attempts = 0 where patient_id = $1 and revision = $2";
  await db.query({ name: "links_sent", text }, [patientId, revision]);
}

/** Makes all links due again, because billing may have lost some. It ignores those that it has. Gives their number. */
export async function resendLinks(db: PatientDatabase): Promise<number> {
  const text = "update patient_links set next_attempt_at = now(), attempts = 0 returning 1";
  return (await db.query({ name: "links_resend", text }, [])).length;
}

/** Puts a link off, longer every time, up to five minutes. */
export async function postponeLink(db: PatientDatabase, { patientId, revision }: Link): Promise<void> {
  const text = `update patient_links set attempts = attempts + 1, next_attempt_at = now() + make_interval(secs => least(300, 2 ^ least(attempts, 10)))
    where patient_id = $1 and revision = $2`;
  await db.query({ name: "links_postpone", text }, [patientId, revision]);
}
