/** Erasures and legal holds in Postgres. What is erased, and how, stands in the migration: only its owner may. */
import { insertIntoAudit } from "@pm/kit/audit/audit";
import { insertOutboxEvents, type OutboxEvent } from "@pm/kit/kafka/outbox";
import { inTransaction, type Queries } from "@pm/kit/postgres/transaction";
import type { Selectable } from "kysely";
import type { PatientDatabase } from "../database.ts";
import type { PatientRecord, Tables } from "../tables.ts";
import type { Wait } from "./tables.ts";

export type ErasureRow = Selectable<Tables["erasures"]>;
export type HoldRow = Selectable<Tables["legal_holds"]>;
type Who = { actorId: string; requestId: string };

/** What decides about an erasure in this service. */
export type Erasable = {
  version: bigint;
  /** The account is being opened: billing does not know the patient yet. */
  isOpening: boolean;
  /** When the law no longer asks for the record. */
  keepUntil: Date;
  /** A hold on one record of a person holds all of them. */
  isOnHold: boolean;
  /** The record that this one was merged into. */
  mergedInto: string | null;
  /** The records that were merged into this one: they are of the same person. */
  merged: string[];
};

/** Whether the records `p` and `o` are of one person. */
const ofOnePerson = "coalesce(o.merged_into, o.id) = coalesce(p.merged_into, p.id)";

const erasableStatement = {
  name: "erasure_of_patient",
  text: `
    select p.version, coalesce(b.account_id is null and b.next_attempt_at is not null, false) as "isOpening",
      (select max(changed_at) from patient_versions where patient_id = p.id and action not in ('deleted', 'erased'))
        + make_interval(years => $2) as "keepUntil",
      exists (select from legal_holds h join patients o on o.id = h.patient_id where ${ofOnePerson}) as "isOnHold",
      p.merged_into as "mergedInto", array(select id from patients where merged_into = p.id order by id) as merged
    from patients p left join patient_billing b on b.patient_id = p.id where p.id = $1`,
};

/** A patient, also a deleted one. A record's age counts from when it was last written, not from when it was deleted. */
export async function findErasable(db: Queries, id: string, retentionYears: number): Promise<Erasable | undefined> {
  const [row] = await db.query<Erasable>(erasableStatement, [id, retentionYears]);
  return row;
}

/** Every version of a record that is not erased. */
export async function recordsOf(db: Queries, id: string): Promise<PatientRecord[]> {
  const text = "select record from patient_versions where patient_id = $1 and record::text <> '{}'";
  return (await db.query<{ record: PatientRecord }>({ name: "erasure_records", text }, [id])).map(({ record }) => record);
}

export async function findErasure(db: Queries, patientId: string): Promise<ErasureRow | undefined> {
  const [row] = await db.query<ErasureRow>({ name: "erasure_find", text: "select * from erasures where patient_id = $1" }, [patientId]);
  return row;
}

const eraseStatement = { name: "erasure_erase", text: "select erase_patient(patient_id, id) from erasures where patient_id = $1" };

export type NewErasure = Pick<ErasureRow, "id" | "patient_id" | "reason" | "requested_by" | "request_id" | "requested_at"> & {
  /** The words of the names of some records, which no search is to find any more. */
  wordsOf: (records: PatientRecord[]) => string[];
  keeps_record: boolean;
  /** The version about which it was decided. Undefined if it is done again, whatever the version is. */
  version?: bigint;
  /** What others learn: the last event of the patient, and that they were erased. */
  eventsAt: (version: number) => [OutboxEvent, OutboxEvent];
};

/** For one that is there already: everybody is asked again. */
const againStatement = {
  name: "erasure_again",
  text: `update erasures set billing_erased_at = null, analytics_erased_at = null, next_attempt_at = now(), event_id = $2
    where patient_id = $1`,
};

const insertStatement = {
  name: "erasure_insert",
  text: `insert into erasures (id, patient_id, reason, requested_by, request_id, requested_at, words, keeps_record, event_id, next_attempt_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, now()) on conflict (patient_id) do nothing returning id`,
};

type Locked = { version: bigint; merged_into: string | null };
const lockStatement = { name: "erasure_lock", text: "select version, merged_into from patients where id = $1 for update" };
const mergedStatement = { name: "erasure_merged", text: "select id from patients where merged_into = $1" };

/**
 * Erases the records of a patient: the one that lives, then those that were merged into it. False if one of them was
 * changed by now, or others than these are of the same person.
 */
