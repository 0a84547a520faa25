/** Erases patients, as far as the law lets a clinic, and certifies it (docs/privacy.md). */
import { randomUUIDv7 } from "node:crypto";
import type { AuditTrail } from "@pm/kit/audit/trail";
import { requireSecondFactor } from "@pm/kit/auth/verifier";
import { AppError, invalidFields } from "@pm/kit/errors";
import { isUuid } from "@pm/kit/uuid";
import type { Call } from "../caller.ts";
import type { PatientDatabase } from "../database.ts";
import { notFound } from "../patients/access.ts";
import { searchWords } from "../patients/search.ts";
import type { PatientRecord } from "../tables.ts";
import type { ErasureInBilling } from "./billing-client.ts";
import { eventsOf } from "./events.ts";
import { type Hold, held, holdsOfBilling, holdsOfRecord } from "./holds.ts";
import {
  beginErasures,
  type Erasable,
  type ErasureRow,
  endHold,
  findErasable,
  findErasure,
  type HoldRow,
  hurryErasures,
  placeHold,
  readHold,
  recordsOf,
} from "./store.ts";
import type { Wait } from "./tables.ts";

/** What was removed from the live stores of a service, how many of what, and when. */
type Removal = { service: "patient" | "billing" | "analytics"; at: Date; counts: Record<string, number> };

export type Certificate = {
  id: string;
  patientId: string;
  /** `restricted`: something is held. `erasing`: a service has not answered yet. */
  state: "restricted" | "erasing" | "erased";
  reason: string;
  requestedBy: string;
  requestedAt: Date;
  completedAt?: Date;
  holds: Hold[];
  /** The services that were asked in vain, and how often somebody has tried. */
  waiting?: { since: Date; attempts: number; for: Wait[] };
  removed: Removal[];
};

export type ErasureOptions = {
  db: PatientDatabase;
  audit: AuditTrail;
  billing: ErasureInBilling;
  retentionYears: number;
  now: () => Date;
  /** Called after each commit that wrote events. */
  committed: () => void;
  /** Says that an erasure is due. */
  wake: () => void;
};

export type Erasures = ReturnType<typeof createErasures>;

/** Finds all records of a person, with what holds them, and begins to erase them. */
function createBeginning({ db, billing, retentionYears, now }: ErasureOptions) {
  async function find(id: string) {
    const patient = isUuid(id) ? await findErasable(db, id, retentionYears) : undefined;
    if (!patient) throw notFound(id);
    return patient;
  }

  async function holdsOf(id: string, patient: { isOnHold: boolean; keepUntil: Date }): Promise<Hold[]> {
    return [...holdsOfRecord(patient, now()), ...holdsOfBilling(await billing.holds(id))];
  }

  /** The records of one person: the one that lives, and those that were merged into it. */
  async function recordsOfPerson(id: string, patient: Erasable): Promise<[string, Erasable][]> {
    if (patient.mergedInto) {
      const message = `This record was merged into ${patient.mergedInto}, which is of the same person. Erase that one.`;
      throw new AppError("failed_precondition", message, { reason: "MERGED", metadata: { survivorId: patient.mergedInto } });
    }
    return [
      [id, patient],
      ...(await Promise.all(patient.merged.map(async (other): Promise<[string, Erasable]> => [other, await find(other)]))),
    ];
  }

  async function holdsOfPerson(records: [string, Erasable][]): Promise<Hold[]> {
    const holds = await Promise.all(records.map(([id, record]) => holdsOf(id, record)));
    const last = new Map<Hold["kind"], Hold>();
    for (const hold of holds.flat()) if ((hold.until ?? "") >= (last.get(hold.kind)?.until ?? "")) last.set(hold.kind, hold);
    return [...last.values()];
  }

  /** Begins the erasure of all records of a person. False if one was changed or merged meanwhile. */
  async function begin(call: Call, id: string, patient: Erasable, { reason, restrict }: { reason: string; restrict: boolean }) {
    const records = await recordsOfPerson(id, patient);
    for (const [each, { isOpening }] of records) {
      requireNobodyNamed(reason, await recordsOf(db, each));
      if (isOpening)
        throw new AppError("unavailable", "The billing account of this patient is being opened. Try again shortly.", {
          retryAfterSeconds: 5,
        });
    }
    const holds = await holdsOfPerson(records);
    if (holds.length > 0 && !restrict) throw held(holds);
    const { actorId: requested_by, requestId: request_id, traceparent } = call;
    const erasures = records.map(([patient_id, record]) => {
      const { version } = record;
      const asked = { id: randomUUIDv7(), patient_id, reason, requested_by, request_id, requested_at: now() };
      const keeps_record = holdsOfRecord(record, now()).length > 0;
      return { ...asked, version, wordsOf, keeps_record, eventsAt: (next: number) => eventsOf(asked, next, traceparent) };
    });
    return beginErasures(db, erasures);
  }

  return { find, recordsOfPerson, holdsOfPerson, begin };
}

