/** Statements of batches beside those of single writes. All but the last one run in the batch's transaction. */
import type { Queries } from "@pm/kit/postgres/transaction";
import type { BatchedWrite } from "../tables.ts";

const claimStatement = {
  name: "batches_claim_key",
  text: `insert into idempotency_keys (caller, key, request_hash, patient_id) values ($1, $2, decode($3, 'hex'), $4)
    on conflict do nothing returning 1`,
};
const keyStatement = {
  name: "batches_find_key",
  text: "select encode(request_hash, 'hex') as hash, results from idempotency_keys where caller = $1 and key = $2",
};

export type BatchKey = { actor: string; key: string; hash: string; batchId: string };
export type UsedKey = { hash: string; results: BatchedWrite[] | null };

/** Takes a key for a batch. If it is taken, gives the request that it belongs to; waits for one under way. */
export async function claimKey(tx: Queries, { actor, key, hash, batchId }: BatchKey): Promise<UsedKey | undefined> {
  if ((await tx.query(claimStatement, [actor, key, hash, batchId])).length > 0) return undefined;
  const used = await findKey(tx, { actor, key });
  // It has expired this moment, and was cleaned up.
  return used ?? claimKey(tx, { actor, key, hash, batchId });
}

/** What a key was used for, if it was. */
export async function findKey(db: Queries, { actor, key }: Pick<BatchKey, "actor" | "key">): Promise<UsedKey | undefined> {
  const [used] = await db.query<UsedKey>(keyStatement, [actor, key]);
  return used;
}

const resultsStatement = { name: "batches_results", text: "update idempotency_keys set results = $3 where caller = $1 and key = $2" };

export async function keepResults(tx: Queries, { actor, key }: BatchKey, results: BatchedWrite[]): Promise<void> {
  await tx.query(resultsStatement, [actor, key, JSON.stringify(results)]);
}

const lockStatement = {
  name: "batches_lock",
  text: "select id from patients where id = any($1::uuid[]) order by id for update",
};

/** Locks patients in the order of their ids, so that two batches wait for each other instead of deadlocking. */
export async function lockPatients(tx: Queries, ids: string[]): Promise<void> {
  if (ids.length > 0) await tx.query(lockStatement, [ids]);
}

const wordsStatement = {
  name: "batches_words",
  text: "insert into patient_words select distinct word from unnest($1::text[]) as word order by word on conflict do nothing",
};

/** Writes the words of all names in one order, before each record writes its own. */
export async function insertWords(tx: Queries, words: string[]): Promise<void> {
  if (words.length > 0) await tx.query(wordsStatement, [words]);
}

const accountsStatement = {
  name: "batches_accounts",
  text: "select patient_id, account_id from patient_billing where patient_id = any($1::uuid[]) and account_id is not null",
};

/** The accounts of patients that have one. */
export async function readAccounts(db: Queries, ids: string[]): Promise<Map<string, string>> {
  const rows = await db.query<{ patient_id: string; account_id: string }>(accountsStatement, [ids]);
  return new Map(rows.map(({ patient_id, account_id }) => [patient_id, account_id]));
}
