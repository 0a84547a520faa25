/** API clients: programs that act without a person (RFC 6749, client credentials). */
import { type Kysely, sql } from "kysely";

export async function up(db: Kysely<unknown>): Promise<void> {
  // A client proves itself by a secret of 256 random bits, of which the hash needs no salt, or by its public keys.
  // `session_id` is the `sid` of all its tokens: a new one makes every earlier token void.
  await sql`
    create table api_clients (
      id uuid primary key default uuidv7(),
      name citext not null constraint api_clients_name_unique unique,
      scopes text[] not null constraint api_clients_have_scopes check (cardinality(scopes) > 0),
      team_id uuid constraint api_clients_team references teams on delete set null,
      secret_hash bytea,
      jwks jsonb,
      session_id uuid not null default gen_random_uuid(),
      disabled_at timestamptz,
      last_used_at timestamptz,
      created_at timestamptz not null default now(),
      updated_at timestamptz not null default now(),
      constraint api_clients_have_one_proof check (num_nonnulls(secret_hash, jwks) = 1)
    )`.execute(db);
  await sql`create index api_clients_by_team on api_clients (team_id) where team_id is not null`.execute(db);

  // Assertions that were used (RFC 7523). None is accepted twice.
  await sql`
    create table client_assertions (
      client_id uuid not null references api_clients on delete cascade,
      jti_hash bytea not null,
      expires_at timestamptz not null,
      primary key (client_id, jti_hash)
    )`.execute(db);
  await sql`create index client_assertions_by_expiry on client_assertions (expires_at)`.execute(db);

  // Earlier values of `session_id`. They outlive their client, because its tokens do.
  await sql`
    create table ended_client_sessions (
      id uuid primary key,
      ended_at timestamptz not null default now()
    )`.execute(db);
  await sql`create index ended_client_sessions_by_end on ended_client_sessions (ended_at)`.execute(db);

  await sql`grant select, insert, update, delete on api_clients, client_assertions, ended_client_sessions to auth`.execute(db);
}
