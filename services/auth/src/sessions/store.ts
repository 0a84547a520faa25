/** Sessions and refresh tokens in Postgres. What happens at every login or refresh is one prepared statement. */
import type { Role } from "@pm/kit/auth/access";
import { sql } from "kysely";
import type { AuthDatabase, AuthTransaction, OutboxRow } from "../tables.ts";
import { type Attempt, forgiveClauses, forgiveValues } from "./throttle.ts";

export type Account = {
  id: string;
  email: string;
  name: string;
  roles: Role[];
  password_hash: string | null;
  disabled: boolean;
  /** A second factor is in use. */
  enrolled: boolean;
  teams: string[];
  /** Another one after every change of the account or its teams. */
  version: string;
};

const accountColumns = `u.id, u.email::text, u.name, u.roles, u.password_hash, u.disabled_at is not null as disabled,
  exists (select from second_factors f where f.user_id = u.id and f.confirmed_at is not null) as enrolled, u.updated_at::text as version,
  array(select team_id::text from team_members m where m.user_id = u.id order by team_id) as teams`;

/** The account of an e-mail address; `email` is SQL. */
export const selectAccount = (email: string) => `select ${accountColumns} from users u where email = (${email})::citext`;

export async function findAccountByEmail(database: AuthDatabase, email: string): Promise<Account | undefined> {
  return (await database.query<Account>({ name: "account_by_email", text: selectAccount("$1") }, [email]))[0];
}

export async function findAccount(database: AuthDatabase, id: string): Promise<Account | undefined> {
  const statement = { name: "account_by_id", text: `select ${accountColumns} from users u where id = $1` };
  return (await database.query<Account>(statement, [id]))[0];
}

const outboxColumns = "event_id, topic, key, type, payload, traceparent";
const outboxValues = (event: OutboxRow) => [event.event_id, event.topic, event.key, event.type, event.payload, event.traceparent];

// Each account is locked against changes until its session is there: whoever disables it or changes its password or roles at
// the same moment either comes first, and there is no session, or comes second and finds the session to revoke. Accounts are
// taken in the order of the input, one by one: a join might be planned as a scan of all of them.
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
      insert into outbox (${outboxColumns})
      select event_id, topic, key, type, decode(payload, 'base64'), traceparent from input where id in (select id from session)
    ), audit as (
      insert into audit_entries (actor, action, subject, request_id, details)
      select user_id::text, 'authn_login_success', user_id::text, request_id, jsonb_build_object('sessionId', id, 'address', address)
      from input where id in (select id from session)
    ), ${forgiveClauses("$2", "$3", "$4")}
    select id from session`,
};

export type NewSession = {
  id: string;
  userId: string;
  /** The hash that the password was checked against: a password that changed in the meantime does not sign in. */
  passwordHash: string;
  /** The version of the account from which the token was made. */
  version: string;
  address: string;
  userAgent: string;
  secondFactor: boolean;
  maxSeconds: number;
  refreshTokenHash: Buffer;
  event: OutboxRow;
  requestId: string;
  /** The one that succeeded, which is forgiven whether the session is stored or not. */
  attempt: Pick<Attempt, "keys"> | undefined;
};

/** Stores sessions, each with its first refresh token, event and audit entry; false where the account was changed meanwhile. */
export async function storeSessions(database: AuthDatabase, sessions: NewSession[]): Promise<boolean[]> {
  const input = sessions.map((session) => ({
    ...session.event,
    payload: Buffer.from(session.event.payload).toString("base64"),
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
  // Two of these at once wait for each other at the first account that both have, and not in a circle.
  input.sort((a, b) => (a.user_id < b.user_id ? -1 : 1));
  const attempts = sessions.flatMap(({ attempt }) => attempt ?? []);
  const rows = await database.query<{ id: string }>(storeSessionsStatement, [JSON.stringify(input), ...forgiveValues(attempts, true)]);
  const stored = new Set(rows.map(({ id }) => id));
  return sessions.map(({ id }) => stored.has(id));
}

const failureStatement = {
  name: "sign_in_failed",
  text: `
    with event as (insert into outbox (${outboxColumns}) values ($1, $2, $3, $4, $5, $6))
    insert into audit_entries (actor, action, subject, request_id, details) values ('anonymous', $7, $8, $9, $10)`,
};

/** Notes an attempt to sign in that failed: one statement with the same work whoever it was about. */
export async function recordFailure(
  database: AuthDatabase,
  failure: { event: OutboxRow; action: string; subject: string; requestId: string; details: Record<string, unknown> },
): Promise<void> {
  const { event, action, subject, requestId, details } = failure;
  await database.query(failureStatement, [...outboxValues(event), action, subject, requestId, JSON.stringify(details)]);
}

/** A refresh token that was presented, with its session and account. */
export type PresentedToken = Pick<Account, "id" | "roles" | "disabled" | "teams"> & {
  session_id: string;
  second_factor: boolean;
  /** Neither revoked nor expired nor idle for too long. */
  alive: boolean;
  used: boolean;
  /** Used so recently that the same answer is given again. */
  in_grace: boolean;
  sealed_answer: Buffer | null;
};

/** @param limits a session that was not used for `idleSeconds` is over; a token used less than `graceSeconds` ago gets its answer again */
export async function findRefreshToken(
  database: AuthDatabase,
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
  return (await database.query<PresentedToken>(statement, [hash, limits.idleSeconds, limits.graceSeconds]))[0];
}

// Callers with tokens of one session take turns at its row; of any number with one token, one finds it unused.
const rotateStatement = {
  name: "rotate_refresh_token",
  text: `
    with session as (
      update sessions set last_used_at = now() where id = $4 and revoked_at is null and expires_at > now() returning id, user_id
    ), used as (
      update refresh_tokens set used_at = now(), sealed_answer = $2 from session
      where hash = $1 and used_at is null and session_id = session.id returning session_id
    ), next as (
      insert into refresh_tokens (hash, session_id) select $3, session_id from used
    ), audit as (
      insert into audit_entries (actor, action, subject, request_id, details)
      select user_id::text, 'session_renewed', user_id::text, $5, jsonb_build_object('sessionId', id) from session join used on used.session_id = session.id
    )
    select session_id from used`,
};

/** Exchanges a token for the next one; false where another caller was faster or the session has ended. */
export async function rotateRefreshToken(
  database: AuthDatabase,
  rotation: { hash: Buffer; sealedAnswer: Buffer; nextHash: Buffer; sessionId: string; requestId: string },
): Promise<boolean> {
  const { hash, sealedAnswer, nextHash, sessionId, requestId } = rotation;
  return (await database.query(rotateStatement, [hash, sealedAnswer, nextHash, sessionId, requestId])).length === 1;
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

/** The sessions of a user that are alive, the one used last first. */
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

/** Ends sessions of a user and returns their ids: one, all, or all but one. */
export async function endSessions(
  transaction: AuthTransaction,
  which: { userId: string; only?: string; except?: string | undefined },
  because: string,
): Promise<string[]> {
  let query = transaction
    .updateTable("sessions")
    .set({ revoked_at: sql<Date>`now()`, revoked_because: because })
    .where("user_id", "=", which.userId)
    .where("revoked_at", "is", null);
  if (which.only !== undefined) query = query.where("id", "=", which.only);
  if (which.except !== undefined) query = query.where("id", "!=", which.except);
  return (await query.returning("id").execute()).map((row) => row.id);
}
