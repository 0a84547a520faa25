/** Sessions that have ended and users who are disabled, in memory, and the calls in progress that end with them. */
import { z } from "zod";
import type { Bearer } from "./verifier.ts";

/** What auth answers at `GET /auth/revocations`. Times are milliseconds since the epoch, `issuedBefore` is seconds. */
export const revocationSnapshotSchema = z.object({
  /** Sessions that have ended; the last token of each expires at `until`. */
  sessions: z.array(z.object({ id: z.string(), until: z.number() })),
  /** Users whose tokens are void if they were issued before `issuedBefore`. */
  users: z.array(z.object({ id: z.string(), issuedBefore: z.number(), until: z.number() })),
});
export type RevocationSnapshot = z.infer<typeof revocationSnapshotSchema>;

export function createRevocationList() {
  const sessions = new Map<string, number>();
  const users = new Map<string, { issuedBefore: number; until: number }>();
  /** By session and by user. */
  const calls = new Map<string, Set<{ bearer: Bearer; end: () => void }>>();

  function isRevoked({ sessionId, userId, issuedAt }: Bearer): boolean {
    if (sessionId !== undefined && sessions.has(sessionId)) return true;
    const user = users.get(userId);
    return user !== undefined && issuedAt < user.issuedBefore;
  }

  return {
    isRevoked,
    /** Adds revocations. One whose tokens have all expired is not kept, but it ends calls, which may outlive them. */
    add({ sessions: ended = [], users: disabled = [] }: Partial<RevocationSnapshot>): void {
      const now = Date.now();
      for (const { id, until } of ended) {
        if (until > now) sessions.set(id, Math.max(until, sessions.get(id) ?? 0));
        for (const { end } of calls.get(id) ?? []) end();
      }
      for (const { id, issuedBefore, until } of disabled) {
        const known = users.get(id);
        if (until > now && (known === undefined || known.issuedBefore <= issuedBefore)) users.set(id, { issuedBefore, until });
        for (const { bearer, end } of calls.get(id) ?? []) if (bearer.issuedAt < issuedBefore) end();
      }
    },
    onRevoked(bearer: Bearer, end: () => void): () => void {
      const { sessionId, userId } = bearer;
      const keys = sessionId === undefined ? [userId] : [sessionId, userId];
      const stop = () => {
        for (const key of keys) {
          calls.get(key)?.delete(call);
          if (calls.get(key)?.size === 0) calls.delete(key);
        }
      };
      const call = {
        bearer,
        end: () => {
          stop();
          end();
        },
      };
      for (const key of keys) calls.set(key, (calls.get(key) ?? new Set()).add(call));
      if (isRevoked(bearer)) call.end();
      return stop;
    },
    /** Forgets revocations whose tokens have all expired. Returns how many are left. */
    prune(): number {
      const now = Date.now();
      for (const [id, until] of sessions) if (until <= now) sessions.delete(id);
      for (const [id, { until }] of users) if (until <= now) users.delete(id);
      return sessions.size + users.size;
    },
  };
}
