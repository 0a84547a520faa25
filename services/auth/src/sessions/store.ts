/** Sessions and refresh tokens in Postgres. Every login and every refresh is one prepared statement. */

import { insertIntoAudit } from "@pm/kit/audit/audit";
import type { RevocationSnapshot } from "@pm/kit/auth/revocation-list";
import { insertIntoOutbox, type OutboxEvent } from "@pm/kit/kafka/outbox";
import { sql } from "kysely";
import type { AuthDatabase, AuthTransaction } from "../tables.ts";
import type { Account } from "../users/account-lookup-store.ts";
import { type Counted, forgiveClauses, forgiveValues } from "./throttle-store.ts";

// Each account is locked against changes until its session is stored. A change of the account at the same moment
// (disabled, new password, new roles) either comes first, and no session is stored, or comes second and finds the
// session to revoke. Accounts are locked one by one, in the order of the input: a join might be a scan of all.
const storeSessionsStatement = {
  name: "store_sessions",
  text: `
    with input as materialized (
      select * from json_to_recordset($1) as i(id uuid, user_id uuid, password_hash text, version text, address text, user_agent text,
        second_factor boolean, max_seconds float8, token_hash text, event_id uuid, topic text, key text, type text, payload text,
        traceparent text, request_id text)
    ), session as (
      insert into sessions (id, user_id, address, user_agent, second_factor, expires_at)
      select i.id, i.user_id, i.address, i.user_agent, i.second_factor, now() + make_interval(secs => i.max_seconds)
      from input i cross join lateral (
        select from users u
        where u.id = i.user_id and u.password_hash = i.password_hash and u.disabled_at is null and u.updated_at::text = i.version for share
      ) unchanged
      returning id
    ), token as (
      insert into refresh_tokens (hash, session_id) select decode(token_hash, 'hex'), id from input where id in (select id from session)
    ), event as (
      ${insertIntoOutbox}
      select event_id, topic, key, type, decode(payload, 'base64'), traceparent from input where id in (select id from session)
    ), audit as (
      ${insertIntoAudit}
      select user_id::text, 'authn_login_success', user_id::text, request_id, jsonb_build_object('sessionId', id, 'address', address)
      from input where id in (select id from session)
    ), ${forgiveClauses("$2", "$3", "$4")}
    select id from session`,
};

export type NewSession = {
  id: string;
  userId: string;
  /** The hash that the password was checked against. If the password has changed since then, no session is stored. */
  passwordHash: string;
  /** The version of the account that the access token was made from. If it has changed since, no session is stored. */
  version: string;
  address: string;
  userAgent: string;
  secondFactor: boolean;
  maxSeconds: number;
  refreshTokenHash: Buffer;
  event: OutboxEvent;
  requestId: string;
  /** The attempt that succeeded. Its count is taken back, whether the session is stored or not. */
  attempt: Counted | undefined;
};

/** Stores sessions, each with its first refresh token, event and audit entry. False for an account that has changed. */
export async function storeSessions(db: AuthDatabase, sessions: NewSession[]): Promise<boolean[]> {
  const input = sessions.map((session) => ({
    event_id: session.event.eventId,
    topic: session.event.topic,
    key: session.event.key,
    type: session.event.type,
    payload: Buffer.from(session.event.payload).toString("base64"),
    traceparent: session.event.traceparent,
    id: session.id,
    user_id: session.userId,
    password_hash: session.passwordHash,
    version: session.version,
    address: session.address,
    user_agent: session.userAgent,
    second_factor: session.secondFactor,
    max_seconds: session.maxSeconds,
    token_hash: session.refreshTokenHash.toString("hex"),
    request_id: session.requestId,
  }));
  // Two parallel statements wait for each other at the first account that both have, and never in a circle.
  input.sort((a, b) => (a.user_id < b.user_id ? -1 : 1));
  const attempts = sessions.flatMap(({ attempt }) => attempt ?? []);
  const rows = await db.query<{ id: string }>(storeSessionsStatement, [JSON.stringify(input), ...forgiveValues(attempts, true)]);
  const stored = new Set(rows.map(({ id }) => id));
  return sessions.map(({ id }) => stored.has(id));
}

const failureStatement = {
  name: "sign_in_failed",
  text: `
    with event as (${insertIntoOutbox} values ($1, $2, $3, $4, $5, $6))
    ${insertIntoAudit} values ('anonymous', $7, $8, $9, $10)`,
};

/** Records a failed sign-in. It is one statement, which takes the same time whether the account exists or not. */
export async function recordFailure(
  db: AuthDatabase,
  failure: { event: OutboxEvent; action: string; subject: string; requestId: string; details: Record<string, unknown> },
): Promise<void> {
  const { event, action, subject, requestId, details } = failure;
  const { eventId, topic, key, type, payload, traceparent } = event;
  const eventValues = [eventId, topic, key, type, payload, traceparent];
  await db.query(failureStatement, [...eventValues, action, subject, requestId, JSON.stringify(details)]);
}

/** A refresh token that a client sent, with its session and account. */
export type PresentedToken = Pick<Account, "id" | "roles" | "disabled" | "teams"> & {
  session_id: string;
  second_factor: boolean;
  /** Neither revoked nor expired nor idle for too long. */
  alive: boolean;
  used: boolean;
  /** Used so recently that its response is replayed. */
  in_grace: boolean;
  sealed_answer: Buffer | null;
};

