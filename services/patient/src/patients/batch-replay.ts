/** The answers to batches whose idempotency key was used before. */
import { AppError } from "@pm/kit/errors";
import { type Call, viewerOf } from "../caller.ts";
import type { PatientDatabase } from "../database.ts";
import type { BatchedWrite, Patient } from "../tables.ts";
import { type BatchKey, readAccounts, type UsedKey } from "./batch-store.ts";
import { readVersion } from "./history-store.ts";
import { findPatient } from "./store.ts";

/** What an operation did. A deletion has no patient. */
export type Result = BatchedWrite & { patient?: Patient };

/**
 * What the batch wrote that used a key.
 * @throws AppError if it was another request
 */
export function resultsOf(used: UsedKey, { hash }: BatchKey): BatchedWrite[] {
  if (used.hash === hash && used.results) return used.results;
  throw new AppError("idempotency_key_reused", "Idempotency-Key: was used for another body. Use a new key for a new request.");
}

/** What a batch wrote: the versions of patients whom the caller may still see; of others, only that it wrote them. */
export async function replay(db: PatientDatabase, call: Call, results: BatchedWrite[]): Promise<Result[]> {
  const accounts = await readAccounts(db, [...new Set(results.map(({ id }) => id))]);
  const who = { actor: call.actorId, requestId: call.requestId };
  const read = async (result: BatchedWrite): Promise<Result> => {
    const current = result.status === 204 ? undefined : await findPatient(db, result.id, viewerOf(call.caller));
    const version = current && !current.deletedAt ? await readVersion(db, { ...who, ...result }) : undefined;
    if (!version || Object.keys(version.record).length === 0) return result;
    const { id, record, createdAt, at } = version;
    return { ...result, patient: { id, version: result.version, record, createdAt, updatedAt: at, accountId: accounts.get(id) } };
  };
  return Promise.all(results.map(read));
}