export function createErasures(options: ErasureOptions) {
  const { db, audit, billing, retentionYears, now, committed, wake } = options;
  const { find, recordsOfPerson, holdsOfPerson, begin } = createBeginning(options);

  /** The certificate of an erasure. While billing does not answer, it names the holds of this service only. */
  async function certify(row: ErasureRow): Promise<Certificate> {
    if (row.next_attempt_at === null) return toCertificate(row, []);
    const patient = await findErasable(db, row.patient_id, retentionYears);
    const ofBilling = row.billing_erased_at ? undefined : await billing.holds(row.patient_id).catch(() => undefined);
    return toCertificate(row, [...(patient ? holdsOfRecord(patient, now()) : []), ...holdsOfBilling(ofBilling)]);
  }

  const read = (call: Call, action: string, subject: string) =>
    audit.record({ actorId: call.actorId, action, subject, requestId: call.requestId });

  return {
    /** What stops an erasure. Changes nothing. */
    async preview(call: Call, id: string): Promise<{ patientId: string; holds: Hold[] }> {
      requireSecondFactor(call.caller);
      const patient = await find(id);
      const holds = await holdsOfPerson(await recordsOfPerson(id, patient));
      await read(call, "patient.erasure_previewed", id.toLowerCase());
      return { patientId: id.toLowerCase(), holds };
    },

    /**
     * Erases a patient, with the records that were merged into theirs. With `restrict`, what is held stays until the
     * holds end, for administrators only. One who is erased already gets their certificate again.
     * @throws AppError failed_precondition that names every hold, unless `restrict` is set
     */
    async erase(call: Call, id: string, { reason, restrict }: { reason: string; restrict: boolean }): Promise<Certificate> {
      requireSecondFactor(call.caller);
      const patient = await find(id);
      const patientId = id.toLowerCase();
      if (await findErasure(db, patientId)) await hurryErasures(db, patientId);
      else if (await begin(call, patientId, patient, { reason, restrict })) committed();
      else
        throw new AppError("unavailable", "Others are changing or merging records of this patient. Try again.", { retryAfterSeconds: 1 });
      wake();
      return this.certificate(call, id);
    },

    /** @throws AppError not_found if nobody has asked for the erasure of this patient */
    async certificate(call: Call, id: string): Promise<Certificate> {
      const row = isUuid(id) ? await findErasure(db, id) : undefined;
      if (!row) throw notFound(id);
      await read(call, "patient.erasure_read", row.patient_id);
      return certify(row);
    },

    async placeHold(call: Call, id: string, reason: string): Promise<HoldRow> {
      await find(id);
      const placed = await placeHold(db, id, reason, call);
      if (!placed) throw new AppError("failed_precondition", "This patient is erased already, so there is nothing to hold.");
      return placed;
    },

    async readHold(call: Call, id: string): Promise<HoldRow> {
      await find(id);
      const hold = await readHold(db, id, call);
      if (!hold) throw new AppError("not_found", "There is no legal hold on this patient.");
      return hold;
    },

    async endHold(call: Call, id: string): Promise<void> {
      await find(id);
      if (!(await endHold(db, id, call))) throw new AppError("not_found", "There is no legal hold on this patient.");
      await hurryErasures(db, id);
      wake();
    },
  };
}

export const wordsOf = (records: PatientRecord[]) => [...new Set(records.flatMap((record) => searchWords(record).names))];

/**
 * The reason is part of the certificate, which stays. @throws AppError invalid_argument if it says who the patient is
 */
function requireNobodyNamed(reason: string, records: PatientRecord[]): void {
  const ofPatient = new Set(records.flatMap((record) => searchWords(record).all));
  const ofReason = searchWords({ name: reason, dateOfBirth: "", registeredDate: "" }).names;
  if (!ofReason.some((word) => word.length > 2 && ofPatient.has(word))) return;
  const message = "has a word of the patient's name, address or identifiers; leave it out, because the reason stays";
  throw invalidFields([{ path: "reason", message }]);
}

function toCertificate(row: ErasureRow, holds: Hold[]): Certificate {
  const { restricted_at, record_erased_at, billing_erased_at, analytics_erased_at } = row;
  const { versions, ...others } = row.removed;
  const isErased = record_erased_at !== null && billing_erased_at !== null && analytics_erased_at !== null;
  const last = Math.max(Number(record_erased_at), Number(billing_erased_at), Number(analytics_erased_at));
  const removed: (Omit<Removal, "at"> & { at: Date | null })[] = [
    { service: "patient", at: restricted_at, counts: others },
    { service: "patient", at: record_erased_at, counts: { versions: versions ?? 0 } },
    { service: "billing", at: billing_erased_at, counts: row.billing_removed },
    { service: "analytics", at: analytics_erased_at, counts: row.analytics_removed },
  ];
  return {
    id: row.id,
    patientId: row.patient_id,
    state: isErased ? "erased" : holds.length > 0 ? "restricted" : "erasing",
    reason: row.reason,
    requestedBy: row.requested_by,
    requestedAt: row.requested_at,
    ...(isErased && { completedAt: new Date(last) }),
    holds,
    ...(row.waiting_since && !isErased && { waiting: { since: row.waiting_since, attempts: row.attempts, for: row.waits_for } }),
    removed: removed.flatMap(({ at, ...removal }) => (at ? [{ ...removal, at }] : [])),
  };
}