export function beginErasures(db: PatientDatabase, erasures: NewErasure[]): Promise<boolean> {
  return inTransaction(db, async (tx) => {
    const [first] = erasures;
    if (!first) return false;
    const locked: (Locked | undefined)[] = [];
    for (const { patient_id } of erasures) locked.push((await tx.query<Locked>(lockStatement, [patient_id]))[0]);
    // Somebody else has begun it.
    if (await findErasure(tx, first.patient_id)) return true;
    const merged = await tx.query<{ id: string }>(mergedStatement, [first.patient_id]);
    const ids = erasures.map(({ patient_id }) => patient_id);
    const isOnePerson = merged.length === ids.length - 1 && merged.every(({ id }) => ids.includes(id));
    const isAsDecided = erasures.every(({ version }, index) => version === locked[index]?.version);
    if (locked[0]?.merged_into || !isOnePerson || !isAsDecided) return false;
    for (const erasure of erasures) await beginErasure(tx, erasure);
    return true;
  });
}

/**
 * Erases a record, but for what must be kept, and tells others by events. If somebody else has begun, it does nothing,
 * unless it is to be done again. If there is no such record, since a backup is older than it is, the erasure is noted.
 */
export async function beginErasure(tx: Queries, erasure: NewErasure, { again = false } = {}): Promise<void> {
  const { id, patient_id, reason, requested_by, request_id, requested_at, wordsOf, keeps_record, eventsAt } = erasure;
  const [patient] = await tx.query<Locked>(lockStatement, [patient_id]);
  const words = wordsOf(await recordsOf(tx, patient_id));
  const events = eventsAt(Number(patient?.version ?? 0n) + 1);
  const [{ eventId }] = events;
  const values = [id, patient_id, reason, requested_by, request_id, requested_at, words, keeps_record, eventId];
  const [begun] = await tx.query(insertStatement, values);
  if (!begun && !again) return;
  if (!begun) await tx.query(againStatement, [patient_id, eventId]);
  await tx.query(eraseStatement, [patient_id]);
  await insertOutboxEvents(tx, events);
}

/** Erases the record of a patient who was restricted until now. */
export async function eraseRecord(db: PatientDatabase, { id, patient_id }: ErasureRow): Promise<void> {
  await inTransaction(db, async (tx) => {
    await tx.query({ name: "erasure_release", text: "update erasures set keeps_record = false where id = $1" }, [id]);
    await tx.query(eraseStatement, [patient_id]);
  });
}

// The release before ends an erasure without asking analytics. It is asked about those too.
const leaseStatement = {
  name: "erasure_lease",
  text: `update erasures set next_attempt_at = now() + interval '1 minute', attempts = attempts + 1
    where id in (select id from erasures where next_attempt_at <= now() or (next_attempt_at is null and analytics_erased_at is null)
      order by next_attempt_at limit $1 for update skip locked) returning *`,
};

/** Takes erasures that are due. If this process dies, they are due again after a minute. */
export function leaseErasures(db: Queries, limit: number): Promise<ErasureRow[]> {
  return db.query<ErasureRow>(leaseStatement, [limit]);
}

/** An erasure that was asked for again meanwhile has another event, and waits for the answers about that one. */
const isOfEvent = "event_id is not distinct from $4";

/** Notes what billing has erased. */
export async function noteBillingErased(db: Queries, asked: ErasureRow, at: Date, removed: Record<string, number>): Promise<void> {
  const text = `update erasures set billing_erased_at = $2, billing_removed = $3 where id = $1 and ${isOfEvent}`;
  await db.query({ name: "erasure_billing", text }, [asked.id, at, JSON.stringify(removed), asked.event_id]);
}

/** Notes what analytics has erased. */
export async function noteAnalyticsErased(db: Queries, asked: ErasureRow, at: Date, removed: Record<string, number>): Promise<void> {
  const text = `update erasures set analytics_erased_at = $2, analytics_removed = $3 where id = $1 and ${isOfEvent}`;
  await db.query({ name: "erasure_analytics", text }, [asked.id, at, JSON.stringify(removed), asked.event_id]);
}

// Holds end by themselves after years, or when somebody pays.
const settleStatement = {
  name: "erasure_settle",
  text: `
    update erasures set waits_for = $2,
      waiting_since = case when $2::jsonb <> '[]' then coalesce(waiting_since, now()) end,
      attempts = case when $2::jsonb <> '[]' then attempts else 0 end,
      next_attempt_at = case when $2::jsonb <> '[]' then now() + make_interval(secs => least(300, 2 ^ least(attempts, 12)))
        when record_erased_at is null or billing_erased_at is null then now() + interval '1 hour' end
    where id = $1`,
};