/** @param limits a session ends after `idleSeconds` without use; a token's response is replayed for `graceSeconds` */
export async function findRefreshToken(
  db: AuthDatabase,
  hash: Buffer,
  limits: { idleSeconds: number; graceSeconds: number },
): Promise<PresentedToken | undefined> {
  const statement = {
    name: "find_refresh_token",
    text: `select u.id, u.roles, u.disabled_at is not null as disabled, s.id as session_id, s.second_factor,
        t.used_at is not null as used, coalesce(t.used_at > now() - make_interval(secs => $3), false) as in_grace, t.sealed_answer,
        array(select team_id::text from team_members m where m.user_id = u.id order by team_id) as teams,
        s.revoked_at is null and s.expires_at > now() and s.last_used_at > now() - make_interval(secs => $2) as alive
      from refresh_tokens t join sessions s on s.id = t.session_id join users u on u.id = s.user_id where t.hash = $1`,
  };
  return (await db.query<PresentedToken>(statement, [hash, limits.idleSeconds, limits.graceSeconds]))[0];
}

/** The session of a refresh token, used or not, if it has not ended. */
export async function findSessionOf({ kysely }: AuthDatabase, hash: Buffer): Promise<{ id: string; userId: string } | undefined> {
  return kysely
    .selectFrom("refresh_tokens as t")
    .innerJoin("sessions as s", "s.id", "t.session_id")
    .select(["s.id", "s.user_id as userId"])
    .where("t.hash", "=", hash)
    .where("s.revoked_at", "is", null)
    .executeTakeFirst();
}

// Parallel callers with tokens of one session take turns at its row. Of those with the same token, one finds it unused.
const rotateStatement = {
  name: "rotate_refresh_token",
  text: `
    with session as (
      update sessions set last_used_at = case when $6 then now() else last_used_at end where id = $4 and revoked_at is null and expires_at > now() returning id, user_id
    ), used as (
      update refresh_tokens set used_at = now(), sealed_answer = $2 from session
      where hash = $1 and used_at is null and session_id = session.id returning session_id
    ), next as (
      insert into refresh_tokens (hash, session_id) select $3, session_id from used
    ), audit as (
      ${insertIntoAudit}
      select user_id::text, 'session_renewed', user_id::text, $5, jsonb_build_object('sessionId', id) from session join used on used.session_id = session.id
    )
    select session_id from used`,
};

/**
 * Exchanges a token for the next one. With `isUse`, the session was not idle. Returns false if another caller was
 * faster or the session has ended.
 */
export async function rotateRefreshToken(
  db: AuthDatabase,
  rotation: { hash: Buffer; encryptedResponse: Buffer; nextHash: Buffer; sessionId: string; isUse: boolean; requestId: string },
): Promise<boolean> {
  const { hash, encryptedResponse, nextHash, sessionId, isUse, requestId } = rotation;
  return (await db.query(rotateStatement, [hash, encryptedResponse, nextHash, sessionId, requestId, isUse])).length === 1;
}

export type SessionRow = {
  id: string;
  address: string;
  user_agent: string;
  second_factor: boolean;
  created_at: Date;
  last_used_at: Date;
  expires_at: Date;
};

/** The sessions of a user that have not ended, the last used first. */
export async function listSessions({ kysely }: AuthDatabase, userId: string, idleSeconds: number): Promise<SessionRow[]> {
  return kysely
    .selectFrom("sessions")
    .select(["id", "address", "user_agent", "second_factor", "created_at", "last_used_at", "expires_at"])
    .where("user_id", "=", userId)
    .where("revoked_at", "is", null)
    .where("expires_at", ">", sql<Date>`now()`)
    .where("last_used_at", ">", sql<Date>`now() - make_interval(secs => ${idleSeconds})`)
    .orderBy("last_used_at", "desc")
    .limit(500)
    .execute();
}

/** Ends one session of a user, all, or all but one. Returns their ids. */
export async function endSessions(
  tx: AuthTransaction,
  which: { userId: string; only?: string; except?: string | undefined },
  because: string,
): Promise<string[]> {
  let query = tx.kysely
    .updateTable("sessions")
    .set({ revoked_at: sql<Date>`now()`, revoked_because: because })
    .where("user_id", "=", which.userId)
    .where("revoked_at", "is", null);
  if (which.only !== undefined) query = query.where("id", "=", which.only);
  if (which.except !== undefined) query = query.where("id", "!=", which.except);
  return (await query.returning("id").execute()).map((row) => row.id);
}

/** Records whether a session has a second factor, which decides what its next token may do. */
export async function setSecondFactor(tx: AuthTransaction, sessionId: string, used: boolean): Promise<void> {
  await tx.kysely.updateTable("sessions").set({ second_factor: used }).where("id", "=", sessionId).execute();
}

const endedSessionsStatement = {
  name: "ended_sessions",
  text: `select id, (extract(epoch from ended_at) * 1000 + $1::float8 * 1000)::float8 as until
    from (select id, revoked_at as ended_at from sessions union all select id, ended_at from ended_client_sessions) ended
    where ended_at > now() - make_interval(secs => $1)`,
};
const disabledUsersStatement = {
  name: "disabled_users",
  text: `select id, floor(extract(epoch from disabled_at))::float8 as "issuedBefore",
      (extract(epoch from disabled_at) * 1000 + $1::float8 * 1000)::float8 as until
    from users where disabled_at > now() - make_interval(secs => $1)`,
};

/** Sessions that ended, and users who were disabled, in the last `seconds`: tokens of theirs may still be valid. */
export async function listRevocations(db: AuthDatabase, seconds: number): Promise<RevocationSnapshot> {
  const sessions = await db.query<RevocationSnapshot["sessions"][number]>(endedSessionsStatement, [seconds]);
  const users = await db.query<RevocationSnapshot["users"][number]>(disabledUsersStatement, [seconds]);
  return { sessions, users };
}
