import type { PatientDatabase } from "../database.ts";

/** `withAccount` and `withoutAccount` count deleted patients too: an account outlives its patient's record. */
export type Totals = {
  active: number;
  /** Also those that were merged into another record, as in the version before. */
  deleted: number;
  merged: number;
  withAccount: number;
  withoutAccount: number;
  /** Events that Kafka does not have yet: nobody else can have counted them. */
  pendingEvents: number;
};

export async function readTotals(db: PatientDatabase): Promise<Totals> {
  const text = `select
    (select count(*)::int from patients where deleted_at is null) as active,
    (select count(*)::int from patients where deleted_at is not null) as deleted,
    (select count(*)::int from patients where merged_into is not null) as merged,
    (select count(*)::int from patient_billing where account_id is not null) as "withAccount",
    (select count(*)::int from patient_billing where account_id is null) as "withoutAccount",
    (select count(*)::int from outbox) as "pendingEvents"`;
  const [totals] = await db.query<Totals>({ name: "patients_totals", text }, []);
  return totals ?? { active: 0, deleted: 0, merged: 0, withAccount: 0, withoutAccount: 0, pendingEvents: 0 };
}

/** `opening`: the worker is still to open the patient's account. */
export async function readIds(db: PatientDatabase, after: string | undefined, limit: number): Promise<{ id: string; opening: boolean }[]> {
  const text = `select id, (select account_id is null and next_attempt_at is not null from patient_billing where patient_id = p.id) is true as opening
    from patients p where id > coalesce($1, '00000000-0000-0000-0000-000000000000'::uuid) order by id limit $2`;
  return await db.query({ name: "patients_ids", text }, [after ?? null, limit]);
}