/**
 * Ends an erasure that is complete. One that something holds is looked at again after an hour, and one that waits for
 * services after seconds: later every time, up to five minutes.
 */
export async function settleErasure(db: Queries, id: string, waits: Wait[]): Promise<void> {
  await db.query(settleStatement, [id, JSON.stringify(waits)]);
}

/** Erasures of a person's records that are not complete are due now. */
export async function hurryErasures(db: Queries, patientId: string): Promise<void> {
  // From the few erasures to their patients, because no index says which records are of one person.
  const text = `update erasures e set next_attempt_at = now() from patients o, patients p
    where e.next_attempt_at is not null and o.id = e.patient_id and p.id = $1 and ${ofOnePerson}`;
  await db.query({ name: "erasures_hurry", text }, [patientId]);
}

const waitingStatement = {
  name: "erasures_waiting",
  text: `select coalesce(extract(epoch from now() - min(coalesce(waiting_since, next_attempt_at))), 0)::float8 as seconds
    from erasures where next_attempt_at is not null and (waiting_since is not null or next_attempt_at < now())`,
};

/** How long the oldest erasure has waited for services, or for the worker. */
export async function longestWait(db: Queries): Promise<number> {
  const [row] = await db.query<{ seconds: number }>(waitingStatement, []);
  return row?.seconds ?? 0;
}

/** Whoever erases the record has finished then, or waits until the hold is placed. */
const lockHeldStatement = { name: "hold_lock", text: "select from patients where id = $1 for update" };
const placeStatement = {
  name: "hold_place",
  text: `
    with placed as (
      insert into legal_holds (patient_id, reason, placed_by, placed_at)
      select id, $2, $3, now() from patients p
      where id = $1 and not exists (select from erasures where patient_id = p.id and record_erased_at is not null)
      on conflict (patient_id) do update set reason = excluded.reason, placed_by = excluded.placed_by, placed_at = excluded.placed_at
      returning *
    ), audited as (
      ${insertIntoAudit} select $3, 'patient.hold_placed', patient_id, $4, '{}' from placed
    )
    select * from placed`,
};

/** Places a legal hold, or replaces the one that is there. Undefined if there is no such patient, or it is erased. */
export function placeHold(db: PatientDatabase, id: string, reason: string, { actorId, requestId }: Who): Promise<HoldRow | undefined> {
  return inTransaction(db, async (tx) => {
    await tx.query(lockHeldStatement, [id]);
    const [row] = await tx.query<HoldRow>(placeStatement, [id, reason, actorId, requestId]);
    return row;
  });
}

const readHoldStatement = {
  name: "hold_read",
  text: `
    with found as (
      select * from legal_holds where patient_id = $1
    ), audited as (
      ${insertIntoAudit} select $2, 'patient.hold_read', patient_id, $3, '{}' from found
    )
    select * from found`,
};

export async function readHold(db: Queries, id: string, { actorId, requestId }: Who): Promise<HoldRow | undefined> {
  const [row] = await db.query<HoldRow>(readHoldStatement, [id, actorId, requestId]);
  return row;
}

const endStatement = {
  name: "hold_end",
  text: `
    with ended as (
      delete from legal_holds where patient_id = $1 returning patient_id
    ), audited as (
      ${insertIntoAudit} select $2, 'patient.hold_ended', patient_id, $3, '{}' from ended
    )
    select * from ended`,
};

/** Ends a legal hold. False if there was none. */
export async function endHold(db: Queries, id: string, { actorId, requestId }: Who): Promise<boolean> {
  return (await db.query(endStatement, [id, actorId, requestId])).length === 1;
}

const allStatement = {
  name: "erasures_all",
  text: "select * from erasures where $1::uuid is null or patient_id > $1 order by patient_id limit 1000",
};

/** All erasures, in the order of their patients. */
export async function* allErasures(db: Queries): AsyncGenerator<ErasureRow> {
  for (let after: string | null = null; ; ) {
    const rows: ErasureRow[] = await db.query<ErasureRow>(allStatement, [after]);
    yield* rows;
    const last = rows.at(-1);
    if (!last) return;
    after = last.patient_id;
  }
}
