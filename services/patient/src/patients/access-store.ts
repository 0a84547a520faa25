/**
 * Who may do what with a patient. The rule stands in this file and nowhere else, in forms that mean the same (a test
 * compares them): a level for statements about single patients, and conditions for lists, of which Postgres executes
 * one or the other faster.
 */
import { type RawBuilder, sql } from "kysely";
import { LRUCache } from "lru-cache";
import type { PatientDatabase, Viewer } from "../database.ts";

/** From the least to the most: each level includes those before it. */
const accessLevels = ["read", "write", "manage"] as const;

/**
 * `read` shows a patient: reads, lists, search, history, exports. Who opened a record in an emergency has it for four
 * hours. `write` also changes and restores it. `manage`, which the owner and callers with `patient:all` have, also
 * deletes and shares it.
 */
export type AccessLevel = (typeof accessLevels)[number];

/** Whether a level includes what is needed. */
export function allows(level: AccessLevel, needed: AccessLevel): boolean {
  return accessLevels.indexOf(level) >= accessLevels.indexOf(needed);
}

/**
 * The level as an SQL expression; null for a patient that the viewer may not see, and for one that is erased.
 * @param patient a row of `patients`
 * @param viewer a row with `actor`, `sees_all` and `principals`
 */
export const accessLevel = (patient: string, viewer: string) => `(case
  when ${patient}.erased_at is not null then null
  when ${viewer}.sees_all or ${patient}.registered_by = ${viewer}.actor then 'manage'
  else coalesce((select case when bool_or(g.can_write) then 'write' else 'read' end from patient_access g
    where g.patient_id = ${patient}.id and g.principal = any(${viewer}.principals) having count(*) > 0),
  (select 'read' from emergency_accesses
    where user_id = ${viewer}.actor and patient_id = ${patient}.id and expires_at > now() limit 1)) end)`;

/** Whether the viewer may see a patient, as an SQL condition. */
export const visible = (patient: string, viewer: string) => `(${accessLevel(patient, viewer)} is not null)`;

/** A condition on `patients p`. */
export type Condition = RawBuilder<unknown>;

/**
 * What a viewer who does not see all patients may see, as a query for their ids and as conditions that mean the same.
 */
export function accessConditions(viewer: Viewer): { granted: Condition; estimate: Condition; few: Condition; many: Condition } {
  const granted = sql`select id from patients where registered_by = ${viewer.id}
    union all select patient_id from patient_access where principal = any(${viewer.principals})
    union all select patient_id from emergency_accesses where user_id = ${viewer.id} and expires_at > now()`;
  return {
    granted,
    /** Postgres estimates this form well and plans it badly. */
    estimate: sql`p.id in (${granted})`,
    /** Loads the visible patients first. */
    few: sql`p.id = any(array(${granted}))`,
    /**
     * Checks each patient that is found. The grants of a patient are on one page of the primary key, those of a
     * principal are not: hence the `|| ''`. Without `offset 0` Postgres might read all grants at once instead.
     */
    many: sql`(p.registered_by = ${viewer.id} or exists (
      select 1 from patient_access where patient_id = p.id and (principal || '') = any(${viewer.principals}) offset 0) or exists (
      select 1 from emergency_accesses where user_id = ${viewer.id} and patient_id = p.id and expires_at > now() offset 0))`,
  };
}

/** What a list shows of all patients: `read` decides, `estimate` is for the planner. */
export type Access = {
  read: Condition;
  /** Undefined for a caller who sees all patients. */
  estimate: Condition | undefined;
  seesFew: boolean;
};

/** A caller who sees at most this many patients has them looked up one by one. */
const fewVisible = 4_000;

/**
 * Answers what a viewer may see. The count is kept for a minute, since it takes longer than many a page; an outdated
 * one is only slower.
 */
export function createAccess(db: PatientDatabase): (viewer: Viewer) => Promise<Access> {
  const counted = new LRUCache<string, boolean>({ max: 10_000, ttl: 60_000 });

  async function seesFew(principals: string[], granted: Condition): Promise<boolean> {
    const key = principals.join(" ");
    const known = counted.get(key);
    if (known !== undefined) return known;
    const { rows } = await sql<{ few: boolean }>`select count(*) <= ${fewVisible} as few
      from (select 1 from (${granted}) granted limit ${fewVisible + 1}) counted`.execute(db.kysely);
    const few = rows[0]?.few ?? true;
    counted.set(key, few);
    return few;
  }

  return async (viewer) => {
    if (viewer.seesAll) return { read: sql`true`, estimate: undefined, seesFew: false };
    const { granted, estimate, few, many } = accessConditions(viewer);
    const isFew = await seesFew(viewer.principals, granted);
    return { read: isFew ? few : many, estimate, seesFew: isFew };
  };
}
