/** The snapshot of revocations that still matter: what services fetch when they start and every few seconds. */
import type { RevocationSnapshot } from "@pm/kit/auth/revocation-list";
import type { AuthDatabase } from "../tables.ts";

/** What a revocation outlives the last token by, because clocks differ. */
export const revocationSkewSeconds = 60;

const sessionsStatement = {
  name: "ended_sessions",
  text: `select id, (extract(epoch from revoked_at) * 1000 + $1::float8 * 1000)::float8 as until from sessions
    where revoked_at > now() - make_interval(secs => $1)`,
};
const usersStatement = {
  name: "disabled_users",
  text: `select id, floor(extract(epoch from disabled_at))::float8 as before, (extract(epoch from disabled_at) * 1000 + $1::float8 * 1000)::float8 as until
    from users where disabled_at > now() - make_interval(secs => $1)`,
};

/** Reads the snapshot; all who ask within a second share one answer, so that many replicas cost no more than one. */
export function createRevocationSnapshot(options: {
  database: AuthDatabase;
  tokenSeconds: number;
  now: () => number;
}): () => Promise<RevocationSnapshot> {
  const { database, tokenSeconds, now } = options;
  let current: { at: number; answer: Promise<RevocationSnapshot> } | undefined;

  async function read(): Promise<RevocationSnapshot> {
    const lifecycle = [tokenSeconds + revocationSkewSeconds];
    const sessions = await database.query<{ id: string; until: number }>(sessionsStatement, lifecycle);
    const users = await database.query<{ id: string; before: number; until: number }>(usersStatement, lifecycle);
    return { sessions, users: users.map(({ id, before, until }) => ({ id, issuedBefore: before, until })) };
  }

  return () => {
    if (current && now() - current.at < 1_000) return current.answer;
    const answer = read();
    current = { at: now(), answer };
    answer.catch(() => {
      current = undefined;
    });
    return answer;
  };
}
