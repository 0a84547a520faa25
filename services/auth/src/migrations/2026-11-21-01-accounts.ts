/** Accounts, sessions, teams, signing keys, and the tables that every service has. */
import { createAuditTables } from "@pm/kit/audit/audit";
import { createOutboxTable } from "@pm/kit/kafka/outbox";
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  await createOutboxTable(db, "auth");
  await createAuditTables(db, "auth");

  // An account without a password belongs to an invited user who has not accepted yet. Accounts are disabled and never
  // deleted, because the audit trail names them.
  await sql`
    create table users (
      id uuid primary key default uuidv7(),
      email citext not null constraint users_email_unique unique,
      name text not null,
      roles text[] not null constraint users_have_roles check (cardinality(roles) > 0),
      password_hash text,
      disabled_at timestamptz,
      created_at timestamptz not null default now(),
      updated_at timestamptz not null default now()
    )`.execute(db);
  await sql`create index users_by_age on users (created_at, id)`.execute(db);
  await sql`create index users_by_text on users using gin ((email::text || ' ' || name) gin_trgm_ops)`.execute(db);

  await sql`
    create table teams (
      id uuid primary key default uuidv7(),
      name citext not null constraint teams_name_unique unique,
      created_at timestamptz not null default now()
    )`.execute(db);
  await sql`
    create table team_members (
      team_id uuid not null references teams on delete cascade,
      user_id uuid not null references users,
      added_at timestamptz not null default now(),
      primary key (user_id, team_id)
    )`.execute(db);
  await sql`create index team_members_by_team on team_members (team_id)`.execute(db);

  // `address` and `user_agent` are for the list in which users recognise their own sessions.
  await sql`
    create table sessions (
      id uuid primary key,
      user_id uuid not null references users,
      address text not null,
      user_agent text not null,
      second_factor boolean not null default false,
      created_at timestamptz not null default now(),
      last_used_at timestamptz not null default now(),
      expires_at timestamptz not null,
      revoked_at timestamptz,
      revoked_because text
    )`.execute(db);
  await sql`create index sessions_by_user on sessions (user_id) where revoked_at is null`.execute(db);
  await sql`create index sessions_by_revocation on sessions (revoked_at) where revoked_at is not null`.execute(db);
  await sql`create index sessions_by_expiry on sessions (expires_at)`.execute(db);

  // Only the hash of a refresh token is stored. A used token stays, so that a second use reveals a theft.
  // `sealed_answer` is the response that it was exchanged for, encrypted with a key derived from the token.
  await sql`
    create table refresh_tokens (
      hash bytea primary key,
      session_id uuid not null references sessions on delete cascade,
      created_at timestamptz not null default now(),
      used_at timestamptz,
      sealed_answer bytea
    )`.execute(db);
  await sql`create index refresh_tokens_by_session on refresh_tokens (session_id)`.execute(db);

  await sql`
    create table signing_keys (
      kid text primary key,
      public_jwk jsonb not null,
      sealed_private_jwk bytea not null,
      active_from timestamptz not null,
      created_at timestamptz not null default now()
    )`.execute(db);

  await sql`grant select, insert, update on users to auth`.execute(db);
  await sql`grant select, insert, update, delete on teams, team_members, sessions, refresh_tokens to auth`.execute(db);
  await sql`grant select, insert, delete on signing_keys to auth`.execute(db);
}
