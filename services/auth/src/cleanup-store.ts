/** Deletes rows that nobody needs any more. */
import type { Step } from "@pm/kit/postgres/leader";
import type { Client } from "pg";

/** Rows per statement, few enough that nobody waits for their locks. */
const batchSize = 1_000;

// A session stays for a day after its end: the theft of an old token still shows, and revocations stay known.
const statements = [
  `delete from sessions where id in
    (select id from sessions where expires_at < now() - interval '1 day' or revoked_at < now() - interval '1 day' limit ${batchSize})`,
  `delete from sessions where id in
    (select id from sessions where last_used_at < now() - make_interval(secs => $1) - interval '1 day' limit ${batchSize})`,
  // A response is replayed within the grace time, which is two minutes at most, and until its refresh token was used,
  // which makes that token the one that was used later. That its own token was used stays known.
  `update refresh_tokens set sealed_answer = null where hash in
    (select hash from refresh_tokens t where sealed_answer is not null and used_at < now() - interval '5 minutes'
      and exists (select from refresh_tokens later where later.session_id = t.session_id and later.used_at > t.used_at)
      limit ${batchSize})`,
  `delete from ended_client_sessions where id in
    (select id from ended_client_sessions where ended_at < now() - interval '1 day' limit ${batchSize})`,
  `delete from client_assertions where (client_id, jti_hash) in
    (select client_id, jti_hash from client_assertions where expires_at < now() - interval '1 hour' limit ${batchSize})`,
  `delete from links where hash in (select hash from links where expires_at < now() limit ${batchSize})`,
  `delete from throttles where key in
    (select key from throttles where blocked_until < now() and updated_at + make_interval(secs => level * leak_seconds) < now()
      limit ${batchSize})`,
];

/**
 * Deletes one batch of each kind. Returns `more` if one of the batches was full, and `idle` if all were empty.
 * @param idleSeconds a session ends when it is not refreshed for this long
 */
export async function cleanUp(client: Client, idleSeconds: number): Promise<Step> {
  let largest = 0;
  for (const text of statements) {
    const { rowCount } = await client.query(text, text.includes("$1") ? [idleSeconds] : []);
    largest = Math.max(largest, rowCount ?? 0);
  }
  return largest === batchSize ? "more" : largest > 0 ? "done" : "idle";
}
