/** Sessions and refresh tokens in Postgres. What happens at every login or refresh is one prepared statement. */
import type { Role } from "@pm/kit/access";
import type { OutboxTable } from "@pm/kit/outbox";
import { sql } from "kysely";
import type { AuthDatabase, AuthTransaction } from "./schema.ts";
import { type Beside, forgiveClauses } from "./throttle.ts";

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

export async function findAccountByEmail(database: AuthDatabase, email: string): Promise<Account | undefined> {
  const statement = { name: "account_by_email", text: `select ${accountColumns} from users u where email = $1` };
  return (await database.query<Account>(statement, [email]))[0];
}

/** The account of an address, to be read beside a sign-in's attempt; its columns are null where there is none. */
export const accountBeside = (email: string): Beside => ({
  name: "attempt_with_account",
  select: `select ${accountColumns} from users u where email = $6`,
  value: email,
});

export async function findAccount(database: AuthDatabase, id: string): Promise<Account | undefined> {
  const statement = { name: "account_by_id", text: `select ${accountColumns} from users u where id = $1` };
  return (await database.query<Account>(statement, [id]))[0];
}

const outboxColumns = "event_id, topic, key, type, payload, traceparent";
const outboxValues = (event: OutboxTable) => [event.event_id, event.topic, event.key, event.type, event.payload, event.traceparent];

// The account is locked against changes until the session is there: whoever disables it or changes its password or roles at
// the same moment either comes first, and there is no session, or comes second and finds the session to revoke.
const createSessionStatement = {
  name: "create_session",
  text: `
    with account as (
      select id from users where id = $1 and password_hash = $2 and disabled_at is null and updated_at::text = $16 for share
    ), session as (
      insert into sessions (id, user_id, address, user_agent, second_factor, expires_at)
      select $3, id, $4, $5, $6, now() + make_interval(secs => $7) from account returning id, user_id
    ), token as (
      insert into refresh_tokens (hash, session_id) select $8, id from session
    ), event as (
      insert into outbox (${outboxColumns}) select $9, $10, $11, $12, $13, $14 from session
    ), audit as (
      insert into audit_entries (actor, action, subject, request_id, details)
      select user_id::text, 'authn_login_success', user_id::text, $15, jsonb_build_object('sessionId', id, 'address', $4::text) from session
    ), ${forgiveClauses("$17", "true")}
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
  event: OutboxTable;
  requestId: string;
  /** Of the attempt that succeeded, which is forgiven whether the session is stored or not. */
  attempt: Buffer[];
};

/** Stores a session with its first refresh token, event and audit entry; false where the account was changed meanwhile. */
export async function createSession(database: AuthDatabase, session: NewSession): Promise<boolean> {
  const { id, userId, passwordHash, version, address, userAgent, secondFactor, maxSeconds, refreshTokenHash, event, requestId, attempt } =
    session;
  const identity = [userId, passwordHash, id, address, userAgent, secondFactor, maxSeconds, refreshTokenHash];
  const rows = await database.query(createSessionStatement, [...identity, ...outboxValues(event), requestId, version, attempt]);
  return rows.length === 1;
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
  failure: { event: OutboxTable; action: string; subject: string; requestId: string; details: Record<string, unknown> },
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
