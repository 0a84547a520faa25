/** Erases again whom a restored backup has brought back. */
import { randomUUID } from "node:crypto";
import { inTransaction } from "@pm/kit/postgres/transaction";
import { traceparentFrom } from "@pm/kit/telemetry/trace-context";
import type { PatientDatabase } from "../database.ts";
import { wordsOf } from "./erasures.ts";
import { eventsOf, type KeptErasure } from "./events.ts";
import { holdsOfRecord } from "./holds.ts";
import { beginErasure, findErasable } from "./store.ts";

/**
 * Does an erasure again, as if it had just been asked for: in this service at once, in billing by the worker of the
 * running service, in analytics by its events. It may be repeated.
 */
export async function applyErasure(db: PatientDatabase, erasure: KeptErasure, retentionYears: number): Promise<void> {
  const patient = await findErasable(db, erasure.patient_id, retentionYears);
  const keeps_record = patient !== undefined && holdsOfRecord(patient, new Date()).length > 0;
  const eventsAt = (version: number) => eventsOf(erasure, version, traceparentFrom(undefined));
  const request_id = `restore-${randomUUID()}`;
  const again = { ...erasure, request_id, wordsOf, keeps_record, eventsAt };
  await inTransaction(db, (tx) => beginErasure(tx, again, { again: true }));
}
