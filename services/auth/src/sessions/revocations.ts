/** The snapshot of revocations that services fetch when they start and every few seconds. */
import type { RevocationSnapshot } from "@pm/kit/auth/revocation-list";
import type { AuthDatabase } from "../tables.ts";
import { clockSkewSeconds } from "../unit-of-work.ts";
import { listRevocations } from "./store.ts";

/** Reads the snapshot. Requests within a second share one answer, so that many replicas cost no more than one. */
export function createRevocationSnapshot(options: {
  db: AuthDatabase;
  tokenSeconds: number;
  now: () => number;
}): () => Promise<RevocationSnapshot> {
  const { db, tokenSeconds, now } = options;
  let current: { at: number; answer: Promise<RevocationSnapshot> } | undefined;

  return () => {
    if (current && now() - current.at < 1_000) return current.answer;
    const answer = listRevocations(db, tokenSeconds + clockSkewSeconds);
    current = { at: now(), answer };
    answer.catch(() => {
      current = undefined;
    });
    return answer;
  };
}
